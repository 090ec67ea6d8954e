"""MobileNetV3 of Keras with a light way up to stride 4, for devices: every operation is a TFLite builtin.

Stage: backbones.
Source: Howard et al. 2019, "Searching for MobileNetV3" (arXiv 1905.02244); the trunk is `keras.applications`. The way
up is our own: 1x1 projections, upsampling by 2 (nearest) and depthwise separable convolutions.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import layers

from centermask_keras.backbones.conv_norm import norm, norm_relu
from centermask_keras.structures import Tensor

CHANNELS = 64
"""Channels of the way up and of the features."""
LEVELS = {
    "small": ("expanded_conv_project_bn", "expanded_conv_2_add", "expanded_conv_7_add", "expanded_conv_10_add"),
    "large": ("expanded_conv_2_add", "expanded_conv_5_add", "expanded_conv_11_add", "expanded_conv_14_add"),
}
"""The last layers of stride 4, 8, 16 and 32 in the trunk."""


def build_mobilenet_v3_small(name: str = "mobilenet_v3_small") -> keras.Model:
    """Build MobileNetV3-Small with upsampling to stride 4.

    Args:
        name: name of the model.

    Returns:
        Model from normalised images float [B, H, W, 3], H and W multiples of 32, to {"P2": [B, H/4, W/4, 64]} in the
        compute dtype.
    """
    return _build_mobile(keras.applications.MobileNetV3Small, LEVELS["small"], name)


def build_mobilenet_v3_large(name: str = "mobilenet_v3_large") -> keras.Model:
    """Build MobileNetV3-Large with upsampling to stride 4.

    Args:
        name: name of the model.

    Returns:
        Model from normalised images float [B, H, W, 3], H and W multiples of 32, to {"P2": [B, H/4, W/4, 64]} in the
        compute dtype.
    """
    return _build_mobile(keras.applications.MobileNetV3Large, LEVELS["large"], name)


def _build_mobile(build_trunk: Callable[..., keras.Model], levels: tuple[str, ...], name: str) -> keras.Model:
    images = keras.Input((None, None, 3), name="image")
    # The detector normalises; the trunk's own rescaling from 0..255 would do it twice.
    trunk = build_trunk(input_tensor=images, include_top=False, weights=None, include_preprocessing=False)
    for layer in trunk.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.9  # as in the other backbones: 0.999 is made for the length of ImageNet trainings
    finer, *coarser = (trunk.get_layer(level).output for level in levels)
    x = _project(coarser[-1], "up_5")
    for stride, level in zip((4, 3, 2), (coarser[1], coarser[0], finer), strict=True):
        x = layers.UpSampling2D(2, interpolation="nearest", name=f"up_{stride}_upsampling")(x)
        x = layers.Add(name=f"up_{stride}_add")([x, _project(level, f"up_{stride}")])
        x = _separable(x, f"up_{stride}_merge")
    return keras.Model(images, {"P2": x}, name=name)


def _project(x: Tensor, name: str) -> Tensor:
    """Bring a level to the channels of the way up."""
    x = layers.Conv2D(CHANNELS, 1, use_bias=False, name=f"{name}_project")(x)
    return norm(x, f"{name}_project_bn")


def _separable(x: Tensor, name: str) -> Tensor:
    """Apply a depthwise 3x3 and a 1x1 convolution, each with normalisation and ReLU."""
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
    x = norm_relu(x, f"{name}_depthwise_bn")
    x = layers.Conv2D(CHANNELS, 1, use_bias=False, name=f"{name}_pointwise")(x)
    return norm_relu(x, f"{name}_pointwise_bn")
