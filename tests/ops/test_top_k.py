"""The highest values of a map in two steps: what one sort of the whole map gives, ties included."""

import numpy as np
import pytest
import tensorflow as tf

from centermask_keras.ops.top_k import top_k_of_map


def sort_whole_map(values: np.ndarray, count: int):
    """Sort all values of each image; what is short of `count` is padding."""
    batch, height, width, channels = values.shape
    flat = values.reshape(batch, -1)
    order = np.argsort(-flat, axis=1, kind="stable")[:, :count]
    best = np.take_along_axis(flat, order, axis=1)
    order = np.where(best > -np.inf, order, 0)
    missing = ((0, 0), (0, max(0, count - flat.shape[1])))
    return (
        np.pad(best, missing, constant_values=-np.inf),
        np.pad(order % channels, missing),
        np.pad(order // channels, missing),
    )


def draw(shape, *, levels=None, absent=0.3, seed=0):
    """Draw a map of which a part is absent; of few levels, most of its values are equal to others."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=shape) if levels is None else rng.integers(levels, size=shape)
    return np.where(rng.random(shape) < absent, -np.inf, values).astype("float32")


@pytest.mark.parametrize("levels", [None, 2, 9])
@pytest.mark.parametrize("shape, count", [((2, 15, 19, 7), 40), ((1, 8, 8, 1), 20), ((3, 4, 5, 2), 100)])
@pytest.mark.parametrize("static", [False, True])
def test_equal_to_one_sort_of_the_whole_map(shape, count, levels, static):
    values = draw(shape, levels=levels)
    signature = [tf.TensorSpec(shape if static else [None, None, None, shape[-1]], tf.float32)]
    found = tf.function(lambda x: top_k_of_map(x, count), input_signature=signature)(values)
    for one, expected in zip(found, sort_whole_map(values, count), strict=True):
        assert one.shape == (shape[0], count)
        np.testing.assert_array_equal(one, expected)


def test_many_values_of_one_cell_may_be_chosen():
    values = draw((1, 6, 6, 8), absent=0)
    values[0, 2, 3] += 100
    _, channels, cells = top_k_of_map(values, 8)
    np.testing.assert_array_equal(cells, [[2 * 6 + 3] * 8])
    assert sorted(np.asarray(channels)[0]) == list(range(8))


def test_nothing_to_choose():
    best, channels, cells = top_k_of_map(np.full((2, 4, 4, 3), -np.inf, "float32"), 5)
    assert np.isneginf(best).all() and not np.any(channels) and not np.any(cells)
