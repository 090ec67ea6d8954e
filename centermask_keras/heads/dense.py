"""Dense heads: one value per cell and channel, for the heatmap and the saliency.

Stage: heads. Counterpart at single cells: heads/points.py.
Source: Figure 3; layers and initial values as in the CenterNet release.
"""

from __future__ import annotations

import keras

from centermask_keras.structures import Tensor


def make_head_initializer() -> keras.initializers.Initializer:
    """Draw uniformly from +-1/sqrt(fan in), as in the release: outputs start near the bias of the last layer."""
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


def build_dense_head(features: Tensor, *, mid_channels: int, out_channels: int, bias: float, name: str) -> Tensor:
    """Apply a 3x3 convolution, ReLU and a 1x1 convolution.

    The last layer runs in float32 whatever the policy: its outputs are logits.

    Args:
        features: symbolic float [B, h, w, F].
        mid_channels: channels between the two convolutions.
        out_channels: channels of the output.
        bias: initial value of all biases of the last layer.
        name: the layers are called `<name>_0` and `<name>_2`.

    Returns:
        Symbolic float32 [B, h, w, out_channels], logits.
    """
    hidden = keras.layers.Conv2D(
        mid_channels, 3, padding="same", activation="relu", kernel_initializer=make_head_initializer(), name=f"{name}_0"
    )(features)
    return keras.layers.Conv2D(
        out_channels,
        1,
        kernel_initializer=make_head_initializer(),
        bias_initializer=keras.initializers.Constant(bias),
        dtype="float32",
        name=f"{name}_2",
    )(hidden)
