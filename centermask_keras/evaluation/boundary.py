"""The inner boundaries of masks, and the overlaps of the boundary measure.

Stage: evaluation. A mask is decoded and eroded inside of its own box only, which is exact: beyond it there is nothing.
Source: Cheng et al. 2021, "Boundary IoU" (arXiv 2103.16562), Section 4: the pixels of a mask within a distance d of its
contour, d = 2% of the image's diagonal; the overlap is the smaller one of those of masks and of boundaries (Section 5).
Distance and rounding as in the authors' release, where overlaps with crowd regions are those of the masks.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from centermask_keras._cv2 import cv2
from centermask_keras.data.files.segmentations import rle_runs
from centermask_keras.masks import RLE, encode_crop

DILATION_RATIO = 0.02
"""Width of a boundary, as a part of the image's diagonal."""
LEAST_OVERLAP = 0.5
"""The measure looks for overlaps of at least this: where the masks overlap less, their boundaries do not matter."""

Pair = tuple[int, int]
"""Image id, category id."""


def boundary_overlaps(
    objects: list[dict[str, Any]], detections: list[dict[str, Any]], *, limit: int
) -> dict[Pair, np.ndarray]:
    """Compare the masks of each image and class, as the COCO measure does, with their boundaries taken into account.

    Args:
        objects: rows of `ScoringTruth` (evaluation/scoring_inputs.py).
        detections: rows of results in the same form, with `score`.
        limit: detections that count, of one image and class.

    Returns:
        float64 [detections, objects] of each image and class that has both: detections by falling score (equal ones in
        their order), objects in their order.
    """
    objects_of, detections_of = _group(objects), _group(detections)
    overlaps = {}
    for pair in objects_of.keys() & detections_of.keys():
        found = sorted(detections_of[pair], key=lambda row: -row["score"])[:limit]
        rles = [[row["segmentation"] for row in rows] for rows in (found, objects_of[pair])]
        crowd = [row["iscrowd"] for row in objects_of[pair]]
        overlaps[pair] = _bound_by_boundaries(coco_mask.iou(*rles, crowd), *rles, np.array(crowd, bool))
    return overlaps


def _bound_by_boundaries(ious: np.ndarray, found: list[RLE], true: list[RLE], crowd: np.ndarray) -> np.ndarray:
    """Lower the overlaps [detections, objects] to those of the boundaries where that can change a match."""
    close = (ious >= LEAST_OVERLAP) & ~crowd
    rows, columns = (np.flatnonzero(close.any(axis=axis)) for axis in (1, 0))
    if len(rows):
        boundaries = [boundary_rle(found[row]) for row in rows], [boundary_rle(true[column]) for column in columns]
        part = np.ix_(rows, columns)
        ious[part] = np.minimum(ious[part], coco_mask.iou(*boundaries, [0] * len(columns)))
    return ious


def _group(rows: list[dict[str, Any]]) -> dict[Pair, list[dict[str, Any]]]:
    groups: dict[Pair, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["image_id"], row["category_id"]), []).append(row)
    return groups


def boundary_rle(rle: RLE) -> RLE:
    """Return the part of a mask that is within d pixels of its contour.

    The border of the image is contour as well. Distances are those of a king on a chessboard.

    Args:
        rle: compressed, sound (see data/files/segmentations.py: `rle_pixels`).
    """
    hw = tuple(rle["size"])
    crop, top_left = _decode_box(rle)
    if crop.size == 0:
        return rle
    width = 2 * boundary_width(hw) + 1
    padded = cv2.copyMakeBorder(crop, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    inner = cv2.erode(padded, np.ones((width, width), np.uint8))[1:-1, 1:-1]
    return encode_crop((crop - inner).astype(bool), top_left, hw)


def boundary_width(hw: tuple[int, int]) -> int:
    """Return d: 2% of the diagonal of an image, in whole pixels (a half goes to the even one), at least 1."""
    return max(1, round(DILATION_RATIO * math.hypot(*hw)))


def _decode_box(rle: RLE) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode a mask inside of its box: uint8 [bh, bw] of 0 and 1, and the (y, x) of its first pixel."""
    height = rle["size"][0]
    left, top, box_width, box_height = (int(side) for side in coco_mask.toBbox(rle))
    runs, _ = rle_runs([rle["counts"]])
    first, last = left * height, (left + box_width) * height
    lengths = np.diff(np.clip(np.cumsum(runs), first, last), prepend=first)
    columns = np.repeat(np.arange(len(runs), dtype=np.uint8) % 2, lengths).reshape(box_width, height)
    return np.ascontiguousarray(columns[:, top : top + box_height].T), (top, left)
