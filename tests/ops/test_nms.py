"""Suppression with a fixed number of results equals the loop over classes and boxes."""

import naive
import numpy as np
import pytest
import tensorflow as tf

from centermask_keras.ops.nms import suppress_overlaps


def draw(seed, count=60, *, levels=None):
    """Draw boxes, scores and classes of two images; scores all differ, or take that many levels."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 40, (2, count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 30, (2, count, 2))], axis=-1).astype("float32")
    scores = rng.permutation(2 * count).reshape(2, count).astype("float32") / (2 * count)
    if levels:
        scores = np.ceil(scores * levels).astype("float32") / levels
    scores[:, ::7] = 0
    return boxes, scores, rng.integers(0, 3, (2, count)).astype("int32")


@pytest.mark.parametrize("jit_compile", [False, True], ids=["plain", "xla"])
@pytest.mark.parametrize(
    ("count", "threshold", "levels"),
    [(5, 0.3, None), (30, 0.6, None), (40, 0.05, None), (20, 0.3, 4), (30, 0.6, 4), (30, 0.3, 1)],
)
def test_picks_equal_the_loop(count, threshold, levels, jit_compile):
    """Of equal scores the lower row goes first: which boxes stay depends on it."""
    boxes, scores, classes = draw(count, levels=levels)
    pick = tf.function(lambda *a: suppress_overlaps(*a, count=count, iou_threshold=threshold), jit_compile=jit_compile)
    picks, picked = (np.asarray(value) for value in pick(boxes, scores, classes))
    assert picks.shape == picked.shape == (2, count)
    suppressed = 0
    for row in range(2):
        expected = naive.suppress_overlaps(boxes[row], scores[row], classes[row], count, threshold)
        assert picks[row][: len(expected)].tolist() == expected
        np.testing.assert_array_equal(picked[row][: len(expected)], scores[row][expected])
        assert not picked[row][len(expected) :].any()
        suppressed += np.count_nonzero(scores[row]) - len(expected)
    assert suppressed > 0


def test_boxes_of_other_classes_stay():
    boxes = np.tile(np.array([1, 1, 9, 9], "float32"), (1, 3, 1))
    scores = np.array([[0.5, 0.9, 0.7]], "float32")
    _, same = suppress_overlaps(boxes, scores, np.zeros((1, 3), "int32"), count=3, iou_threshold=0.6)
    _, other = suppress_overlaps(boxes, scores, np.array([[0, 1, 0]], "int32"), count=3, iou_threshold=0.6)
    np.testing.assert_allclose(same, [[0.9, 0, 0]])
    np.testing.assert_allclose(other, [[0.9, 0.7, 0]])


def test_empty_and_inverted_boxes_suppress_nothing():
    boxes = np.array([[[5, 5, 5, 5], [9, 9, 2, 2], [0, 0, 8, 8]]], "float32")
    _, scores = suppress_overlaps(
        boxes, np.array([[0.9, 0.8, 0.7]], "float32"), np.zeros((1, 3), "int32"), count=3, iou_threshold=0.6
    )
    np.testing.assert_allclose(scores, [[0.9, 0.8, 0.7]])
