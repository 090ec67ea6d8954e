"""Stacked hourglass networks: Hourglass-104 with two stacks, and a reduced one of the same code.

Stage: backbones.
Source: Newell et al. 2016 (arXiv 1603.06937), in the form of Law and Deng 2018, "CornerNet" (arXiv 1808.01244), and of
the release of Zhou et al. 2019, "Objects as Points" (arXiv 1904.07850). A layer's name is its key in the released
checkpoints with `_` for `.`.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
from keras import layers

from centermask_keras.backbones.conv_norm import conv_norm
from centermask_keras.structures import Tensor


@dataclass(frozen=True)
class HourglassStructure:
    """Sizes of a stacked hourglass network.

    Attributes:
        channels: of the maps of stride 4, 8, 16, ...
        blocks: residual blocks in each of the chains at these strides; the last number is that of the innermost chain.
        stem: channels after the first convolution.
        stacks: hourglasses behind one another.
    """

    channels: tuple[int, ...]
    blocks: tuple[int, ...]
    stem: int
    stacks: int = 2


HOURGLASS104 = HourglassStructure(channels=(256, 256, 384, 384, 384, 512), blocks=(2, 2, 2, 2, 2, 4), stem=128)
HOURGLASS_SMALL = HourglassStructure(channels=(64, 64, 96, 96, 128), blocks=(1, 1, 1, 1, 2), stem=32)


def build_hourglass104(name: str = "hourglass104") -> keras.Model:
    """Build Hourglass-104.

    Args:
        name: name of the model.

    Returns:
        Model from normalised images float [B, H, W, 3], H and W multiples of 128, to the features of both stacks in the
        compute dtype: {"P2": [B, H/4, W/4, 256] of the last, "intermediate": [those of the first]}.
    """
    return _build_hourglass(HOURGLASS104, name)


def build_hourglass_small(name: str = "hourglass_small") -> keras.Model:
    """Build a reduced hourglass network for small data on a CPU: a quarter of the width, one level less.

    Args:
        name: name of the model.

    Returns:
        Model from normalised images float [B, H, W, 3], H and W multiples of 64, to the features of both stacks in the
        compute dtype: {"P2": [B, H/4, W/4, 64] of the last, "intermediate": [those of the first]}.
    """
    return _build_hourglass(HOURGLASS_SMALL, name)


def _build_hourglass(structure: HourglassStructure, name: str) -> keras.Model:
    filters = structure.channels[0]
    images = keras.Input((None, None, 3), name="image")
    x = conv_norm(images, structure.stem, "pre_0", kernel=7, stride=2, keys=("conv", "bn"))
    x = _residual(x, filters, "pre_1", stride=2)
    features = []
    for stack in range(structure.stacks):
        if stack:
            x = _connect(x, features[-1], stack - 1)
        y = _hourglass(x, structure.channels, structure.blocks, f"kps_{stack}")
        features.append(conv_norm(y, filters, f"cnvs_{stack}", keys=("conv", "bn")))
    return keras.Model(images, {"P2": features[-1], "intermediate": features[:-1]}, name=name)


def _connect(x: Tensor, features: Tensor, stack: int) -> Tensor:
    """Join input and features of a stack to the input of the next one."""
    filters = x.shape[-1]
    before = conv_norm(x, filters, f"inters__{stack}", kernel=1, relu=False)
    after = conv_norm(features, filters, f"cnvs__{stack}", kernel=1, relu=False)
    return _residual(layers.ReLU()(layers.Add()([before, after])), filters, f"inters_{stack}")


def _hourglass(x: Tensor, channels: tuple[int, ...], blocks: tuple[int, ...], name: str) -> Tensor:
    """Go down to half of the size, through the smaller hourglass inside and back; add what stayed at full size."""
    outer, inner = channels[:2]
    beside = _chain(x, [outer] * blocks[0], f"{name}_up1")
    low = _chain(x, [inner] * blocks[0], f"{name}_low1", stride=2)
    if len(channels) > 2:
        low = _hourglass(low, channels[1:], blocks[1:], f"{name}_low2")
    else:
        low = _chain(low, [inner] * blocks[1], f"{name}_low2")
    low = _chain(low, [inner] * (blocks[0] - 1) + [outer], f"{name}_low3")
    return layers.Add()([beside, layers.UpSampling2D(2, interpolation="nearest")(low)])


def _chain(x: Tensor, widths: list[int], name: str, *, stride: int = 1) -> Tensor:
    """Apply residual blocks one after another; the first has the stride."""
    for index, filters in enumerate(widths):
        x = _residual(x, filters, f"{name}_{index}", stride=1 if index else stride)
    return x


def _residual(x: Tensor, filters: int, name: str, *, stride: int = 1) -> Tensor:
    """Apply two 3x3 convolutions and add the input, projected where size or channels change."""
    y = conv_norm(x, filters, name, stride=stride, keys=("conv1", "bn1"))
    y = conv_norm(y, filters, name, keys=("conv2", "bn2"), relu=False)
    if stride > 1 or x.shape[-1] != filters:
        x = conv_norm(x, filters, f"{name}_skip", kernel=1, stride=stride, relu=False)
    return layers.ReLU()(layers.Add()([y, x]))
