"""Deformable convolution equals a NumPy loop over cells, taps and corners; gradients equal the loop's differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from centermask_keras.ops.deform_conv import DeformableConv2D, deform_conv2d

BATCH, HEIGHT, WIDTH, CHANNELS, FILTERS = 2, 4, 5, 3, 2
NAMES = ("features", "offsets", "mask", "kernel")


def naive_deform_conv(features, offsets, mask, kernel):
    output = np.zeros((*features.shape[:3], kernel.shape[-1]))
    for b, i, j, tap in np.ndindex(*features.shape[:3], 9):
        row, column = divmod(tap, 3)
        y = i + row - 1 + offsets[b, i, j, 2 * tap]
        x = j + column - 1 + offsets[b, i, j, 2 * tap + 1]
        sample = np.zeros(features.shape[-1])
        for u in (int(np.floor(y)), int(np.floor(y)) + 1):
            for v in (int(np.floor(x)), int(np.floor(x)) + 1):
                if 0 <= u < features.shape[1] and 0 <= v < features.shape[2]:
                    sample += (1 - abs(y - u)) * (1 - abs(x - v)) * features[b, u, v]
        output[b, i, j] += mask[b, i, j, tap] * sample @ kernel[row, column]
    return output


def draw_arguments(spread: float) -> list[np.ndarray]:
    """Draw arguments with offsets up to `spread` cells, no closer than 0.05 to a whole one (a kink of the sampling)."""
    whole = np.random.randint(-spread, spread, (BATCH, HEIGHT, WIDTH, 18))
    offsets = whole + np.random.uniform(0.05, 0.95, whole.shape)
    features = np.random.standard_normal((BATCH, HEIGHT, WIDTH, CHANNELS))
    mask = np.random.uniform(0, 1, (BATCH, HEIGHT, WIDTH, 9))
    kernel = np.random.standard_normal((3, 3, CHANNELS, FILTERS))
    return [a.astype("float32") for a in (features, offsets, mask, kernel)]


def gradients(arguments, weights):
    arguments = [tf.convert_to_tensor(a) for a in arguments]
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        loss = tf.reduce_sum(deform_conv2d(*arguments) * weights)
    return tape.gradient(loss, arguments)


@pytest.mark.parametrize("spread", [1, 7])
def test_values_equal_the_loop_also_outside_of_the_map(spread):
    arguments = draw_arguments(spread)
    np.testing.assert_allclose(deform_conv2d(*arguments), naive_deform_conv(*arguments), atol=1e-5)


def test_positions_far_outside_count_nothing():
    features, offsets, mask, kernel = draw_arguments(1)
    expected = deform_conv2d(features, offsets, mask * (np.arange(9) != 4), kernel)
    for far in (-1e30, 1e30, 1e10):
        offsets[..., 8:10] = far  # tap 4, the centre
        np.testing.assert_allclose(deform_conv2d(features, offsets, mask, kernel), expected, atol=1e-6)


def test_not_finite_offsets_give_not_finite_values_and_no_crash():
    features, offsets, mask, kernel = draw_arguments(1)
    offsets[0, 1, 2, 0] = np.nan
    finite = np.isfinite(ops.convert_to_numpy(deform_conv2d(features, offsets, mask, kernel))).all(axis=-1)
    assert not finite[0, 1, 2] and finite.sum() == finite.size - 1


@pytest.mark.parametrize("index", range(4), ids=NAMES)
def test_gradients_equal_central_differences_of_the_loop(index):
    arguments = draw_arguments(2)
    weights = np.random.standard_normal((BATCH, HEIGHT, WIDTH, FILTERS))
    gradient = gradients(arguments, weights.astype("float32"))[index].numpy()
    double = [a.astype("float64") for a in arguments]
    step = 1e-4
    for place in np.random.permutation(gradient.size)[:40]:
        difference = 0.0
        for sign in (1, -1):
            moved = [a.copy() for a in double]
            moved[index].flat[place] += sign * step
            difference += sign * np.sum(naive_deform_conv(*moved) * weights)
        np.testing.assert_allclose(gradient.flat[place], difference / (2 * step), atol=2e-4, rtol=1e-4)


def test_xla_gives_the_same_values_and_gradients():
    arguments = draw_arguments(2)
    weights = np.random.standard_normal((BATCH, HEIGHT, WIDTH, FILTERS)).astype("float32")
    compiled = tf.function(deform_conv2d, jit_compile=True)
    np.testing.assert_allclose(compiled(*arguments), deform_conv2d(*arguments), atol=1e-5)
    compiled_gradients = tf.function(gradients, jit_compile=True)(arguments, weights)
    for name, expected, received in zip(NAMES, gradients(arguments, weights), compiled_gradients, strict=True):
        np.testing.assert_allclose(received, expected, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(("policy", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 0.03)])
def test_new_layer_is_half_a_plain_convolution_plus_bias(policy, tolerance):
    features = np.random.standard_normal((2, 6, 7, 8)).astype("float32")
    layer = DeformableConv2D(16, dtype=policy)
    received = layer(features)
    layer.bias.assign(np.random.standard_normal(16))
    received = layer(features)
    assert received.dtype == layer.compute_dtype
    expected = 0.5 * ops.conv(features, layer.kernel.value, padding="same") + layer.bias.value
    np.testing.assert_allclose(ops.cast(received, "float32"), expected, atol=tolerance * np.abs(expected).max())


def test_layer_moves_its_taps_by_its_inner_convolution():
    features = np.random.standard_normal((BATCH, HEIGHT, WIDTH, CHANNELS)).astype("float32")
    layer = DeformableConv2D(FILTERS)
    layer.build(features.shape)
    layer.conv_offset_mask.kernel.assign(np.random.standard_normal((3, 3, CHANNELS, 27)))
    inner = ops.convert_to_numpy(layer.conv_offset_mask(features))
    mask = 1 / (1 + np.exp(-inner[..., 18:]))
    expected = naive_deform_conv(features, inner[..., :18], mask, ops.convert_to_numpy(layer.kernel))
    np.testing.assert_allclose(layer(features), expected, atol=2e-4)


def test_positions_are_not_rounded_to_the_precision_of_the_features():
    """In bfloat16 a column such as 200.3 would become 200: the ramp of a map would be read a third of a cell beside."""
    ramp = np.broadcast_to(np.linspace(-1, 1, 256, dtype="float32")[:, None], (1, 3, 256, 1))
    low = ops.cast(ramp, "bfloat16")
    offsets = np.zeros((1, 3, 256, 18), "float32")
    offsets[..., 9] = 0.3  # dx of tap 4
    mask = np.eye(9, dtype="float32")[4] * np.ones((1, 3, 256, 9), "float32")
    received = ops.convert_to_numpy(deform_conv2d(low, offsets, mask, ops.ones((3, 3, 1, 1), "bfloat16")))
    stored = np.array(ops.cast(low, "float32"))[0, 1, :, 0]
    expected = 0.7 * stored[:-1] + 0.3 * stored[1:]
    np.testing.assert_allclose(received[0, 1, :-1, 0], expected, rtol=2**-8)  # one rounding of the result


@pytest.mark.parametrize("jit_compile", [False, True], ids=["plain", "xla"])
def test_layer_in_a_model_takes_any_height_and_width(jit_compile):
    inputs = keras.Input((None, None, CHANNELS))
    model = keras.Model(inputs, DeformableConv2D(FILTERS)(inputs))
    assert model.output.shape == (None, None, None, FILTERS)
    any_size = [tf.TensorSpec([None, None, None, CHANNELS])]
    dynamic = tf.function(model, input_signature=any_size, jit_compile=jit_compile)
    layer = model.layers[-1]
    for height, width in ((4, 6), (7, 3)):
        features = np.random.standard_normal((2, height, width, CHANNELS)).astype("float32")
        expected = 0.5 * ops.conv(features, layer.kernel.value, padding="same")
        np.testing.assert_allclose(dynamic(features), expected, atol=1e-5)


def naive_with_strides_and_groups(features, offsets, mask, kernel, strides, groups):
    """Run the loop at every cell, group by group; cells in between get no shift and are left out."""
    dense_offsets, dense_mask = np.zeros((BATCH, HEIGHT, WIDTH, 18)), np.zeros((BATCH, HEIGHT, WIDTH, 9))
    dense_offsets[:, ::strides, ::strides], dense_mask[:, ::strides, ::strides] = offsets, mask
    parts = zip(np.split(features, groups, axis=-1), np.split(kernel, groups, axis=-1), strict=True)
    dense = np.concatenate([naive_deform_conv(x, dense_offsets, dense_mask, k) for x, k in parts], axis=-1)
    return dense[:, ::strides, ::strides]


def draw_with_strides_and_groups(strides, groups):
    hw = (-(-HEIGHT // strides), -(-WIDTH // strides))
    whole = np.random.randint(-3, 3, (BATCH, *hw, 18))
    offsets = whole + np.random.uniform(0.05, 0.95, whole.shape)  # no closer to a kink of the sampling
    features = np.random.standard_normal((BATCH, HEIGHT, WIDTH, 6))
    return features, offsets, np.random.uniform(0, 1, (BATCH, *hw, 9)), np.random.normal(size=(3, 3, 6 // groups, 6))


@pytest.mark.parametrize(("strides", "groups"), [(2, 1), (1, 3), (2, 3)])
def test_strides_and_groups_equal_the_loop_at_every_other_cell_and_group_by_group(strides, groups):
    arguments = draw_with_strides_and_groups(strides, groups)
    received = deform_conv2d(*(a.astype("float32") for a in arguments), strides=strides, groups=groups)
    np.testing.assert_allclose(received, naive_with_strides_and_groups(*arguments, strides, groups), atol=1e-5)


@pytest.mark.parametrize("index", range(4), ids=NAMES)
def test_gradients_with_strides_and_groups_equal_differences_of_the_loop(index):
    double = draw_with_strides_and_groups(2, 3)
    arguments = [tf.constant(a, tf.float32) for a in double]
    weights = np.random.standard_normal((BATCH, 2, 3, 6))
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        loss = tf.reduce_sum(deform_conv2d(*arguments, strides=2, groups=3) * weights.astype("float32"))
    gradient = tape.gradient(loss, arguments[index]).numpy()
    step = 1e-4
    for place in np.random.permutation(gradient.size)[:20]:
        difference = 0.0
        for sign in (1, -1):
            moved = [a.copy() for a in double]
            moved[index].flat[place] += sign * step
            difference += sign * np.sum(naive_with_strides_and_groups(*moved, 2, 3) * weights)
        np.testing.assert_allclose(gradient.flat[place], difference / (2 * step), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize(("strides", "groups"), [(1, 2), (2, 1), (2, 2)])
def test_a_fresh_layer_is_half_of_a_plain_convolution_padded_evenly(strides, groups):
    """No shift and a mask of 0.5."""
    features = tf.random.normal((1, 7, 8, 4))
    layer = DeformableConv2D(6, strides=strides, groups=groups, use_bias=False)
    received = layer(features)
    padded = tf.pad(features, ((0, 0), (1, 1), (1, 1), (0, 0)))
    plain = keras.layers.Conv2D(6, 3, strides=strides, groups=groups, use_bias=False)
    plain.build(padded.shape)
    plain.kernel.assign(layer.kernel)
    np.testing.assert_allclose(received, plain(padded) / 2, atol=1e-5)
    assert received.shape == layer.compute_output_shape(features.shape)
