"""Box arithmetic: formats are inverse, clipping by hand."""

import numpy as np

from centermask_keras.geometry.boxes import clip_boxes, xywh_to_xyxy, xyxy_to_xywh


def test_formats_by_hand_and_back():
    xywh = np.array([[1.0, 2.0, 10.0, 20.0], [0.0, 0.0, 0.5, 0.25]])
    xyxy = xywh_to_xyxy(xywh)
    np.testing.assert_array_equal(xyxy, [[1.0, 2.0, 11.0, 22.0], [0.0, 0.0, 0.5, 0.25]])
    np.testing.assert_array_equal(xyxy_to_xywh(xyxy), xywh)


def test_clipping_uses_width_for_x_and_height_for_y():
    boxes = np.array([[-5.0, -6.0, 30.0, 40.0], [2.0, 3.0, 4.0, 5.0]])
    np.testing.assert_array_equal(clip_boxes(boxes, (10, 20)), [[0.0, 0.0, 20.0, 10.0], [2.0, 3.0, 4.0, 5.0]])


def test_a_box_outside_of_the_image_has_no_area_after_clipping():
    outside = np.array([[30.0, 2.0, 40.0, 8.0], [-9.0, 2.0, -3.0, 8.0]])
    clipped = clip_boxes(outside, (10, 20))
    np.testing.assert_array_equal(clipped, [[20.0, 2.0, 20.0, 8.0], [0.0, 2.0, 0.0, 8.0]])


def test_float32_stays_float32_and_no_boxes_stay_no_boxes():
    empty = np.zeros((0, 4), np.float32)
    for result in (xywh_to_xyxy(empty), xyxy_to_xywh(empty), clip_boxes(empty, (5, 5))):
        assert result.dtype == np.float32 and result.shape == (0, 4)
