"""Painting in the graph equals pasting."""

import numpy as np
import pytest
import tensorflow as tf

from centermask_keras.extra.in_graph.id_map import paint_id_map
from centermask_keras.masks import paste_mask


@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_painting_equals_pasting(threshold):
    rng = np.random.default_rng(0)
    corners = rng.uniform(-20, 90, (12, 2)).astype("float32")
    boxes = np.concatenate([corners, corners + rng.uniform(0.2, 60, (12, 2)).astype("float32")], axis=1)
    masks = rng.random((12, 9, 9), np.float32)
    shown = np.arange(12) != 3
    painted = paint_id_map(boxes, masks, shown, tf.constant([70, 100]), threshold=threshold).numpy()[..., 0]
    expected = np.zeros((70, 100), int)
    for row in range(11, -1, -1):
        crop, (top, left) = paste_mask(masks[row], boxes[row], (70, 100), threshold)
        if shown[row]:
            expected[top : top + crop.shape[0], left : left + crop.shape[1]][crop] = row + 1
    assert (painted != expected).mean() < 1e-3  # float32 here, float64 there: pixels exactly at the threshold
    assert len(np.unique(expected)) > 8


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_a_box_that_is_not_finite_is_not_painted(value):
    boxes = np.float32([[2, 2, 8, 8], [value, 1, 9, 9], [4, 4, 4, 9]])
    masks = np.ones((3, 4, 4), np.float32)
    painted = paint_id_map(boxes, masks, np.ones(3, bool), tf.constant([12, 12]), threshold=0.5).numpy()
    assert set(np.unique(painted)) == {0, 1} and (painted == 1).sum() == 36
