"""The fused batch normalisation gives what Keras' composed one gives: outputs, gradients, moving statistics."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from centermask_keras.ops.batch_norm import FusedBatchNormalization

SHAPE = (3, 5, 7, 6)
PIXELS = 3 * 5 * 7


def layers_with_equal_weights(policy):
    rng = np.random.default_rng(0)
    weights = [rng.uniform(0.5, 2.0, SHAPE[-1]).astype("float32") for _ in range(4)]
    layers = []
    for kind in (FusedBatchNormalization, keras.layers.BatchNormalization):
        layer = kind(momentum=0.9, epsilon=1e-5, dtype=policy)
        layer.build(SHAPE)
        layer.set_weights(weights)
        layers.append(layer)
    return layers


def inputs_and_upstream(dtype="float32"):
    rng = np.random.default_rng(1)
    inputs = rng.normal(3.0, [[[[0.1, 1, 2, 5, 10, 0.01]]]], SHAPE).astype("float32")
    return tf.cast(inputs, dtype), tf.cast(rng.normal(size=SHAPE), dtype)


def run(layer, inputs, upstream, training):
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs, training=training)
        loss = tf.reduce_sum(tf.cast(outputs * upstream, "float32"))
    return outputs, tape.gradient(loss, [inputs, *layer.trainable_variables])


@pytest.mark.parametrize("training", [True, False])
def test_outputs_and_gradients_equal_the_composed_operations(training):
    inputs, upstream = inputs_and_upstream()
    results = [run(layer, inputs, upstream, training) for layer in layers_with_equal_weights("float32")]
    for found, expected in zip(tf.nest.flatten(results[0]), tf.nest.flatten(results[1]), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


def test_moving_statistics_follow_the_batch_with_the_unbiased_variance():
    fused, composed = layers_with_equal_weights("float32")
    before = np.asarray(composed.moving_variance)
    inputs, _ = inputs_and_upstream()
    fused(inputs, training=True), composed(inputs, training=True)
    np.testing.assert_allclose(fused.moving_mean, composed.moving_mean, rtol=1e-5)
    step = np.asarray(composed.moving_variance) - 0.9 * before
    np.testing.assert_allclose(fused.moving_variance, 0.9 * before + step * PIXELS / (PIXELS - 1), rtol=1e-4)


def test_inference_and_frozen_layers_leave_the_statistics_alone():
    fused, _ = layers_with_equal_weights("float32")
    before = fused.get_weights()
    inputs, _ = inputs_and_upstream()
    fused(inputs, training=False)
    fused.trainable = False
    fused(inputs, training=True)
    for value, kept in zip(fused.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, kept)


def test_bfloat16_comes_in_and_goes_out_while_statistics_are_float32():
    fused, composed = layers_with_equal_weights("mixed_bfloat16")
    inputs, _ = inputs_and_upstream("bfloat16")
    outputs, expected = fused(inputs, training=True), composed(inputs, training=True)
    assert outputs.dtype == tf.bfloat16 and {weight.dtype for weight in fused.weights} == {"float32"}
    np.testing.assert_allclose(tf.cast(outputs, "float32"), tf.cast(expected, "float32"), atol=0.05)  # a bfloat16 step
    np.testing.assert_allclose(fused.moving_mean, composed.moving_mean, rtol=1e-3)
