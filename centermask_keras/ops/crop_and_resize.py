"""Bilinear resampling of maps to a fixed grid, as two matrix products per box.

Half-pixel convention: element i of a map has its centre at i + 0.5, and cell k of M samples at
start + (k + 0.5) (end - start) / M. Samples beyond the outer centres repeat the edge. The product form has the right
gradient on every device, compiles under XLA and exports as plain matrix products.
"""

from __future__ import annotations

from keras import ops

from centermask_keras.structures import Tensor


def crop_and_resize(maps: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Resample the part of each map inside of its box to a grid of size x size cells.

    Args:
        maps: float [B, n, h, w], one map per box, or [B, 1, h, w], one map for all boxes of an image.
        boxes: float [B, n, 4], xyxy, map elements: the map covers [0, w] x [0, h]. May reach beyond the map. Rows that
            are not finite give results that are not finite, and leave the other rows alone.
        size: cells per side of the result (M).

    Returns:
        float32 [B, n, M, M], interpolated at the centres of the M x M cells of each box.

    Source: Section 3.4 (the map is cropped with the object's location and size).
    """
    maps, boxes = ops.cast(maps, "float32"), ops.cast(boxes, "float32")
    height, width = ops.shape(maps)[2:]
    x1, y1, x2, y2 = (boxes[..., edge, None] for edge in range(4))  # [B, n, 1]
    y = _sample_positions(y1, y2, height, size)  # [B, n, M]
    x = _sample_positions(x1, x2, width, size)
    row_weights = _hat(y[..., :, None] - _indices(height))  # [B, n, M, h]
    column_weights = _hat(x[..., None, :] - _indices(width)[:, None])  # [B, n, w, M]
    rows = ops.matmul(row_weights, maps)  # [B, n, M, w]
    return ops.matmul(rows, column_weights)


def select_channels(maps: Tensor, channels: Tensor) -> Tensor:
    """Pick one channel of a shared map per object.

    Args:
        maps: float [B, h, w, C]. It is gathered in its own dtype.
        channels: int32 [B, n], in [0, C).

    Returns:
        [B, n, h, w], dtype of `maps`.
    """
    batch, height, width, count = ops.shape(maps)
    planes = ops.reshape(ops.transpose(maps, (0, 3, 1, 2)), (-1, height, width))  # [B * C, h, w]
    # Gathering whole contiguous planes; along the last axis it would pick single numbers.
    return ops.take(planes, channels + count * ops.arange(batch, dtype="int32")[:, None], axis=0)


def resize_square(maps: Tensor, size: int) -> Tensor:
    """Resize square maps to size x size cells (bilinear, half-pixel, no smoothing where it shrinks).

    Args:
        maps: float [B, n, S, S].
        size: cells per side of the result (M).

    Returns:
        float32 [B, n, M, M].

    Source: Section 3.1 (the S x S shape is resized to the object's box).
    """
    side = maps.shape[-1]
    weights = _hat(_sample_positions(0.0, float(side), side, size)[:, None] - _indices(side))  # [M, S]
    rows = ops.matmul(weights, ops.cast(maps, "float32"))  # [B, n, M, S]
    return ops.matmul(rows, ops.transpose(weights))


def _sample_positions(start: Tensor | float, end: Tensor | float, length: int | Tensor, size: int) -> Tensor:
    """Place the samples of intervals [..., 1] (or one) on a map of `length` elements: float32 [..., size], indices."""
    fractions = (ops.arange(size, dtype="float32") + 0.5) / size
    positions = start + fractions * (end - start) - 0.5
    return ops.minimum(ops.maximum(positions, 0.0), ops.cast(length - 1, "float32"))


def _indices(length: int | Tensor) -> Tensor:
    return ops.cast(ops.arange(length), "float32")


def _hat(distance: Tensor) -> Tensor:
    """Return the share of an element in a sample at this distance: 1 at 0, falling to 0 at 1."""
    return ops.relu(1.0 - ops.abs(distance))
