"""Read feature maps at given cells, alone or with their 3x3 neighbourhoods.

Stage: kernels; the point heads read object centres with it, the deformable convolution its sampling positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from keras import ops

from centermask_keras.structures import Tensor

NEIGHBOURS = np.array([-1, 0, 1], "int32")


def gather_cells(features: Tensor, cells: Tensor) -> Tensor:
    """Read the feature vectors at the given cells of each image.

    Args:
        features: float [B, h, w, F].
        cells: int32 [B, ...], i * w + j, each in [0, h * w).

    Returns:
        [B, ..., F] in the dtype of the features.
    """
    batch, height, width, channels = ops.shape(features)
    first_rows = ops.arange(batch, dtype="int32") * (height * width)
    first_rows = ops.reshape(first_rows, (-1, *[1] * (len(cells.shape) - 1)))
    return ops.take(ops.reshape(features, (-1, channels)), cells + first_rows, axis=0)


def gather_patches(features: Tensor, cells: Tensor) -> Tensor:
    """Read the 3x3 neighbourhoods of the given cells, with zeros outside of the map.

    A 3x3 kernel applied to a patch gives what a zero-padded 3x3 convolution gives at that cell.

    Args:
        features: float [B, h, w, F].
        cells: int32 [B, K], i * w + j, each in [0, h * w); padded rows may hold any of these.

    Returns:
        [B, K, 3, 3, F] in the dtype of the features; axis 2 runs downwards, axis 3 to the right.
    """
    height, width = ops.shape(features)[1:3]
    nearest, inside = _neighbours(cells, height, width)
    patches = gather_cells(features, nearest)
    return ops.where(inside[..., None], patches, ops.zeros((), patches.dtype))


def gather_level_patches(levels: Sequence[Tensor], locations: Tensor) -> Tensor:
    """Read the 3x3 neighbourhoods of cells on any level of a pyramid, with zeros outside of the cell's own level.

    Args:
        levels: float [B, h, w, F] each, sizes may differ.
        locations: int32 [B, K], cells of all levels numbered one level after the other, rows first.

    Returns:
        [B, K, 3, 3, F] as `gather_patches` gives it for the level of the cell.
    """
    sizes = ops.stack([ops.stack(ops.shape(level)[1:3]) for level in levels], axis=1)  # [2, levels]
    heights, widths = ops.unstack(ops.cast(sizes, "int32"))
    ends = ops.cumsum(heights * widths)
    index = ops.sum(ops.cast(locations[..., None] >= ends, "int32"), axis=-1)  # [B, K]
    start = ops.take(ends - heights * widths, index)
    height, width = (ops.take(sides, index)[:, :, None, None] for sides in (heights, widths))
    nearest, inside = _neighbours(locations - start, height, width)
    batch, channels = ops.shape(levels[0])[0], levels[0].shape[-1]
    flat = ops.concatenate([ops.reshape(level, (batch, -1, channels)) for level in levels], axis=1)  # [B, T, F]
    patches = gather_cells(flat[:, None], nearest + start[:, :, None, None])
    return ops.where(inside[..., None], patches, ops.zeros((), patches.dtype))


def _neighbours(cells: Tensor, height: Tensor | int, width: Tensor | int) -> tuple[Tensor, Tensor]:
    """Return the nearest cells of the map to the 3x3 neighbourhoods of cells, and which of them are inside of it.

    Args:
        cells: int32 [B, K].
        height: of the map, or of the map of each cell: int32 [B, K, 1, 1].
        width: likewise.

    Returns:
        int32 and bool [B, K, 3, 3].
    """
    cells = cells[:, :, None, None]
    rows = ops.floor_divide(cells, width) + NEIGHBOURS[:, None]  # [B, K, 3, 1]
    columns = ops.mod(cells, width) + NEIGHBOURS  # [B, K, 1, 3]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)  # [B, K, 3, 3]
    return ops.clip(rows, 0, height - 1) * width + ops.clip(columns, 0, width - 1), inside
