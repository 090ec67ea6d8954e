"""CenterNet training targets: ground truth -> heatmap, cells, offset, size.

Stage: targets (training only). Inverse: decode/centernet.py.
Source: Zhou et al. 2019, "Objects as Points" (arXiv 1904.07850), Section 3 and Eq. 1, which the paper follows.
Deviations: the radius of the Gaussians follows the released code, not the exact roots (see `gaussian_radius`).
"""

from __future__ import annotations

import math

from keras import ops

from centermask_keras.geometry.grid import encode_centers
from centermask_keras.structures import Targets, Tensor

MIN_OVERLAP = 0.7
"""A box with both corners within the radius should still overlap the true box by this IoU (CenterNet)."""


def encode_centernet(
    boxes: Tensor, classes: Tensor, valid: Tensor, *, grid_hw: tuple[int, int], stride: int, num_classes: int
) -> Targets:
    """Encode the objects of a batch as heatmap and regression targets.

    Args:
        boxes: float [B, N, 4], xyxy, input pixels, clipped to the input. Padded rows may hold any finite number.
        classes: int32 [B, N], in [0, C). Padded rows may hold any integer.
        valid: bool [B, N], False for padded rows.
        grid_hw: height and width of the feature map, cells.
        stride: input pixels per cell.
        num_classes: C.

    Returns:
        `Targets`; cells, offset and size are 0 where not valid.
    """
    # Zeroed first, so that nothing a padded row holds can reach the targets.
    boxes = ops.where(valid[..., None], ops.cast(boxes, "float32"), 0.0)
    classes = ops.where(valid, ops.cast(classes, "int32"), 0)
    cells, offset, size = encode_centers(boxes, grid_hw=grid_hw, stride=stride)
    radius = gaussian_radius(size[..., 1], size[..., 0])  # [B, N]
    return {
        "heatmap": _draw_gaussians(cells, classes, radius, valid, grid_hw=grid_hw, num_classes=num_classes),
        "cells": cells,
        "offset": ops.where(valid[..., None], offset, 0.0),
        "size": size,
        "valid": valid,
    }


def gaussian_radius(height: Tensor, width: Tensor) -> Tensor:
    """Return how far the Gaussian of a box reaches, in whole cells.

    Args:
        height: float [...], box height in cells, at least 0.
        width: float [...], box width in cells, at least 0.

    Returns:
        float32 [...], whole numbers, at least 0.

    Source: CenterNet's released code, which takes the smallest of three "roots" (b + sqrt(b^2 - 4ac)) / 2.
    Deviations: of those, the third (both corners outside of the true box) is always the smallest and is the only one
        computed. It is 2.8 times the root that the derivation means; published figures rest on it.
    """
    height, width = ops.ceil(ops.cast(height, "float32")), ops.ceil(ops.cast(width, "float32"))
    a = 4 * MIN_OVERLAP
    minus_b = 2 * MIN_OVERLAP * (height + width)
    minus_c = (1 - MIN_OVERLAP) * height * width
    # (b + sqrt(b^2 - 4ac)) / 2 rewritten without its cancellation, which float32 could not afford.
    denominator = minus_b + ops.sqrt(minus_b * minus_b + 4 * a * minus_c)
    root = 2 * a * minus_c / ops.where(denominator > 0, denominator, 1.0)  # an empty box gives 0 / 1
    # Some roots are whole numbers (14 for 42 x 65 cells) and must not be rounded below them; no other root comes as
    # close from below on grids of up to 400 cells.
    return ops.floor(root + 2e-5)


def _draw_gaussians(
    cells: Tensor, classes: Tensor, radius: Tensor, valid: Tensor, *, grid_hw: tuple[int, int], num_classes: int
) -> Tensor:
    """Draw one Gaussian per valid object into its class channel; where several meet, the highest counts.

    Every object gets a window wide enough for the largest box of the grid, a fraction of a map per object.

    Returns:
        float32 [B, h, w, C] in [0, 1], exactly 1 at the objects' cells.
    """
    height, width = grid_hw
    reach = _largest_radius(height, width)
    steps = ops.arange(-reach, reach + 1, dtype="int32")  # [2 * reach + 1]
    y = (cells // width)[..., None] + steps  # [B, N, window]
    x = (cells % width)[..., None] + steps
    sigma = (2 * radius + 1) / 6
    profile = ops.exp(-0.5 * ops.square(ops.cast(steps, "float32") / sigma[..., None]))
    profile = ops.where(ops.abs(ops.cast(steps, "float32")) <= radius[..., None], profile, 0.0)
    column = ops.where((y >= 0) & (y < height) & valid[..., None], profile, 0.0)
    row = ops.where((x >= 0) & (x < width), profile, 0.0)
    values = column[..., :, None] * row[..., None, :]  # [B, N, window, window]
    # Cells outside of the grid carry 0: any place inside will do for them.
    y, x = ops.clip(y, 0, height - 1), ops.clip(x, 0, width - 1)
    batch = ops.shape(cells)[0]
    image = ops.arange(batch, dtype="int32")[:, None, None, None]
    place = (image * height + y[..., :, None]) * width + x[..., None, :]
    place = place * num_classes + classes[..., None, None]
    count = batch * height * width * num_classes
    heatmap = ops.segment_max(ops.reshape(values, (-1,)), ops.reshape(place, (-1,)), num_segments=count)
    # segment_max gives the lowest float where nothing was drawn.
    return ops.reshape(ops.maximum(heatmap, 0.0), (-1, height, width, num_classes))


def _largest_radius(height: int, width: int) -> int:
    """Return the radius of a box that fills the grid, the largest there is."""
    half_b = MIN_OVERLAP * (height + width)
    root = math.sqrt(half_b**2 + 4 * MIN_OVERLAP * (1 - MIN_OVERLAP) * height * width)
    return math.floor(root - half_b)
