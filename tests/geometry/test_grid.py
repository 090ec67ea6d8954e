"""Centres and sizes on the feature map grid: equal to the naive oracle, and an exact inverse pair."""

import naive
import numpy as np
import pytest
import tensorflow as tf

from centermask_keras.geometry.grid import decode_boxes, encode_centers

GRID_HW, STRIDE = (24, 32), 4


def random_boxes(count: int) -> np.ndarray:
    corners = np.random.default_rng(0).uniform((0, 0), (GRID_HW[1] * STRIDE, GRID_HW[0] * STRIDE), (count, 2, 2))
    return np.concatenate([corners.min(1), corners.max(1)], -1).astype("float32")


def test_encode_equals_the_naive_oracle():
    boxes = random_boxes(50)
    cells, offset, size = encode_centers(boxes[None], grid_hw=GRID_HW, stride=STRIDE)
    expected = [naive.encode_center(box, GRID_HW, STRIDE) for box in boxes]
    np.testing.assert_array_equal(cells[0], [cell for cell, _, _ in expected])
    np.testing.assert_allclose(offset[0], [offset for _, offset, _ in expected], atol=1e-5)
    np.testing.assert_allclose(size[0], [size for _, _, size in expected], atol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_decode_returns_the_encoded_boxes(jit_compile):
    @tf.function(jit_compile=jit_compile)
    def round_trip(boxes):
        cells, offset, size = encode_centers(boxes, grid_hw=GRID_HW, stride=STRIDE)
        return decode_boxes(cells, offset, size, grid_width=GRID_HW[1], stride=STRIDE), offset

    boxes = random_boxes(200).reshape(4, 50, 4)
    decoded, offset = round_trip(tf.constant(boxes))
    np.testing.assert_allclose(decoded, boxes, atol=1e-4)
    assert np.all((offset >= 0) & (offset < 1))


def test_conventions_by_hand():
    # Box x 6..14, y 0..6: centre (10, 3) px = (2.5, 0.75) cells of 4 px: cell i=0, j=2.
    cells, offset, size = encode_centers(np.array([[[6.0, 0.0, 14.0, 6.0]]]), grid_hw=GRID_HW, stride=STRIDE)
    assert int(cells[0, 0]) == 2
    np.testing.assert_allclose(offset[0, 0], [0.5, 0.75])
    np.testing.assert_allclose(size[0, 0], [2.0, 1.5])


def test_cells_of_padded_rows_stay_inside_of_the_grid():
    garbage = np.array([[[1e30, 1e30, 2e30, 2e30], [-1e30, -5.0, -1e20, -1.0], [0, 0, 0, 0]]], "float32")
    cells, _, _ = encode_centers(garbage, grid_hw=GRID_HW, stride=STRIDE)
    np.testing.assert_array_equal(cells[0], [GRID_HW[0] * GRID_HW[1] - 1, 0, 0])


def test_bfloat16_predictions_are_decoded_in_float32():
    offset, size = tf.constant([[[0.5, 0.25]]], "bfloat16"), tf.constant([[[3.0, 2.0]]], "bfloat16")
    boxes = decode_boxes(tf.constant([[700]]), offset, size, grid_width=GRID_HW[1], stride=STRIDE)
    assert boxes.dtype == tf.float32
    # Cell 700 = (21, 28); its centre at (28.5, 21.25) cells would not be a bfloat16.
    np.testing.assert_array_equal(boxes[0, 0], [27 * 4, 20.25 * 4, 30 * 4, 22.25 * 4])
