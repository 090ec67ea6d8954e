"""The transform between original and input pixels: four numbers that travel with every sample.

Stage: geometry. A transform is float64 [4], (sx, sy, tx, ty): x' = sx * x + tx and y' = sy * y + ty take continuous
original coordinates to continuous input coordinates. A mirrored image has a negative sx or sy.
"""

from __future__ import annotations

import numpy as np

IDENTITY = np.array([1.0, 1.0, 0.0, 0.0])
"""Leaves coordinates as they are."""


def apply_to_points(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Move points.

    Args:
        transform: float [..., 4]; leading axes broadcast with those of `points`.
        points: float [..., 2], (x, y), pixels.

    Returns:
        float64 [..., 2].
    """
    transform = np.asarray(transform, np.float64)
    return np.asarray(points, np.float64) * transform[..., :2] + transform[..., 2:]


def apply_to_boxes(transform: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Move boxes; left stays left of right when the transform mirrors.

    Args:
        transform: float [4].
        boxes: float [..., 4], xyxy, pixels.

    Returns:
        float64 [..., 4], xyxy.
    """
    boxes = np.asarray(boxes, np.float64)
    first = apply_to_points(transform, boxes[..., :2])
    second = apply_to_points(transform, boxes[..., 2:])
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=-1)


def invert(transform: np.ndarray) -> np.ndarray:
    """Return the transform (float64 [..., 4]) that undoes one with non-zero scales."""
    transform = np.asarray(transform, np.float64)
    scale = 1.0 / transform[..., :2]
    return np.concatenate([scale, -transform[..., 2:] * scale], axis=-1)


def compose(first: np.ndarray, then: np.ndarray) -> np.ndarray:
    """Return the transform (float64 [..., 4]) that does `first`, then `then`; leading axes broadcast."""
    first, then = np.asarray(first, np.float64), np.asarray(then, np.float64)
    return np.concatenate([first[..., :2] * then[..., :2], apply_to_points(then, first[..., 2:])], axis=-1)


def to_matrix(transform: np.ndarray) -> np.ndarray:
    """Return the matrix (float64 [2, 3]) for OpenCV, where the centre of pixel i has the coordinate i, not i + 0.5."""
    sx, sy, tx, ty = np.asarray(transform, np.float64)
    return np.array([[sx, 0.0, tx + 0.5 * sx - 0.5], [0.0, sy, ty + 0.5 * sy - 0.5]])
