"""Mask and saliency losses: float64 accuracy in value and gradient, and ordinary without objects."""

import naive
import numpy as np
import pytest
import tensorflow as tf

from centermask_keras.losses.masks import mask_loss, saliency_loss

EXTREME = np.array([-100, -63, -30, -17, -8, -3, -0.7, -1e-3, 0, 1e-3, 0.7, 3, 8, 17, 30, 63, 100])
COVERAGE = np.array([0.0, 0.3, 1.0])
COVERAGE_BYTES = np.array([0, 77, 255])


def mask_loss_elements(l, g, target, *, jit_compile):
    """Return value and gradients of masks of one cell each, so that a large value hides no error."""

    @tf.function(jit_compile=jit_compile)
    def compiled(l, g):
        with tf.GradientTape() as tape:
            tape.watch((l, g))
            elements = tuple(tf.reshape(x, (-1, 1, 1, 1, 1)) for x in (l, g, tf.constant(target, "float32")))
            one = tf.constant([[True]])
            values = tf.map_fn(lambda x: mask_loss(*x, one, 1.0), elements, fn_output_signature=tf.float32)
        return values, *tape.gradient(values, (l, g))

    values, *gradients = compiled(tf.constant(l, "float32"), tf.constant(g, "float32"))
    return values.numpy().reshape(l.shape), *(gradient.numpy() for gradient in gradients)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_mask_loss_of_extreme_logits_equals_float64(jit_compile):
    l, g, target = (x.astype("float32").astype("float64") for x in np.meshgrid(EXTREME, EXTREME, COVERAGE))
    values, by_l, by_g = mask_loss_elements(l, g, target, jit_compile=jit_compile)
    np.testing.assert_allclose(values, naive.mask_loss(l, g, target), rtol=0, atol=1e-5)
    slope_l = naive.derivative(lambda x: naive.mask_loss(x, g, target), l)
    slope_g = naive.derivative(lambda x: naive.mask_loss(l, x, target), g)
    np.testing.assert_allclose(by_l, slope_l, rtol=0, atol=1e-6)
    np.testing.assert_allclose(by_g, slope_g, rtol=0, atol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_mask_loss_of_random_logits_equals_float64(jit_compile):
    rng = np.random.default_rng(0)
    l, g = (rng.normal(0, 30, 1500).clip(-120, 120).astype("float32").astype("float64") for _ in range(2))
    target = rng.random(1500).astype("float32").astype("float64")
    values, by_l, by_g = mask_loss_elements(l, g, target, jit_compile=jit_compile)
    np.testing.assert_allclose(values, naive.mask_loss(l, g, target), rtol=0, atol=1e-5)
    np.testing.assert_allclose(by_l, naive.derivative(lambda x: naive.mask_loss(x, g, target), l), rtol=0, atol=1e-6)
    np.testing.assert_allclose(by_g, naive.derivative(lambda x: naive.mask_loss(l, x, target), g), rtol=0, atol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_beyond_float32_steps_the_loss_stays_finite_and_right(jit_compile):
    huge = np.array([-1e6, -1e4, -400.3, 400.3, 1e4, 1e6])
    l, g, target = (x.astype("float32").astype("float64") for x in np.meshgrid(huge, huge, COVERAGE))
    values, by_l, by_g = mask_loss_elements(l, g, target, jit_compile=jit_compile)
    np.testing.assert_allclose(values, naive.mask_loss(l, g, target), rtol=1e-6, atol=1e-5)
    assert np.all(np.isfinite(by_l)) and np.all(np.isfinite(by_g))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_network_that_starts_at_zero_gets_the_right_gradient(jit_compile):
    # M = 1/4: dM/dl = 1/8; dBCE/dM = (M - T) / (M (1 - M)).
    target = np.array([0.0, 1.0])
    _, by_l, by_g = mask_loss_elements(np.zeros(2), np.zeros(2), target, jit_compile=jit_compile)
    expected = (0.25 - target) / (0.25 * 0.75) / 8
    np.testing.assert_allclose(by_l, expected, rtol=1e-6)
    np.testing.assert_allclose(by_g, expected, rtol=1e-6)


def random_masks():
    rng = np.random.default_rng(1)
    l, g = rng.normal(0, 2, (2, 2, 3, 8, 8)).astype("float32")
    target = rng.random((2, 3, 8, 8)).astype("float32")
    return l, g, target, np.array([[True, True, False], [False, True, False]])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_mask_loss_is_the_mean_over_cells_and_the_sum_over_objects(jit_compile):
    l, g, target, valid = random_masks()
    l[~valid] = -3e38
    loss = tf.function(mask_loss, jit_compile=jit_compile)(l, g, target, valid, 5.0)
    expected = naive.mask_loss(l, g, target.astype("float64"))[valid].mean(axis=(1, 2)).sum() / 5
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_one_factor_alone_is_the_cross_entropy_of_its_logits():
    l, g, target, valid = random_masks()
    for factors, logits in (((l, None), l), ((None, g), g)):
        loss = mask_loss(*factors, target, valid, 3.0)
        expected = naive.binary_cross_entropy(logits, target)[valid].mean(axis=(1, 2)).sum() / 3
        np.testing.assert_allclose(loss, expected, rtol=1e-6)
    with pytest.raises(ValueError, match="expected .* received neither"):
        mask_loss(None, None, target, valid, 3.0)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_without_objects_the_mask_loss_is_zero(jit_compile):
    l, g, target, valid = random_masks()
    l[:] = -3e38

    @tf.function(jit_compile=jit_compile)
    def compiled(l, g):
        with tf.GradientTape() as tape:
            tape.watch((l, g))
            loss = mask_loss(l, g, target, np.zeros_like(valid), 1.0)
        return loss, *tape.gradient(loss, (l, g))

    for result in compiled(tf.constant(l), tf.constant(g)):
        np.testing.assert_array_equal(result, 0)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_saliency_loss_of_extreme_logits_equals_float64(jit_compile):
    logits, target = (x.astype("float32") for x in np.meshgrid(EXTREME, COVERAGE_BYTES))

    @tf.function(jit_compile=jit_compile)
    def compiled(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            elements = [tf.reshape(x, (-1, 1, 1, 1, 1)) for x in (logits, tf.constant(target, "uint8"))]
            # One element at a time, so that a large value hides no error.
            values = tf.map_fn(lambda x: saliency_loss(*x, False), tuple(elements), fn_output_signature=tf.float32)
        return values, tape.gradient(values, logits)

    values, slope = compiled(tf.constant(logits))
    share, logits = target.astype("float64") / 255, logits.astype("float64")
    np.testing.assert_allclose(
        values.numpy().reshape(logits.shape), naive.binary_cross_entropy(logits, share), rtol=0, atol=1e-5
    )
    expected = naive.derivative(lambda x: naive.binary_cross_entropy(x, share), logits)
    np.testing.assert_allclose(slope, expected, rtol=0, atol=1e-6)


def test_saliency_loss_sums_classes_and_averages_all_cells():
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 3, (2, 4, 5, 3)).astype("float32")
    target = rng.integers(0, 256, logits.shape, dtype="uint8")
    ignored = rng.random(logits.shape) < 0.4
    with tf.GradientTape() as tape:
        variable = tf.Variable(logits)
        loss = saliency_loss(variable, target, ignored)

    def expected(logits):
        return (~ignored * naive.binary_cross_entropy(logits, target / 255)) / (2 * 4 * 5)

    np.testing.assert_allclose(loss, expected(logits.astype("float64")).sum(), rtol=1e-6)
    slope = naive.derivative(expected, logits.astype("float64"))
    np.testing.assert_allclose(tape.gradient(loss, variable), slope, rtol=0, atol=1e-6)
    assert float(saliency_loss(logits, target, np.ones_like(ignored))) == 0  # all of it ignored


def test_bfloat16_logits_give_the_float32_loss():
    l, g, target, valid = random_masks()
    low = [tf.cast(x, "bfloat16") for x in (l, g)]
    high = [tf.cast(x, "float32") for x in low]
    masks = [mask_loss(*x, target, valid, 1.0) for x in (low, high)]
    saliency = [saliency_loss(x[0], (target * 255).astype("uint8"), False) for x in (low, high)]
    for low_loss, high_loss in (masks, saliency):
        assert low_loss.dtype == tf.float32
        np.testing.assert_array_equal(low_loss, high_loss)
