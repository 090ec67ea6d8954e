"""Feature pyramid on a residual network: five levels of equal channels, strides 8 to 128.

Stage: backbones.
Source: Lin et al. 2017, "Feature Pyramid Networks" (arXiv 1612.03144), with the coarse levels of FCOS (Tian et al.
2019, arXiv 1904.01355): P6 on P5, P7 on the rectified P6.
"""

from __future__ import annotations

import keras
from keras import layers

from centermask_keras.structures import Tensor

LEVELS = ("P3", "P4", "P5", "P6", "P7")


def build_fpn(backbone: keras.Model, channels: int, name: str = "fpn") -> keras.Model:
    """Build a backbone with its pyramid.

    Args:
        backbone: images to {"C3", "C4", "C5", ...}.
        channels: of every level.
        name: name of the model.

    Returns:
        Model from normalised images float [B, H, W, 3], H and W multiples of 32, to {"P3", ..., "P7"}: compute dtype
        [B, ceil(H / 2^n), ceil(W / 2^n), channels].
    """
    images = keras.Input((None, None, 3), name="image")
    encoded = backbone(images)
    merged = None
    outputs = {}
    for level in (5, 4, 3):
        lateral = _conv(encoded[f"C{level}"], channels, f"fpn_lateral{level}", kernel=1)
        merged = lateral if merged is None else layers.Add()([lateral, layers.UpSampling2D(2)(merged)])
        outputs[f"P{level}"] = _conv(merged, channels, f"fpn_output{level}", kernel=3)
    outputs["P6"] = _conv(outputs["P5"], channels, "top_block_p6", kernel=3, stride=2)
    outputs["P7"] = _conv(layers.ReLU()(outputs["P6"]), channels, "top_block_p7", kernel=3, stride=2)
    return keras.Model(images, {level: outputs[level] for level in LEVELS}, name=name)


def _conv(x: Tensor, channels: int, name: str, *, kernel: int, stride: int = 1) -> Tensor:
    """Apply a convolution with bias, padded evenly on all sides."""
    if kernel > 1:
        x = layers.ZeroPadding2D(kernel // 2)(x)
    initializer = keras.initializers.VarianceScaling(1.0, "fan_in", "uniform")
    return layers.Conv2D(channels, kernel, strides=stride, kernel_initializer=initializer, name=name)(x)
