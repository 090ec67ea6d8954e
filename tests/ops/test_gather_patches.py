"""Gathered cells and patches equal a NumPy loop over a zero-padded map, also with dynamic shapes and under XLA."""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from centermask_keras.ops.gather_patches import gather_cells, gather_level_patches, gather_patches

BATCH, HEIGHT, WIDTH, CHANNELS = 2, 4, 5, 3


@pytest.fixture
def features() -> np.ndarray:
    return np.random.standard_normal((BATCH, HEIGHT, WIDTH, CHANNELS)).astype("float32")


@pytest.fixture
def cells() -> np.ndarray:
    """Every cell of each image once, in another order per image, and one cell twice."""
    orders = [np.append(np.random.permutation(HEIGHT * WIDTH), 7) for _ in range(BATCH)]
    return np.stack(orders).astype("int32")


def naive_patches(features: np.ndarray, cells: np.ndarray) -> np.ndarray:
    padded = np.pad(features, ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = np.zeros((*cells.shape, 3, 3, features.shape[-1]), features.dtype)
    for image, point in np.ndindex(cells.shape):
        i, j = divmod(cells[image, point], features.shape[2])
        patches[image, point] = padded[image, i : i + 3, j : j + 3]
    return patches


def test_cells_are_read_from_their_own_image(features, cells):
    flat = features.reshape(BATCH, -1, CHANNELS)
    expected = np.stack([image[order] for image, order in zip(flat, cells, strict=True)])
    np.testing.assert_array_equal(gather_cells(features, cells), expected)


def test_patches_of_every_cell_equal_the_loop(features, cells):
    np.testing.assert_array_equal(gather_patches(features, cells), naive_patches(features, cells))


def test_patches_outside_are_zero_even_where_the_map_is_not_finite(features):
    features[:] = np.nan
    corner = ops.convert_to_numpy(gather_patches(features, np.zeros((BATCH, 1), "int32")))
    assert np.all(corner[:, :, 0] == 0) and np.all(corner[:, :, :, 0] == 0)
    assert np.all(np.isnan(corner[:, :, 1:, 1:]))


def test_patches_keep_the_dtype_of_the_features(features, cells):
    low = ops.cast(features, "bfloat16")
    patches = gather_patches(low, cells)
    assert patches.dtype == low.dtype
    np.testing.assert_array_equal(
        ops.cast(patches, "float32"), naive_patches(np.array(ops.cast(low, "float32")), cells)
    )


def test_no_points_give_no_patches(features):
    assert tuple(gather_patches(features, np.zeros((BATCH, 0), "int32")).shape) == (BATCH, 0, 3, 3, CHANNELS)


def test_dynamic_shapes(features, cells):
    dynamic = tf.function(
        gather_patches,
        input_signature=[tf.TensorSpec([None, None, None, CHANNELS]), tf.TensorSpec([None, None], tf.int32)],
    )
    for rows, columns in ((4, 5), (3, 2)):
        part = features[:, :rows, :columns]
        inside = cells % (rows * columns)
        np.testing.assert_array_equal(dynamic(part, inside), naive_patches(part, inside))


def test_gradient_under_xla_sums_over_the_patches_that_hold_a_cell(features, cells):
    weights = np.random.standard_normal((*cells.shape, 3, 3, CHANNELS)).astype("float32")

    @tf.function(jit_compile=True)
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(gather_patches(x, cells) * weights)
        return tape.gradient(loss, x)

    expected = np.zeros((BATCH, HEIGHT + 2, WIDTH + 2, CHANNELS))
    for image, point in np.ndindex(cells.shape):
        i, j = divmod(cells[image, point], WIDTH)
        expected[image, i : i + 3, j : j + 3] += weights[image, point]
    np.testing.assert_allclose(gradient(tf.constant(features)), expected[:, 1:-1, 1:-1], atol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True], ids=["plain", "xla"])
def test_patches_on_a_pyramid_are_those_of_each_level(jit_compile):
    levels = [np.random.standard_normal((2, *hw, 3)).astype("float32") for hw in ((4, 6), (2, 3), (1, 2), (1, 1))]
    start, locations, expected = 0, [], []
    for level in levels:
        cells = np.tile(np.arange(level.shape[1] * level.shape[2], dtype="int32"), (2, 1))
        locations.append(cells + start)
        expected.append(np.asarray(gather_patches(level, cells)))
        start += cells.shape[1]
    read = tf.function(gather_level_patches, jit_compile=jit_compile)
    order = np.random.permutation(start)
    received = read([tf.constant(level) for level in levels], np.concatenate(locations, axis=1)[:, order])
    np.testing.assert_array_equal(received, np.concatenate(expected, axis=1)[:, order])
