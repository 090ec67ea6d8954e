"""The native grouped convolution equals one dense convolution per group, values and gradients, compiled or not."""

import numpy as np
import pytest
import tensorflow as tf

from centermask_keras.ops.grouped_conv import GroupedConv2D

GROUPS, CHANNELS, FILTERS = 4, 8, 12


def convolve_each_group(inputs, kernel, strides):
    parts = zip(tf.split(inputs, GROUPS, axis=-1), tf.split(kernel, GROUPS, axis=-1), strict=True)
    return tf.concat([tf.nn.conv2d(x, k, strides, "VALID") for x, k in parts], axis=-1)


@pytest.mark.parametrize("jit_compile", [False, True], ids=["plain", "xla"])
@pytest.mark.parametrize("strides", [1, 2])
def test_values_and_gradients_equal_a_convolution_per_group(strides, jit_compile):
    layer = GroupedConv2D(FILTERS, 3, strides=strides, groups=GROUPS, use_bias=False)
    inputs = tf.random.normal((2, 9, 11, CHANNELS))
    layer.build(inputs.shape)
    assert layer.kernel.shape == (3, 3, CHANNELS // GROUPS, FILTERS)
    kernel = layer.kernel.value
    weights = tf.random.normal(layer(inputs).shape)

    def differentiate(convolve):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = convolve()
            total = tf.reduce_sum(outputs * weights)
        return outputs, *tape.gradient(total, [inputs, kernel])

    received = tf.function(lambda: differentiate(lambda: layer(inputs)), jit_compile=jit_compile)()
    expected = differentiate(lambda: convolve_each_group(inputs, kernel, strides))
    for one, other in zip(received, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)  # sums of up to 200 products of size 1 in float32
