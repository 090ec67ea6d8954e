"""Ellipses, rotated boxes and masks -> polygons or RLE, as COCO json can hold them."""

from __future__ import annotations

import math

import numpy as np

from centermask_keras.masks import RLE, SizeHW, encode_crop

ELLIPSE_ERROR = 0.05
"""Pixels: how far an ellipse's polygon lies inside of it at most."""
FEWEST_VERTICES = 16


def ellipse(x: float, y: float, x_radius: float, y_radius: float, degrees: float = 0.0) -> list[float]:
    """Return the polygon of an ellipse, x, y, x, y ..., within `ELLIPSE_ERROR` of it.

    Args:
        x, y: its centre in pixels.
        x_radius, y_radius: before the rotation.
        degrees: clockwise, as y points down.
    """
    largest = max(abs(x_radius), abs(y_radius), ELLIPSE_ERROR)
    count = max(FEWEST_VERTICES, math.ceil(math.pi / math.acos(1 - ELLIPSE_ERROR / largest)))
    angle = np.arange(count) * (2 * math.pi / count)
    return _turn(np.stack([x_radius * np.cos(angle), y_radius * np.sin(angle)], axis=1), degrees, (x, y))


def rotated_box(x: float, y: float, width: float, height: float, degrees: float, pivot: str) -> list[float]:
    """Return the corners of a box that was turned clockwise, x, y, x, y ...

    Args:
        x, y, width, height: before the rotation.
        degrees: clockwise, as y points down.
        pivot: "center" or "corner" (left, top), what stays in place.
    """
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    if pivot == "center":
        return _turn(corners - [width / 2, height / 2], degrees, (x + width / 2, y + height / 2))
    return _turn(corners, degrees, (x, y))


def encode_inside(bitmap: np.ndarray, left: int, top: int, hw: SizeHW) -> RLE:
    """Encode a mask given by a crop of it that may reach beyond the image: what lies outside is cut off."""
    first_x, first_y = max(0, -left), max(0, -top)
    inside = bitmap[first_y : max(0, hw[0] - top), first_x : max(0, hw[1] - left)]
    if not inside.size:
        return encode_crop(np.zeros((0, 0), bool), (0, 0), hw)
    return encode_crop(inside.astype(bool), (top + first_y, left + first_x), hw)


def encode_ids(ids: np.ndarray) -> dict[int, RLE]:
    """Encode each value but 0 of an integer image [H, W] as a mask: value -> RLE, rising."""
    places = np.flatnonzero(ids)
    if not len(places):
        return {}
    values = ids.reshape(-1)[places]
    order = np.argsort(values, kind="stable")
    found, starts = np.unique(values[order], return_index=True)
    rles = {}
    for value, chosen in zip(found.tolist(), np.split(places[order], starts[1:]), strict=True):
        rows, columns = np.divmod(chosen, ids.shape[1])
        top, left = int(rows.min()), int(columns.min())
        crop = np.zeros((int(rows.max()) - top + 1, int(columns.max()) - left + 1), bool)
        crop[rows - top, columns - left] = True
        rles[value] = encode_crop(crop, (top, left), ids.shape)
    return rles


def _turn(points: np.ndarray, degrees: float, center: tuple[float, float]) -> list[float]:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = points.T
    turned = np.stack([cosine * x - sine * y, sine * x + cosine * y], axis=1) + center
    return turned.reshape(-1).tolist()
