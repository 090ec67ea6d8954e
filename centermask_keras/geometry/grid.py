"""Boxes in input pixels and what the network predicts for them on the feature map grid: an inverse pair.

Cell (i, j) of stride R covers the input pixels [j R, (j + 1) R) x [i R, (i + 1) R) and has the flat index i * w + j.
"""

from __future__ import annotations

from keras import ops

from centermask_keras.structures import Tensor


def encode_centers(boxes: Tensor, *, grid_hw: tuple[int, int], stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """Find the cell that holds each box centre, the centre's place in it, and the box size in cells.

    Args:
        boxes: float [B, N, 4], xyxy, input pixels. Padded rows may hold any finite number.
        grid_hw: height and width of the feature map, cells.
        stride: input pixels per cell.

    Returns:
        cells: int32 [B, N], i * w + j, always inside of the grid.
        offset: float32 [B, N, 2], (x, y) in cells from the cell's corner to the centre; in [0, 1) inside of the grid.
        size: float32 [B, N, 2], (w, h) in cells.

    Source: Eq. 4 (p / R - floor(p / R)), Section 3.4.
    """
    height, width = grid_hw
    boxes = ops.cast(boxes, "float32") / stride
    top_left, bottom_right = boxes[..., :2], boxes[..., 2:]
    center = (top_left + bottom_right) / 2  # [B, N, 2]
    # Clipped as float: what a cast makes of a number beyond int32 differs between devices.
    j = ops.clip(ops.floor(center[..., 0]), 0, width - 1)
    i = ops.clip(ops.floor(center[..., 1]), 0, height - 1)
    cells = ops.cast(i, "int32") * width + ops.cast(j, "int32")
    return cells, center - ops.stack([j, i], axis=-1), bottom_right - top_left


def decode_boxes(cells: Tensor, offset: Tensor, size: Tensor, *, grid_width: int | Tensor, stride: int) -> Tensor:
    """Turn cells, offsets and sizes back into boxes; the inverse of `encode_centers`.

    Args:
        cells: int32 [B, K], i * w + j.
        offset: float [B, K, 2], (x, y) in cells from the cell's corner to the centre.
        size: float [B, K, 2], (w, h) in cells.
        grid_width: width of the feature map in cells; may be a scalar tensor.
        stride: input pixels per cell.

    Returns:
        float32 [B, K, 4], xyxy, input pixels, not clipped to the input.
    """
    corner = ops.stack([cells % grid_width, cells // grid_width], axis=-1)  # [B, K, 2], (j, i)
    center = ops.cast(corner, "float32") + ops.cast(offset, "float32")
    half = ops.cast(size, "float32") / 2
    return ops.concatenate([center - half, center + half], axis=-1) * stride
