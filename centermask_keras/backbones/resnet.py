"""ResNet and ResNeXt: residual networks with bottleneck blocks, plain or with deformable convolutions.

Stage: backbones; the feature pyramid of fpn.py stands on it.
Source: He et al. 2016, "Deep Residual Learning" (arXiv 1512.03385), and Xie et al. 2017, "Aggregated Residual
Transformations" (arXiv 1611.05431), in the form of torchvision, whose weights fit: the stride is in the 3x3
convolution. A layer's name is its key there with `_` for `.`.
Deviations: the last normalisation of a block starts at 0, so that a fresh network is a chain of shortcuts (Goyal et al.
2017, arXiv 1706.02677), whether its normalisation is frozen or not.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
from keras import layers

from centermask_keras.ops.batch_norm import FusedBatchNormalization
from centermask_keras.ops.deform_conv import DeformableConv2D
from centermask_keras.ops.grouped_conv import GroupedConv2D
from centermask_keras.structures import Tensor


@dataclass(frozen=True)
class ResnetStructure:
    """Sizes of a residual network."""

    depths: tuple[int, int, int, int]
    """Blocks of the stages of stride 4, 8, 16 and 32."""
    deformable_from: int
    """The first stage (3: stride 8) whose 3x3 convolutions are deformable, if any are."""
    planes: int = 64
    """Channels of the stem; the output of the first stage has 4 times as many, and each later one doubles that."""
    groups: int = 1
    """Groups of the 3x3 convolutions."""
    group_width: int = 64
    """Channels of a group in the first stage, for 64 planes."""


RESNETS = {
    "resnet_small": ResnetStructure((2, 2, 2, 2), deformable_from=3, planes=32),
    "resnet50": ResnetStructure((3, 4, 6, 3), deformable_from=3),
    "resnet101": ResnetStructure((3, 4, 23, 3), deformable_from=3),
    "resnext101_32x8d": ResnetStructure((3, 4, 23, 3), deformable_from=4, groups=32, group_width=8),
    "resnext101_64x4d": ResnetStructure((3, 4, 23, 3), deformable_from=4, groups=64, group_width=4),
}
EXPANSION = 4
"""Channels that leave a block for each of its planes."""


def build_resnet(name: str, *, deformable: bool, frozen_norm: bool) -> keras.Model:
    """Build a residual network without its classifier.

    Args:
        name: a key of `RESNETS`, and the name of the model.
        deformable: deformable 3x3 convolutions (DCNv2) in the stages c3 to c5 of ResNet, c4 and c5 of ResNeXt.
        frozen_norm: normalise by the statistics in the weights, and train neither them nor scale and shift.

    Returns:
        Model from normalised images float [B, H, W, 3] to {"C2", "C3", "C4", "C5"}, Cn of stride 2^n: compute dtype
        [B, ceil(H / 2^n), ceil(W / 2^n), planes * 2^n].
    """
    structure = RESNETS[name]
    images = keras.Input((None, None, 3), name="image")
    x = _conv(images, structure.planes, "conv1", kernel=7, stride=2)
    x = layers.ReLU()(_norm(x, "bn1", frozen_norm))
    # Zeros around a ReLU are as good as the -inf of torchvision's padding.
    x = layers.MaxPooling2D(3, strides=2)(layers.ZeroPadding2D(1)(x))
    outputs = {}
    for stage, depth in enumerate(structure.depths, start=2):
        for index in range(depth):
            x = _block(
                x,
                structure,
                f"layer{stage - 1}_{index}",
                planes=structure.planes * 2 ** (stage - 2),
                stride=2 if index == 0 and stage > 2 else 1,
                deformable=deformable and stage >= structure.deformable_from,
                frozen_norm=frozen_norm,
            )
        outputs[f"C{stage}"] = x
    return keras.Model(images, outputs, name=name)


def _block(
    x: Tensor,
    structure: ResnetStructure,
    name: str,
    *,
    planes: int,
    stride: int,
    deformable: bool,
    frozen_norm: bool,
) -> Tensor:
    """Narrow, convolve 3x3, widen, add the shortcut."""
    width = planes * structure.group_width // 64 * structure.groups
    shortcut = x
    if x.shape[-1] != planes * EXPANSION:
        shortcut = _conv(x, planes * EXPANSION, f"{name}_downsample_0", kernel=1, stride=stride)
        shortcut = _norm(shortcut, f"{name}_downsample_1", frozen_norm)
    x = _conv(x, width, f"{name}_conv1", kernel=1)
    x = layers.ReLU()(_norm(x, f"{name}_bn1", frozen_norm))
    if deformable:
        x = DeformableConv2D(width, strides=stride, groups=structure.groups, use_bias=False, name=f"{name}_conv2")(x)
    else:
        x = _conv(x, width, f"{name}_conv2", kernel=3, stride=stride, groups=structure.groups)
    x = layers.ReLU()(_norm(x, f"{name}_bn2", frozen_norm))
    x = _conv(x, planes * EXPANSION, f"{name}_conv3", kernel=1)
    x = _norm(x, f"{name}_bn3", frozen_norm, initial_scale="zeros")
    return layers.ReLU()(layers.Add()([x, shortcut]))


def _conv(x: Tensor, filters: int, name: str, *, kernel: int, stride: int = 1, groups: int = 1) -> Tensor:
    """Apply a convolution without bias, padded evenly on all sides."""
    if kernel > 1:
        x = layers.ZeroPadding2D(kernel // 2)(x)
    return GroupedConv2D(
        filters,
        kernel,
        strides=stride,
        groups=groups,
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        name=name,
    )(x)


def _norm(x: Tensor, name: str, frozen: bool, initial_scale: str = "ones") -> Tensor:
    return FusedBatchNormalization(
        momentum=0.9, epsilon=1e-5, gamma_initializer=initial_scale, trainable=not frozen, name=name
    )(x)
