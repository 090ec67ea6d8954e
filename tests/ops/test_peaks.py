"""Peaks: equal to a scan of every cell, and of fixed number whatever the size of the map."""

import naive
import numpy as np
import pytest
import tensorflow as tf

from centermask_keras.ops.peaks import find_peaks


def random_logits(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(-4, 3, shape).astype("float32")


@pytest.mark.parametrize("jit_compile", [False, True])
def test_peaks_equal_the_naive_oracle(jit_compile):
    logits = random_logits(2, 15, 19, 3)
    scores, classes, cells = tf.function(find_peaks, jit_compile=jit_compile)(tf.constant(logits), 40)
    for b in range(2):
        expected_scores, expected_classes, expected_cells = naive.find_peaks(logits[b], 40)
        np.testing.assert_allclose(scores[b], expected_scores, rtol=1e-5)
        np.testing.assert_array_equal(classes[b], expected_classes)
        np.testing.assert_array_equal(cells[b], expected_cells)


@pytest.mark.parametrize("static", [False, True])
def test_more_peaks_asked_for_than_there_are_cells(static):
    logits = random_logits(1, 4, 5, 2)
    shape = logits.shape if static else [None, None, None, 2]
    compiled = tf.function(lambda x: find_peaks(x, 100), input_signature=[tf.TensorSpec(shape, tf.float32)])
    scores, classes, cells = compiled(logits)
    expected = naive.find_peaks(logits[0], 100)
    found = len(expected[0])
    assert 0 < found < 40
    np.testing.assert_allclose(scores[0, :found], expected[0], rtol=1e-5)
    np.testing.assert_array_equal(cells[0, :found], expected[2])
    for rest in (scores, classes, cells):
        assert rest.shape == (1, 100)
        np.testing.assert_array_equal(rest[0, found:], 0)


def test_certain_peaks_are_ordered_by_logit():
    # In float32 both scores are 1; the order must still follow the logits.
    logits = np.full((1, 6, 6, 1), -10, "float32")
    logits[0, 1, 1, 0], logits[0, 4, 4, 0] = 20, 30
    scores, _, cells = find_peaks(logits, 2)
    np.testing.assert_array_equal(scores[0], [1, 1])
    np.testing.assert_array_equal(cells[0], [4 * 6 + 4, 1 * 6 + 1])


def test_neighbours_of_a_peak_count_only_in_another_class():
    logits = np.full((1, 5, 5, 2), -10, "float32")
    logits[0, 2, 2, 0], logits[0, 2, 3, 0], logits[0, 2, 3, 1] = 3, 2, 1
    scores, classes, cells = find_peaks(logits, 2)
    np.testing.assert_allclose(scores[0], naive.sigmoid([3, 1]), rtol=1e-6)
    np.testing.assert_array_equal(classes[0], [0, 1])
    np.testing.assert_array_equal(cells[0], [12, 13])


def test_nan_is_no_peak():
    logits = np.full((1, 8, 8, 1), np.nan, "float32")
    scores, _, cells = find_peaks(logits, 5)
    np.testing.assert_array_equal(scores, np.zeros((1, 5)))
    np.testing.assert_array_equal(cells, np.zeros((1, 5)))


def test_bfloat16_logits_give_float32_scores():
    logits = tf.cast(random_logits(1, 8, 8, 2), "bfloat16")
    scores, _, _ = find_peaks(logits, 5)
    assert scores.dtype == tf.float32
    np.testing.assert_array_equal(scores, find_peaks(tf.cast(logits, "float32"), 5)[0])
