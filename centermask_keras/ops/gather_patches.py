"""Read feature maps at given cells, alone or with their 3x3 neighbourhoods.

Stage: kernels; the point heads read object centres with it, the deformable convolution its sampling positions.
"""

from __future__ import annotations

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
    rows = ops.floor_divide(cells, width)[:, :, None, None] + NEIGHBOURS[:, None]  # [B, K, 3, 1]
    columns = ops.mod(cells, width)[:, :, None, None] + NEIGHBOURS  # [B, K, 1, 3]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)  # [B, K, 3, 3]
    nearest = ops.clip(rows, 0, height - 1) * width + ops.clip(columns, 0, width - 1)
    patches = gather_cells(features, nearest)
    return ops.where(inside[..., None], patches, ops.zeros((), patches.dtype))
