"""Heads of CenterMask on FCOS: towers shared by all levels of the pyramid, and the global saliency.

Stage: heads. The last block of the local shape is read at points: heads/points.py.
Source: Section 4.3; towers, initial values and group normalisation of Tian et al. 2019, "FCOS" (arXiv 1904.01355).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
from keras import layers, ops

from centermask_keras.heads.dense import build_dense_head
from centermask_keras.ops.upsample import BilinearUpsample
from centermask_keras.structures import Tensor

RARE_PROBABILITY = 0.01
"""What a fresh head says of every class everywhere (focal loss prior)."""
INITIAL_DISTANCE = 1.0
"""Strides from a location to each side of a fresh head's box.

With 0, as in FCOS, rectification leaves half of the sides without a gradient, and small objects may stay without a box.
"""
GROUPS = 32
"""Groups of the normalisation, where they divide the channels."""


def build_tower(channels: int, depth: int, name: str) -> keras.Model:
    """Build a tower: `depth` times 3x3 convolution, group normalisation, ReLU; float [B, h, w, channels] in and out."""
    features = x = keras.Input((None, None, channels), name="features")
    for index in range(depth):
        x = _conv_norm_relu(x, channels, f"{name}_{index}")
    return keras.Model(features, x, name=name)


def build_class_head(channels: int, num_classes: int, depth: int) -> keras.Model:
    """Build the tower of the classes: float [B, h, w, channels] -> logits float32 [B, h, w, num_classes]."""
    features = keras.Input((None, None, channels), name="features")
    x = build_tower(channels, depth, "class_tower")(features)
    bias = -math.log((1 - RARE_PROBABILITY) / RARE_PROBABILITY)
    return keras.Model(features, _predict(x, num_classes, "class_logits", bias=bias), name="class_head")


def build_box_head(channels: int, depth: int) -> keras.Model:
    """Build the tower of boxes and centerness.

    Returns:
        Model from float [B, h, w, channels] to {"distances": float32 [B, h, w, 4], not yet scaled and rectified (see
        `LevelScale`), "centerness_logits": float32 [B, h, w, 1]}.
    """
    features = keras.Input((None, None, channels), name="features")
    x = build_tower(channels, depth, "box_tower")(features)
    outputs = {
        "distances": _predict(x, 4, "distances", bias=INITIAL_DISTANCE),
        "centerness_logits": _predict(x, 1, "centerness_logits"),
    }
    return keras.Model(features, outputs, name="box_head")


def build_saliency(levels: Sequence[Tensor], *, channels: int, out_channels: int, stride: int, bias: float) -> Tensor:
    """Make the one global saliency map from P3, P4 and P5, brought to one size and added.

    Args:
        levels: symbolic float [B, h, w, F], P3 to P5.
        channels: of the map before its head.
        out_channels: classes, or 1.
        stride: of the result, 8 or 4.
        bias: initial logit.

    Returns:
        Symbolic float32 [B, H / stride, W / stride, out_channels], logits.
    """
    merged = []
    for index, level in enumerate(levels):
        x = _conv_norm_relu(level, channels, f"saliency_p{index + 3}")
        merged.append(_upsample(x, 2**index))
    x = layers.Add()(merged)
    if stride == 4:
        x = _upsample(x, 2)
    return build_dense_head(x, mid_channels=channels, out_channels=out_channels, bias=bias, name="saliency")


class LevelScale(layers.Layer):
    """Multiply the distances of one level by a learned number and rectify them: float32, the same shape."""

    def build(self, input_shape: tuple) -> None:
        self.scale = self.add_weight(name="scale", shape=(), initializer="ones")

    def call(self, distances: Tensor) -> Tensor:
        return ops.relu(self.scale * distances)


def _conv_norm_relu(x: Tensor, channels: int, name: str) -> Tensor:
    x = layers.Conv2D(channels, 3, padding="same", kernel_initializer=_initializer(), name=f"{name}_conv")(x)
    # In float32 whatever the policy: the statistics of a whole level are summed.
    groups = math.gcd(GROUPS, channels)
    x = layers.GroupNormalization(groups, epsilon=1e-5, dtype="float32", name=f"{name}_norm")(x)
    return layers.ReLU()(x)


def _predict(x: Tensor, channels: int, name: str, bias: float = 0.0) -> Tensor:
    """Apply the last 3x3 convolution, in float32 whatever the policy."""
    return layers.Conv2D(
        channels,
        3,
        padding="same",
        kernel_initializer=_initializer(),
        bias_initializer=keras.initializers.Constant(bias),
        dtype="float32",
        name=name,
    )(x)


def _upsample(x: Tensor, factor: int) -> Tensor:
    return x if factor == 1 else BilinearUpsample(factor)(x)


def _initializer() -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=0.01)
