"""The locations of a pyramid: their order, their places, and distances as an inverse pair."""

import numpy as np

from centermask_keras.geometry.locations import (
    STRIDES,
    decode_distances,
    encode_distances,
    flatten_levels,
    make_locations,
    strides_of,
)

LEVELS_HW = [(4, 6), (2, 3), (1, 2), (1, 1), (1, 1)]


def test_locations_go_level_by_level_and_row_by_row():
    centers, level = (np.asarray(value) for value in make_locations(LEVELS_HW))
    expected = [
        ((j + 0.5) * stride, (i + 0.5) * stride, index)
        for index, ((height, width), stride) in enumerate(zip(LEVELS_HW, STRIDES, strict=True))
        for i in range(height)
        for j in range(width)
    ]
    np.testing.assert_array_equal(np.column_stack([centers, level]), expected)
    np.testing.assert_array_equal(strides_of(level), np.take(STRIDES, level))


def test_flattened_levels_are_in_the_order_of_the_locations():
    centers, _ = make_locations(LEVELS_HW)
    ends = np.cumsum([height * width for height, width in LEVELS_HW])[:-1]
    parts = np.split(np.asarray(centers), ends)
    levels = [part.reshape(1, *hw, 2) for part, hw in zip(parts, LEVELS_HW, strict=True)]
    np.testing.assert_array_equal(flatten_levels(levels)[0], centers)


def test_distances_are_an_inverse_pair():
    rng = np.random.default_rng(0)
    boxes, centers = rng.uniform(0, 100, (3, 7, 4)).astype("float32"), rng.uniform(0, 100, (7, 2)).astype("float32")
    distances = encode_distances(boxes, centers)
    np.testing.assert_allclose(decode_distances(distances, centers), boxes, atol=1e-4)
    np.testing.assert_allclose(encode_distances(np.array([1.0, 2, 10, 20]), np.array([4.0, 8])), [3, 6, 6, 12])
