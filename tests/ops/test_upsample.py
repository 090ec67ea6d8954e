"""Bilinear upsampling equals Keras' resize where that works, and works at sizes unknown until the graph runs."""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from centermask_keras.ops.upsample import BilinearUpsample


@pytest.mark.parametrize("jit_compile", [False, True], ids=["plain", "xla"])
@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("hw", [(3, 5), (1, 1), (1, 4)])
def test_values_and_gradients_equal_a_bilinear_resize(hw, factor, jit_compile):
    features = tf.random.normal((2, *hw, 3))
    size = (hw[0] * factor, hw[1] * factor)
    weights = tf.random.normal((2, *size, 3))
    layer = BilinearUpsample(factor)

    def differentiate(features, upsample):
        with tf.GradientTape() as tape:
            tape.watch(features)
            outputs = upsample(features)
            total = tf.reduce_sum(outputs * weights)
        return outputs, tape.gradient(total, features)

    dynamic = tf.function(
        lambda x: differentiate(x, layer), input_signature=[tf.TensorSpec([None] * 3 + [3])], jit_compile=jit_compile
    )
    expected = differentiate(features, lambda x: ops.image.resize(x, size, interpolation="bilinear"))
    for one, other in zip(dynamic(features), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert layer.compute_output_shape((None, None, 4, 3)) == (None, None, 4 * factor, 3)
