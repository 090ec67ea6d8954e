"""Transforms: inverse, composition and the OpenCV matrix against independent arithmetic."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from centermask_keras._cv2 import cv2
from centermask_keras.geometry.transform import apply_to_boxes, apply_to_points, compose, invert, to_matrix

scales = st.floats(0.05, 20.0)
shifts = st.floats(-2000.0, 2000.0)
transforms = st.builds(lambda sx, sy, tx, ty, flip: np.array([-sx if flip else sx, sy, tx, ty]),
                       scales, scales, shifts, shifts, st.booleans())  # fmt: skip
points = st.lists(st.tuples(shifts, shifts), min_size=1, max_size=5).map(np.array)


def test_points_by_hand():
    np.testing.assert_array_equal(apply_to_points(np.array([-2.0, 0.5, 100.0, 3.0]), [[10.0, 20.0]]), [[80.0, 13.0]])


def test_a_transform_per_point_broadcasts():
    many = np.array([[1.0, 1.0, 0.0, 0.0], [2.0, 3.0, 4.0, 5.0]])
    np.testing.assert_array_equal(apply_to_points(many, [[1.0, 1.0], [1.0, 1.0]]), [[1.0, 1.0], [6.0, 8.0]])


@given(transforms, points)
def test_inverse_returns_the_points(transform, points):
    back = apply_to_points(invert(transform), apply_to_points(transform, points))
    np.testing.assert_allclose(back, points, atol=1e-6)


@given(transforms, transforms, points)
def test_composition_is_one_after_the_other(first, then, points):
    expected = apply_to_points(then, apply_to_points(first, points))
    np.testing.assert_allclose(apply_to_points(compose(first, then), points), expected, rtol=1e-9, atol=1e-6)


@given(transforms)
def test_inverse_composes_to_the_identity(transform):
    np.testing.assert_allclose(compose(transform, invert(transform)), [1.0, 1.0, 0.0, 0.0], atol=1e-9)


def test_boxes_keep_left_left_of_right_under_a_mirror():
    mirrored = apply_to_boxes(np.array([-1.0, 1.0, 100.0, 0.0]), [[10.0, 20.0, 30.0, 50.0]])
    np.testing.assert_array_equal(mirrored, [[70.0, 20.0, 90.0, 50.0]])


def test_no_boxes_stay_no_boxes():
    assert apply_to_boxes(np.array([-1.0, 1.0, 100.0, 0.0]), np.zeros((0, 4))).shape == (0, 4)


def test_opencv_matrix_moves_the_centre_of_mass_as_points_move():
    """Warp a blob with cv2; its centre of mass in continuous coordinates must be where the transform says."""
    ys, xs = np.indices((60, 80)) + 0.5
    image = np.exp(-((xs - 36.0) ** 2 + (ys - 23.0) ** 2) / 32.0).astype(np.float32)
    for transform in ([1.7, 1.3, 5.2, 7.9], [-1.7, 0.9, 120.3, 9.1], [1.0, 1.0, 0.5, 0.25]):
        warped = cv2.warpAffine(image, to_matrix(np.array(transform)), (160, 120), flags=cv2.INTER_LINEAR)
        ys, xs = np.indices(warped.shape) + 0.5
        found = np.array([(warped * xs).sum(), (warped * ys).sum()]) / warped.sum()
        np.testing.assert_allclose(found, apply_to_points(np.array(transform), [36.0, 23.0]), atol=0.01)
