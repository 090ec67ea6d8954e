"""Ellipses, turned boxes and masks as COCO json can hold them."""

import math

import numpy as np
import pytest

from centermask_keras.convert.outlines import ellipse, encode_ids, encode_inside, rotated_box
from centermask_keras.masks import rle_to_bitmap


@pytest.mark.parametrize("radius", [0.01, 1, 7.5, 100, 3000])
def test_a_circle_is_within_a_twentieth_of_a_pixel(radius):
    points = np.reshape(ellipse(5, 6, radius, radius), (-1, 2)) - [5, 6]
    middles = (points + np.roll(points, -1, axis=0)) / 2
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), radius)
    assert radius - np.linalg.norm(middles, axis=1).min() <= 0.05 + 1e-9


def test_an_ellipse_turns_clockwise():
    points = np.reshape(ellipse(10, 20, 8, 2, 30), (-1, 2))
    farthest = points[0] - [10, 20]
    np.testing.assert_allclose(farthest, [8 * math.cos(math.pi / 6), 8 * math.sin(math.pi / 6)])


def test_boxes_turn_about_their_center_or_their_corner():
    np.testing.assert_allclose(rotated_box(0, 0, 4, 2, 90, "center"), [3, -1, 3, 3, 1, 3, 1, -1], atol=1e-12)
    np.testing.assert_allclose(rotated_box(1, 1, 4, 2, 90, "corner"), [1, 1, 1, 5, -1, 5, -1, 1], atol=1e-12)


@pytest.mark.parametrize(("left", "top"), [(-2, -1), (3, 2), (6, 4), (9, 1), (-5, 0), (0, -5)])
def test_what_lies_outside_is_cut_off(left, top):
    crop = np.random.default_rng(0).random((4, 3)) > 0.4
    whole = np.zeros((26, 28), bool)
    whole[10 + top : 14 + top, 10 + left : 13 + left] = crop
    np.testing.assert_array_equal(rle_to_bitmap(encode_inside(crop, left, top, (6, 8))), whole[10:16, 10:18])


def test_ids_become_masks():
    ids = np.random.default_rng(1).integers(0, 5, (9, 7)) * 1000
    found = encode_ids(ids)
    assert list(found) == [1000, 2000, 3000, 4000]
    for value, rle in found.items():
        np.testing.assert_array_equal(rle_to_bitmap(rle), ids == value)
    assert encode_ids(np.zeros((3, 3), int)) == {}
