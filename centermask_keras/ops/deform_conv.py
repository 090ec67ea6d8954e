"""Modulated deformable 3x3 convolution in plain `keras.ops`.

Stage: kernels; used by the backbones.
Source: Zhu et al. 2019, "Deformable ConvNets v2" (arXiv 1811.11168), Eq. 1, with one deformable group; channel order of
the offsets and zero initialisation as in the CenterNet release.
"""

from __future__ import annotations

from functools import partial

import keras
import numpy as np
from keras import ops

from centermask_keras.ops.gather_patches import gather_cells
from centermask_keras.structures import Tensor

TAP_ROWS, TAP_COLUMNS = (shift.reshape(9, 1, 1) for shift in np.mgrid[-1:2, -1:2].astype("float32"))


def deform_conv2d(
    features: Tensor, offsets: Tensor, mask: Tensor, kernel: Tensor, *, strides: int = 1, groups: int = 1
) -> Tensor:
    """Convolve with a 3x3 kernel whose taps are shifted and weighted for every output cell.

    Differentiable in all arguments. Each tap samples the map, is projected and added, and is computed anew for its
    gradient: the nine samples of a cell are never in memory together, in neither direction.

    Args:
        features: float [B, h, w, C].
        offsets: float32 [B, h', w', 18] in cells; channels 2k and 2k + 1 move tap k (rows first) by (dy, dx).
        mask: float32 [B, h', w', 9], the weight of each tap.
        kernel: [3, 3, C / groups, F] in the dtype of the features.
        strides: output cell (i, j) stands at cell (i * strides, j * strides) of the features.
        groups: output channels see only the input channels of their own group.

    Returns:
        float32 [B, h', w', F].
    """
    cells, shares = _locate_corners(offsets, mask, ops.shape(features)[1:3], strides)
    kernels = ops.unstack(ops.reshape(kernel, (9, *kernel.shape[2:])))
    total = 0.0
    for tap_cells, tap_shares, tap_kernel in zip(
        ops.unstack(cells, 9, axis=1), ops.unstack(shares, 9, axis=1), kernels, strict=True
    ):
        convolve_tap = keras.remat(partial(_convolve_tap, tap_cells, groups))
        total = total + ops.cast(convolve_tap(features, tap_shares, tap_kernel), "float32")
    return total


def _convolve_tap(cells: Tensor, groups: int, features: Tensor, shares: Tensor, kernel: Tensor) -> Tensor:
    """Add up shares float32 [B, 4, h, w] of the features at cells int32 [B, 4, h, w] and project them."""
    # Read as float32, so that the gradients of all that read one cell add up in float32, too.
    corners = gather_cells(ops.cast(features, "float32"), cells)  # [B, 4, h, w, C]
    samples = ops.cast(ops.sum(corners * shares[..., None], axis=1), features.dtype)
    return ops.matmul(samples, kernel) if groups == 1 else _project_groups(samples, kernel, groups)


def _project_groups(samples: Tensor, kernel: Tensor, groups: int) -> Tensor:
    """Multiply samples [B, h, w, C] with a kernel [C / groups, F], each group with its own columns."""
    batch, height, width, channels = ops.shape(samples)
    rows = ops.reshape(samples, (-1, groups, channels // groups))
    kernels = ops.reshape(kernel, (channels // groups, groups, -1))
    products = ops.matmul(ops.transpose(rows, (1, 0, 2)), ops.transpose(kernels, (1, 0, 2)))  # [groups, B * h * w, F/g]
    return ops.reshape(ops.transpose(products, (1, 0, 2)), (batch, height, width, kernel.shape[-1]))


def _locate_corners(offsets: Tensor, mask: Tensor, map_hw: tuple, strides: int) -> tuple[Tensor, Tensor]:
    """Return the four cells around each sampling position and their bilinear shares times the mask.

    Returns:
        int32 and float32 [B, 9, 4, h', w']; cells outside of the map have share 0.
    """
    batch, height, width = ops.shape(mask)[:3]
    shifts = ops.transpose(ops.reshape(offsets, (batch, height, width, 9, 2)), (4, 0, 3, 1, 2))  # [2, B, 9, h, w]
    y = shifts[0] + TAP_ROWS + strides * ops.arange(height, dtype="float32")[:, None]
    x = shifts[1] + TAP_COLUMNS + strides * ops.arange(width, dtype="float32")
    rows, row_shares = _split_linearly(y, map_hw[0])
    columns, column_shares = _split_linearly(x, map_hw[1])
    cells = rows[:, :, :, None] * map_hw[1] + columns[:, :, None]  # [B, 9, 2, 2, h', w']
    shares = row_shares[:, :, :, None] * column_shares[:, :, None]
    shares = shares * ops.transpose(mask, (0, 3, 1, 2))[:, :, None, None]
    corners = (batch, 9, 4, height, width)
    return ops.reshape(cells, corners), ops.reshape(shares, corners)


def _split_linearly(positions: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the indices before and after positions [B, 9, h, w] on an axis, and their shares: [B, 9, 2, h, w]."""
    # One cell beyond the border nothing of the map is left to see; farther away, int32 could overflow.
    positions = ops.clip(positions, -1.0, ops.cast(size, "float32"))
    before = ops.floor(positions)
    share_after = positions - before
    before = ops.cast(before, "int32")
    indices = ops.stack([before, before + 1], axis=2)
    inside = ops.cast((indices >= 0) & (indices < size), "float32")
    shares = ops.stack([1.0 - share_after, share_after], axis=2) * inside
    return ops.clip(indices, 0, size - 1), shares


class DeformableConv2D(keras.layers.Layer):
    """Deformable 3x3 convolution (DCNv2), padded evenly.

    Offsets and masks come from a convolution of the input. That inner convolution starts at zero: no shift, and a mask
    of sigmoid(0) = 0.5. It runs in float32 whatever the policy: bfloat16 would round an offset of 8 cells to 1/16 cell.

    Args:
        filters: number of output channels.
        strides: cells of the input per cell of the output.
        groups: groups of channels of the main convolution; offsets and masks are shared by all of them.
        use_bias: add a bias.

    Call arguments:
        features: float [B, h, w, C].

    Returns:
        compute dtype [B, ceil(h / strides), ceil(w / strides), filters].
    """

    def __init__(self, filters: int, *, strides: int = 1, groups: int = 1, use_bias: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.strides = strides
        self.groups = groups
        self.use_bias = use_bias
        # "same" would pad right and below only where it strides.
        self.conv_offset_mask = keras.layers.Conv2D(
            27,
            3,
            strides=strides,
            padding="same" if strides == 1 else "valid",
            kernel_initializer="zeros",
            dtype="float32",
            name="conv_offset_mask",
        )

    def build(self, input_shape: tuple) -> None:
        self.conv_offset_mask.build(input_shape)
        fan_in = input_shape[-1] // self.groups
        self.kernel = self.add_weight(name="kernel", shape=(3, 3, fan_in, self.filters), initializer="he_normal")
        zeros = {"shape": (self.filters,), "initializer": "zeros"}
        self.bias = self.add_weight(name="bias", **zeros) if self.use_bias else None

    def call(self, features: Tensor) -> Tensor:
        padded = features
        if self.strides > 1:
            padded = ops.pad(features, ((0, 0), (1, 1), (1, 1), (0, 0)))
        offsets_mask = self.conv_offset_mask(padded)
        offsets, mask = offsets_mask[..., :18], ops.sigmoid(offsets_mask[..., 18:])
        kernel = ops.convert_to_tensor(self.kernel)  # cast to the compute dtype, and no variable inside `remat`
        outputs = deform_conv2d(features, offsets, mask, kernel, strides=self.strides, groups=self.groups)
        outputs = ops.cast(outputs, self.compute_dtype)
        return outputs + self.bias if self.use_bias else outputs

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        batch, height, width, _ = input_shape
        return (batch, *(side and -(-side // self.strides) for side in (height, width)), self.filters)
