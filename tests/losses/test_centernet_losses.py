"""Heatmap and point losses: float64 accuracy in value and gradient, and ordinary without objects."""

import naive
import numpy as np
import pytest
import tensorflow as tf

from centermask_keras.losses.centernet import heatmap_loss, point_l1_loss

EXTREME = np.array([-1e4, -300, -104, -88, -50, -17, -5, -0.7, -1e-3, 0, 1e-3, 0.7, 5, 17, 50, 88, 104, 300, 1e4])
TARGETS = np.array([0.0, 0.3, 0.99, 1.0])


def value_and_gradient(function, variable, *, jit_compile):
    @tf.function(jit_compile=jit_compile)
    def compiled(variable):
        with tf.GradientTape() as tape:
            tape.watch(variable)
            value = function(variable)
        return value, tape.gradient(value, variable)

    return [result.numpy() for result in compiled(tf.convert_to_tensor(variable))]


@pytest.mark.parametrize("jit_compile", [False, True])
def test_heatmap_loss_of_extreme_logits_equals_float64(jit_compile):
    logits, target = (grid.astype("float32") for grid in np.meshgrid(EXTREME, TARGETS))

    def elementwise(logits):  # N = 1, and one element at a time, so that a large value hides no error
        elements = [tf.reshape(x, (-1, 1, 1, 1, 1)) for x in (logits, target)]
        return tf.map_fn(lambda x: heatmap_loss(*x, False, 1.0), tuple(elements), fn_output_signature=tf.float32)

    # The gradient of the list of values is that of their sum: each logit moves one of them.
    value, gradient = value_and_gradient(elementwise, logits, jit_compile=jit_compile)
    target = target.astype("float64")
    expected = naive.heatmap_loss(logits, target, 1.0)
    # float32 has no finer steps than 1e-5 beyond 128; there, the last digit.
    np.testing.assert_allclose(value.reshape(expected.shape), expected, atol=1e-5, rtol=1e-6)
    slope = naive.derivative(lambda x: naive.heatmap_loss(x, target, 1.0), logits)
    np.testing.assert_allclose(gradient, slope, atol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_heatmap_loss_sums_over_everything_and_divides_by_the_objects(jit_compile):
    rng = np.random.default_rng(0)
    logits = rng.normal(-2, 3, (2, 6, 5, 3)).astype("float32")
    target = np.where(rng.random(logits.shape) < 0.1, 1, rng.random(logits.shape) * 0.9).astype("float32")
    ignored = rng.random((2, 6, 5, 1)) < 0.3
    value, gradient = value_and_gradient(
        lambda x: heatmap_loss(x, target, ignored, 7.0), logits, jit_compile=jit_compile
    )
    exact = target.astype("float64")
    np.testing.assert_allclose(value, naive.heatmap_loss(logits, exact, 1.0 - ignored).sum() / 7, rtol=1e-6)
    slope = naive.derivative(lambda x: naive.heatmap_loss(x, exact, 1.0 - ignored), logits) / 7
    np.testing.assert_allclose(gradient, slope, atol=1e-6)


def test_ignored_regions_silence_negatives_only():
    logits = np.full((1, 1, 2, 1), 1.5, "float32")
    target = np.array([1.0, 0.2], "float32").reshape(1, 1, 2, 1)
    ignored = heatmap_loss(logits, target, np.ones_like(target, bool), 1.0)
    np.testing.assert_allclose(ignored, naive.heatmap_loss(1.5, 1.0, 0.0), rtol=1e-6)


def test_the_target_weighs_the_negatives_not_the_prediction():
    # The misprint of Eq. 3 would give the same loss for both targets.
    logits = np.zeros((1, 1, 1, 1), "float32")
    near, far = (float(heatmap_loss(logits, np.full_like(logits, y), False, 1.0)) for y in (0.5, 0.0))
    assert near == pytest.approx(far * 0.5**4)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_heatmap_loss_without_objects_is_finite(jit_compile):
    logits = np.full((2, 4, 4, 3), -2.19, "float32")
    value, gradient = value_and_gradient(
        lambda x: heatmap_loss(x, np.zeros_like(logits), False, 1.0), logits, jit_compile=jit_compile
    )
    np.testing.assert_allclose(value, naive.heatmap_loss(logits, 0.0, 1.0).sum(), rtol=1e-5)
    assert np.all(np.isfinite(gradient)) and np.all(gradient > 0)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_point_loss_sums_both_coordinates_over_the_valid_rows(jit_compile):
    rng = np.random.default_rng(0)
    predicted, target = rng.normal(size=(2, 2, 5, 2)).astype("float32")
    valid = np.array([[True, True, False, False, False], [True, False, True, False, False]])
    predicted[~valid], target[~valid] = 1e30, np.inf
    value, gradient = value_and_gradient(
        lambda x: point_l1_loss(x, target, valid, 4.0), predicted, jit_compile=jit_compile
    )
    expected = sum(np.abs(predicted[b, n] - target[b, n]).sum() for b, n in zip(*np.nonzero(valid), strict=True)) / 4
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient[valid], np.sign(predicted - target)[valid] / 4)
    np.testing.assert_array_equal(gradient[~valid], 0)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_point_loss_without_objects_is_zero(jit_compile):
    predicted = np.full((2, 3, 2), 5, "float32")
    value, gradient = value_and_gradient(
        lambda x: point_l1_loss(x, np.zeros_like(predicted), np.zeros((2, 3), bool), 1.0),
        predicted,
        jit_compile=jit_compile,
    )
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


def test_bfloat16_predictions_give_the_float32_loss():
    low = tf.cast(np.random.default_rng(0).normal(size=(1, 4, 4, 2)), "bfloat16")
    high, target = tf.cast(low, "float32"), np.zeros((1, 4, 4, 2), "float32")
    losses = [heatmap_loss(x, target, False, 1.0) for x in (low, high)]
    points = [point_l1_loss(x[0], target[0], np.ones((4, 4), bool), 1.0) for x in (low, high)]
    for low_loss, high_loss in (losses, points):
        assert low_loss.dtype == tf.float32
        np.testing.assert_array_equal(low_loss, high_loss)
