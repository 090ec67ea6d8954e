"""Convolution, batch normalisation and ReLU as the CenterNet release has them: the bricks of DLA and Hourglass.

Stage: backbones.
Source: released code of Zhou et al. 2019, "Objects as Points" (arXiv 1904.07850): no bias before a normalisation,
padding on all four sides also with a stride, momentum and epsilon of PyTorch.
"""

from __future__ import annotations

import keras
from keras import layers

from centermask_keras.ops.batch_norm import FusedBatchNormalization
from centermask_keras.structures import Tensor


def conv_norm(
    x: Tensor,
    filters: int,
    name: str,
    *,
    kernel: int = 3,
    stride: int = 1,
    keys: tuple[str, str] = ("0", "1"),
    relu: bool = True,
) -> Tensor:
    """Apply a convolution without bias and batch normalisation, called `<name>_<key>`, and a ReLU.

    Args:
        x: symbolic float [B, h, w, F].
        filters: channels of the output.
        name: first part of the layers' names.
        kernel: side of the kernel, odd.
        stride: 1, or 2 for half of the size.
        keys: last parts of the layers' names.
        relu: whether a ReLU follows.

    Returns:
        Symbolic compute dtype [B, h / stride, w / stride, filters].
    """
    if stride > 1 and kernel > 1:
        x = layers.ZeroPadding2D(kernel // 2)(x)  # "same" pads right and below only; the release pads evenly
    x = layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="valid" if stride > 1 else "same",
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        name=f"{name}_{keys[0]}",
    )(x)
    return norm_relu(x, f"{name}_{keys[1]}") if relu else norm(x, f"{name}_{keys[1]}")


def norm(x: Tensor, name: str) -> Tensor:
    """Normalise over batch and cells."""
    return FusedBatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)


def norm_relu(x: Tensor, name: str) -> Tensor:
    """Normalise over batch and cells, and apply a ReLU."""
    return layers.ReLU()(norm(x, name))
