"""The value is kept to the bit; the derivative is the given one and no other."""

import numpy as np
import pytest
import tensorflow as tf

from centermask_keras.ops.attach_gradient import attach_gradient


@pytest.mark.parametrize("jit_compile", [False, True])
def test_value_and_derivative_are_the_given_ones(jit_compile):
    rng = np.random.default_rng(0)
    inputs, gradient = rng.normal(size=(2, 3, 4, 5)).astype("float32"), rng.normal(size=(3, 4, 5)).astype("float32")
    inputs, value = tf.constant(inputs[0]), tf.constant(1234.5678)

    @tf.function(jit_compile=jit_compile)
    def compiled(inputs, value, gradient):
        with tf.GradientTape() as tape:
            tape.watch((inputs, value, gradient))
            result = 3.0 * attach_gradient(value, inputs, gradient)
        return result, *tape.gradient(result, (inputs, value, gradient), unconnected_gradients="zero")

    result, by_inputs, by_value, by_gradient = compiled(inputs, value, tf.constant(gradient))
    assert float(result) == np.float32(3.0) * np.float32(1234.5678)
    np.testing.assert_allclose(by_inputs, 3 * gradient, rtol=1e-6)
    assert not np.any(by_value) and not np.any(by_gradient)
