"""Convolutions with a stride are padded on all four sides, as in PyTorch."""

import keras
import numpy as np
import pytest

from centermask_keras.backbones.conv_norm import conv_norm


@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_first_output_sees_the_padding_and_the_first_inputs(kernel, stride):
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, conv_norm(inputs, 1, "layer", kernel=kernel, stride=stride, relu=False))
    model.get_layer("layer_0").set_weights([np.arange(kernel**2, dtype="float32").reshape(kernel, kernel, 1, 1)])
    images = np.random.standard_normal((1, 8, 8, 1)).astype("float32")
    border = kernel // 2
    padded = np.pad(images[0, ..., 0], border)
    weights = np.arange(kernel**2).reshape(kernel, kernel)
    for i, j in [(0, 0), (1, 0), (8 // stride - 1, 8 // stride - 1)]:
        window = padded[i * stride : i * stride + kernel, j * stride : j * stride + kernel]
        # A fresh normalisation divides by sqrt(1 + epsilon) and does nothing else.
        assert float(model(images)[0, i, j, 0]) == pytest.approx((window * weights).sum() / np.sqrt(1 + 1e-5), rel=1e-4)
