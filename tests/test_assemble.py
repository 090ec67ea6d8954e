"""Assembly: both factors on one grid over each box, equal to the naive oracle; Eq. 1 on top."""

import naive
import numpy as np
import pytest
import tensorflow as tf

from centermask_keras.assemble import assemble_masks, mask_probability
from centermask_keras.losses.masks import mask_loss

B, K, S, M, H, W, STRIDE = 2, 5, 8, 16, 12, 15, 4


def random_inputs(channels: int):
    rng = np.random.default_rng(0)
    corners = rng.uniform(-6, (W * STRIDE + 6, H * STRIDE + 6), (B, K, 2, 2))
    boxes = np.concatenate([corners.min(2), corners.max(2)], -1).astype("float32")
    boxes[1, -1] = 0  # a padded row
    shape, saliency = rng.normal(size=(B, K, S * S)), rng.normal(size=(B, H, W, channels))
    return shape.astype("float32"), saliency.astype("float32"), boxes, rng.integers(0, channels, (B, K)).astype("int32")


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("channels", [1, 4])
def test_assembled_logits_equal_the_naive_oracle(channels, jit_compile):
    inputs = random_inputs(channels)
    assemble = tf.function(assemble_masks, jit_compile=jit_compile)
    l, g = assemble(*(tf.constant(x) for x in inputs), mask_size=M, stride=STRIDE)
    shape, saliency, boxes, classes = inputs
    for b in range(B):
        for k in range(K):
            expected = naive.assemble_mask(shape[b, k], saliency[b], boxes[b, k], classes[b, k], M, STRIDE)
            np.testing.assert_allclose(l[b, k], expected[0], atol=1e-5)
            np.testing.assert_allclose(g[b, k], expected[1], atol=1e-5)


def test_the_shape_has_its_rows_first():
    shape = np.zeros((1, 1, S, S), "float32")
    shape[0, 0, 0] = 1  # the top row
    l, g = assemble_masks(shape.reshape(1, 1, -1), None, np.zeros((1, 1, 4)), None, mask_size=S, stride=STRIDE)
    np.testing.assert_allclose(l, shape, atol=1e-6)
    assert g is None


def test_a_missing_factor_stays_missing():
    shape, saliency, boxes, classes = random_inputs(4)
    l, g = assemble_masks(shape, saliency, boxes, classes, mask_size=M, stride=STRIDE)
    alone, none = assemble_masks(None, saliency, boxes, classes, mask_size=M, stride=STRIDE)
    assert alone is None
    np.testing.assert_array_equal(none, g)
    np.testing.assert_allclose(mask_probability(l, None), naive.sigmoid(l), atol=1e-6)
    np.testing.assert_allclose(mask_probability(None, g), naive.sigmoid(g), atol=1e-6)
    np.testing.assert_allclose(mask_probability(l, g), naive.sigmoid(l) * naive.sigmoid(g), atol=1e-6)
    with pytest.raises(ValueError, match="expected .* received neither"):
        mask_probability(None, None)


def test_a_vector_that_is_no_square_is_an_error():
    _, _, boxes, classes = random_inputs(1)
    with pytest.raises(ValueError, match="expected a square number .* received 60"):
        assemble_masks(np.zeros((B, K, 60), "float32"), None, boxes, classes, mask_size=M, stride=STRIDE)


@pytest.mark.parametrize("channels", [1, 4])
def test_dynamic_shapes_give_the_same(channels):
    inputs = random_inputs(channels)
    shapes = ([None, None, S * S], [None, None, None, channels], [None, None, 4], [None, None])
    signature = [tf.TensorSpec(shape, x.dtype) for shape, x in zip(shapes, inputs, strict=True)]
    dynamic = tf.function(lambda *x: assemble_masks(*x, mask_size=M, stride=STRIDE), input_signature=signature)
    for actual, expected in zip(dynamic(*inputs), assemble_masks(*inputs, mask_size=M, stride=STRIDE), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_bfloat16_logits_are_assembled_in_float32():
    shape, saliency, boxes, classes = random_inputs(4)
    shape, saliency = tf.cast(shape, "bfloat16"), tf.cast(saliency, "bfloat16")
    low = assemble_masks(shape, saliency, boxes, classes, mask_size=M, stride=STRIDE)
    high = assemble_masks(
        tf.cast(shape, "float32"), tf.cast(saliency, "float32"), boxes, classes, mask_size=M, stride=STRIDE
    )
    for actual, expected in zip(low, high, strict=True):
        assert actual.dtype == tf.float32
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("channels", [1, 4])
def test_an_image_without_objects_gives_finite_masks_and_no_gradient(channels, jit_compile):
    shape, saliency, boxes, classes = random_inputs(channels)

    @tf.function(jit_compile=jit_compile)
    def compiled(shape, saliency):
        with tf.GradientTape() as tape:
            tape.watch((shape, saliency))
            l, g = assemble_masks(
                shape, saliency, np.zeros_like(boxes), np.zeros_like(classes), mask_size=M, stride=STRIDE
            )
            loss = mask_loss(l, g, np.zeros((B, K, M, M), "float32"), np.zeros((B, K), bool), 1.0)
        return mask_probability(l, g), *tape.gradient(loss, (shape, saliency))

    masks, *gradients = compiled(tf.constant(shape), tf.constant(saliency))
    assert np.all(np.isfinite(masks))
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, 0)


def test_saliency_gradient_equals_the_box_by_box_reference():
    shape, saliency, boxes, classes = random_inputs(4)
    upstream = np.random.default_rng(1).normal(size=(B, K, M, M)).astype("float32")
    with tf.GradientTape() as tape:
        watched = tf.constant(saliency)
        tape.watch(watched)
        _, g = assemble_masks(shape, watched, boxes, classes, mask_size=M, stride=STRIDE)
        total = tf.reduce_sum(g * upstream)
    expected = np.zeros(saliency.shape)
    for b in range(B):
        for k in range(K):
            crop = naive.crop_and_resize_gradient(upstream[b, k], boxes[b, k] / STRIDE, (H, W))
            expected[b, :, :, classes[b, k]] += crop
    np.testing.assert_allclose(tape.gradient(total, watched), expected, atol=1e-4 * np.abs(expected).max())
