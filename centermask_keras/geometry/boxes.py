"""Boxes as arrays: the two formats, clipping.

Stage: geometry. Inside, boxes are continuous `xyxy`; `xywh` exists only at the COCO border.
"""

from __future__ import annotations

import numpy as np


def xywh_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """Turn boxes [..., 4] (x, y, width, height) into (x0, y0, x1, y1); the inverse of `xyxy_to_xywh`."""
    boxes = np.asarray(boxes)
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def xyxy_to_xywh(boxes: np.ndarray) -> np.ndarray:
    """Turn boxes [..., 4] (x0, y0, x1, y1) into (x, y, width, height); the inverse of `xywh_to_xyxy`."""
    boxes = np.asarray(boxes)
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def clip_boxes(boxes: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """Clip boxes [..., 4] (xyxy, pixels) to an image of `hw`; a box outside of it becomes one without area."""
    height, width = hw
    boxes = np.asarray(boxes)
    return np.clip(boxes, 0, np.array([width, height, width, height], boxes.dtype))
