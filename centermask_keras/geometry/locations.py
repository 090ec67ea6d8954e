"""The locations of a feature pyramid: the centres of the cells of all levels, one list.

Level n of a pyramid has stride 2^n and as many cells as its stride needs to cover the input (rounded up). Locations are
numbered level by level, finest first, rows first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from keras import ops

from centermask_keras.structures import Tensor

STRIDES = (8, 16, 32, 64, 128)
"""Input pixels per cell of the levels P3 to P7."""


def flatten_levels(levels: Sequence[Tensor]) -> Tensor:
    """Put the cells of all levels, each [B, h, w, F], one after the other: [B, T, F], dtype of the levels."""
    channels = levels[0].shape[-1]
    batch = ops.shape(levels[0])[0]
    return ops.concatenate([ops.reshape(level, (batch, -1, channels)) for level in levels], axis=1)


def make_locations(levels_hw: Sequence[tuple]) -> tuple[Tensor, Tensor]:
    """Return the place of every location and the index of its level.

    Args:
        levels_hw: height and width of each level, in cells, numbers or scalar tensors.

    Returns:
        centers: float32 [T, 2], (x, y) in input pixels.
        level: int32 [T], into `STRIDES`.
    """
    centers, indices = [], []
    for index, ((height, width), stride) in enumerate(zip(levels_hw, STRIDES, strict=True)):
        y = (ops.arange(height, dtype="float32") + 0.5) * stride
        x = (ops.arange(width, dtype="float32") + 0.5) * stride
        grid = ops.stack([ops.broadcast_to(x[None, :], (height, width)), ops.broadcast_to(y[:, None], (height, width))])
        centers.append(ops.transpose(ops.reshape(grid, (2, -1))))
        indices.append(ops.full((height * width,), index, dtype="int32"))
    return ops.concatenate(centers), ops.concatenate(indices)


def strides_of(level: Tensor) -> Tensor:
    """Return the strides float32 of levels int32, of any shape."""
    return ops.take(np.array(STRIDES, "float32"), level, axis=0)


def encode_distances(boxes: Tensor, centers: Tensor) -> Tensor:
    """Return how far the sides of boxes are from points, inverse of `decode_distances`.

    Args:
        boxes: float [..., 4], xyxy, input pixels.
        centers: float [..., 2], (x, y), input pixels.

    Returns:
        float [..., 4], left, top, right, bottom; negative beyond a point outside of its box.
    """
    return ops.concatenate([centers - boxes[..., :2], boxes[..., 2:] - centers], axis=-1)


def decode_distances(distances: Tensor, centers: Tensor) -> Tensor:
    """Return the boxes float [..., 4], xyxy, whose sides have distances float [..., 4] (l, t, r, b) from points."""
    return ops.concatenate([centers - distances[..., :2], centers + distances[..., 2:]], axis=-1)
