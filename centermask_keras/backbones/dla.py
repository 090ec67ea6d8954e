"""Deep layer aggregation: DLA-34 with iterative upsampling to stride 4, and a small variant for a CPU.

Stage: backbones.
Source: Yu et al. 2018, "Deep Layer Aggregation" (arXiv 1707.06484), with the upsampling of Zhou et al. 2019,
"Objects as Points" (arXiv 1904.07850). A layer's name is its key in the released checkpoints with `_` for `.`.
Deviations: the outer projections of two-level trees, whose output the release never uses, are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from keras import layers, ops

from centermask_keras.backbones.conv_norm import conv_norm, norm_relu
from centermask_keras.ops.deform_conv import DeformableConv2D
from centermask_keras.structures import Tensor


@dataclass(frozen=True)
class DlaStructure:
    """Sizes of a DLA network."""

    stem: tuple[tuple[int, int, int], ...]
    """Kernel, channels and stride of the convolutions that lead to stride 2."""
    channels: tuple[int, ...]
    """Channels of the trees of stride 4, 8, ..."""
    depths: tuple[int, ...]
    """Depth of these trees."""


DLA34 = DlaStructure(stem=((7, 16, 1), (3, 16, 1), (3, 32, 2)), channels=(64, 128, 256, 512), depths=(1, 2, 2, 1))
DLA_HALF = DlaStructure(stem=((7, 16, 2), (3, 16, 1)), channels=(32, 64, 128, 256), depths=(1, 2, 2, 1))
DLA_SMALL = DlaStructure(stem=((7, 16, 2), (3, 16, 1)), channels=(32, 64, 128), depths=(1, 1, 1))
STEM_NAMES = ("base_base_layer", "base_level0", "base_level1")


def build_dla34(*, deformable: bool, name: str = "dla34") -> keras.Model:
    """Build DLA-34 with upsampling to stride 4.

    Args:
        deformable: deformable convolutions in the upsampling part, as released; otherwise plain 3x3 convolutions.
        name: name of the model.

    Returns:
        Model from normalised images float [B, H, W, 3], H and W multiples of 32, to {"P2": [B, H/4, W/4, 64]} in the
        compute dtype.
    """
    return _build_dla(DLA34, deformable, name)


def build_dla_small(*, deformable: bool, name: str = "dla_small") -> keras.Model:
    """Build a small DLA that trains in minutes on a CPU: the blocks of `build_dla34`, fewer channels, strides up to 16.

    Args:
        deformable: deformable convolutions in the upsampling part, otherwise plain 3x3 convolutions.
        name: name of the model.

    Returns:
        Model from normalised images float [B, H, W, 3], H and W multiples of 16, to {"P2": [B, H/4, W/4, 32]} in the
        compute dtype.
    """
    return _build_dla(DLA_SMALL, deformable, name)


def build_dla_half(*, deformable: bool, name: str = "dla_half") -> keras.Model:
    """Build DLA-34 at half of its width, with a stem of stride 2 that spares the full resolution.

    Args:
        deformable: deformable convolutions in the upsampling part, otherwise plain 3x3 convolutions.
        name: name of the model.

    Returns:
        Model from normalised images float [B, H, W, 3], H and W multiples of 32, to {"P2": [B, H/4, W/4, 32]} in the
        compute dtype.
    """
    return _build_dla(DLA_HALF, deformable, name)


def _build_dla(structure: DlaStructure, deformable: bool, name: str) -> keras.Model:
    images = keras.Input((None, None, 3), name="image")
    levels = _encode(images, structure)
    merged = [levels[-1]]
    for index in range(len(levels) - 1):
        finer = len(levels) - 2 - index
        levels[finer:] = _merge(levels[finer:], deformable, f"dla_up_ida_{index}", [2] * (index + 1))
        merged.insert(0, levels[-1])
    merged = merged[:-1]
    features = _merge(merged, deformable, "ida_up", [2**index for index in range(1, len(merged))])[-1]
    return keras.Model(images, {"P2": features}, name=name)


def _encode(images: Tensor, structure: DlaStructure) -> list[Tensor]:
    """Run stem and trees: one feature map for each of the strides 4, 8, ..."""
    x = images
    for (kernel, filters, stride), name in zip(structure.stem, STEM_NAMES, strict=False):
        x = conv_norm(x, filters, name, kernel=kernel, stride=stride)
    levels = []
    for level, (filters, depth) in enumerate(zip(structure.channels, structure.depths, strict=True), start=2):
        children = (_pool(x),) if levels else ()  # every root but the first also sees the level before
        x = _tree(x, filters, f"base_level{level}", depth=depth, stride=2, children=children)
        levels.append(x)
    return levels


def _tree(x: Tensor, filters: int, name: str, *, depth: int, stride: int, children: tuple[Tensor, ...]) -> Tensor:
    """Aggregate 2^depth residual blocks; the last root also sees `children`, the maps of earlier siblings."""
    if depth > 1:
        first = _tree(x, filters, f"{name}_tree1", depth=depth - 1, stride=stride, children=())
        return _tree(first, filters, f"{name}_tree2", depth=depth - 1, stride=1, children=(*children, first))
    shortcut = _pool(x) if stride == 2 else x
    if shortcut.shape[-1] != filters:
        shortcut = conv_norm(shortcut, filters, f"{name}_project", kernel=1, relu=False)
    first = _block(x, shortcut, filters, f"{name}_tree1", stride=stride)
    second = _block(first, first, filters, f"{name}_tree2", stride=1)
    joined = layers.Concatenate()([second, first, *children])
    return conv_norm(joined, filters, f"{name}_root", kernel=1, keys=("conv", "bn"))


def _block(x: Tensor, shortcut: Tensor, filters: int, name: str, *, stride: int) -> Tensor:
    """Apply two 3x3 convolutions and add the shortcut."""
    x = conv_norm(x, filters, name, stride=stride, keys=("conv1", "bn1"))
    x = conv_norm(x, filters, name, keys=("conv2", "bn2"), relu=False)
    return layers.ReLU()(layers.Add()([x, shortcut]))


def _merge(maps: list[Tensor], deformable: bool, name: str, factors: list[int]) -> list[Tensor]:
    """Bring all maps to stride and channels of the first, each added to the one before (iterative aggregation)."""
    filters = maps[0].shape[-1]
    merged = [maps[0]]
    for index, (x, factor) in enumerate(zip(maps[1:], factors, strict=True), start=1):
        x = _up_conv(x, filters, deformable, f"{name}_proj_{index}")
        x = BilinearUpsampling(factor, name=f"{name}_up_{index}")(x)
        merged.append(_up_conv(layers.Add()([x, merged[-1]]), filters, deformable, f"{name}_node_{index}"))
    return merged


def _up_conv(x: Tensor, filters: int, deformable: bool, name: str) -> Tensor:
    """Apply a 3x3 convolution, deformable or plain, with batch normalisation and ReLU."""
    if not deformable:
        return conv_norm(x, filters, name, keys=("conv", "actf_0"))
    x = DeformableConv2D(filters, name=f"{name}_conv")(x)
    return norm_relu(x, f"{name}_actf_0")


def _pool(x: Tensor) -> Tensor:
    return layers.MaxPooling2D(2)(x)


def bilinear_kernel(size: int) -> np.ndarray:
    """Return the float32 [size, size] kernel of a transposed convolution that upsamples by size / 2, bilinearly."""
    distance = np.abs(np.arange(size) + 0.5 - size / 2) / (size / 2)
    return np.outer(1 - distance, 1 - distance).astype("float32")


class BilinearUpsampling(layers.Layer):
    """Upsample each channel by its own learned kernel, which starts as bilinear interpolation.

    The transposed convolution with kernel 2f, stride f and padding f / 2 of each channel, written as a depthwise 3x3
    convolution with f * f outputs per channel, one for each place inside a cell, followed by their interleaving.

    Args:
        factor: even upsampling factor f.

    Call arguments:
        features: float [B, h, w, C].

    Returns:
        compute dtype [B, h * factor, w * factor, C].
    """

    def __init__(self, factor: int, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, input_shape: tuple) -> None:
        size = 2 * self.factor
        self.kernel = self.add_weight(
            name="kernel",
            shape=(size, size, input_shape[-1]),
            initializer=lambda shape, dtype: ops.cast(
                ops.tile(bilinear_kernel(size)[..., None], (1, 1, shape[-1])), dtype
            ),
        )

    def call(self, features: Tensor) -> Tensor:
        batch, height, width, channels = ops.shape(features)
        factor = self.factor
        half = factor // 2
        # Row f * m + a of the padded kernel carries the cell 1 - m rows below to row a of the upsampled cell.
        padded = ops.pad(ops.convert_to_tensor(self.kernel), ((half, half), (half, half), (0, 0)))
        phases = ops.reshape(padded, (3, factor, 3, factor, channels))
        phases = ops.flip(ops.flip(phases, axis=0), axis=2)  # TFLite reverses no two axes that are apart at once
        phases = ops.reshape(ops.transpose(phases, (0, 2, 4, 1, 3)), (3, 3, channels, factor**2))
        x = ops.depthwise_conv(features, phases, padding="same")  # [B, h, w, C * f * f]
        x = ops.reshape(x, (batch, height, width, channels, factor, factor))
        x = ops.transpose(x, (0, 1, 4, 2, 5, 3))  # [B, h, f, w, f, C]
        return ops.reshape(x, (batch, height * factor, width * factor, channels))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        batch, height, width, channels = input_shape
        return (batch, *(side and side * self.factor for side in (height, width)), channels)
