"""CenterNet decoding: heatmap and point heads -> boxes, scores, classes.

Stage: decode. Inverse: targets/centernet.py.
Source: Section 3.4 and 3.5. No non-maximum suppression beyond the peaks, no score threshold.
"""

from __future__ import annotations

from collections.abc import Callable

from keras import ops

from centermask_keras.geometry.grid import decode_boxes
from centermask_keras.ops.peaks import find_peaks
from centermask_keras.structures import PointOutputs, Tensor


def decode_centernet(
    heatmap_logits: Tensor, *, stride: int, num_detections: int, read_points: Callable[[Tensor], PointOutputs]
) -> dict[str, Tensor]:
    """Decode the strongest peaks of each image into boxes.

    Args:
        heatmap_logits: float [B, h, w, C]; `B, h, w` may be dynamic.
        stride: input pixels per cell.
        num_detections: K.
        read_points: gives the point heads at cells int32 [B, K], i * w + j; called once.

    Returns:
        boxes: float32 [B, K, 4], xyxy, input pixels, not clipped to the input.
        scores: float32 [B, K] in [0, 1], falling.
        classes: int32 [B, K].
        valid: bool [B, K], True for peaks with a score and a box of positive width and height.
        cells: int32 [B, K].
        local_shape_logits: as `read_points` gives it, if it does.
    """
    scores, classes, cells = find_peaks(heatmap_logits, num_detections)
    points = read_points(cells)
    size = ops.cast(points["size"], "float32")
    grid_width = ops.shape(heatmap_logits)[2]
    decoded = {
        "boxes": decode_boxes(cells, points["offset"], size, grid_width=grid_width, stride=stride),
        "scores": scores,
        "classes": classes,
        "valid": (scores > 0) & ops.all(size > 0, axis=-1),
        "cells": cells,
    }
    if "local_shape_logits" in points:  # a saliency-only model has none
        decoded["local_shape_logits"] = points["local_shape_logits"]
    return decoded
