"""Separable crops: equal to TensorFlow's crop with half-pixel boxes and to one sample at a time, gradients included."""

import naive
import numpy as np
import pytest
import tensorflow as tf

from centermask_keras.ops.crop_and_resize import crop_and_resize, resize_square, select_channels

H, W, M = 20, 28, 16
BOXES = {
    "inside": (3.2, 4.7, 17.9, 12.1),
    "whole map": (0, 0, W, H),
    "on the left border": (0, 5, 6, 11),
    "on the top border": (5, 0, 11, 6),
    "on the right border": (W - 5, 5, W, 11),
    "on the bottom border": (5, H - 5, 11, H),
    "beyond the left border": (-7.3, 5, 6, 11),
    "beyond the top border": (5, -7.3, 11, 6),
    "beyond the right border": (W - 5, 5, W + 8.6, 11),
    "beyond the bottom border": (5, H - 5, 11, H + 8.6),
    "beyond every border": (-4, -6, W + 5, H + 3),
    "outside of the map": (W + 2, H + 3, W + 9, H + 5),
    "0.3 cells": (9.6, 7.1, 9.9, 7.4),
    "0.3 cells in a corner": (0, 0, 0.3, 0.3),
    "thin": (2, 3.4, 26, 3.5),
    "empty": (0, 0, 0, 0),
}


def boxes_and_maps() -> tuple[np.ndarray, np.ndarray]:
    boxes = np.array([list(BOXES.values())], "float32")
    maps = np.random.default_rng(1).normal(size=(1, len(BOXES), H, W)).astype("float32")
    return maps, boxes


def tensorflow_crops(maps: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Crop [n, h, w] with TensorFlow's corner-aligned op: half-pixel boxes, edges repeated by padding the maps."""
    pad = 12
    padded = np.pad(maps, ((0, 0), (pad, pad), (pad, pad)), mode="edge")[..., None]
    start, end = boxes[:, [1, 0]] + pad, boxes[:, [3, 2]] + pad  # y, x
    half_cell = (end - start) / (2 * M)
    last = np.array(padded.shape[1:3]) - 1
    corners = np.concatenate([(start - 0.5 + half_cell) / last, (end - 0.5 - half_cell) / last], axis=1)
    return tf.image.crop_and_resize(padded, corners, tf.range(len(maps)), (M, M))[..., 0].numpy()


@pytest.mark.parametrize("jit_compile", [False, True])
def test_crops_equal_tensorflow(jit_compile):
    maps, boxes = boxes_and_maps()
    crops = tf.function(crop_and_resize, jit_compile=jit_compile)(tf.constant(maps), tf.constant(boxes), M)
    for name, crop, expected in zip(BOXES, crops[0], tensorflow_crops(maps[0], boxes[0]), strict=True):
        np.testing.assert_allclose(crop, expected, atol=5e-5, err_msg=name)


def test_crops_equal_the_naive_oracle():
    maps, boxes = boxes_and_maps()
    crops = crop_and_resize(maps, boxes, M)
    for name, crop, plane, box in zip(BOXES, crops[0], maps[0], boxes[0], strict=True):
        np.testing.assert_allclose(crop, naive.crop_and_resize(plane, box, M), atol=5e-5, err_msg=name)


def test_samples_lie_at_cell_centres():
    # The map holds its own coordinate, so that a crop shows where it was read.
    ramp = np.broadcast_to(np.arange(W, dtype="float32") + 0.5, (1, 1, H, W))
    crop = crop_and_resize(ramp, np.array([[[4.0, 2.0, 12.0, 10.0]]], "float32"), 4)
    np.testing.assert_allclose(crop[0, 0], np.broadcast_to([5.0, 7.0, 9.0, 11.0], (4, 4)), atol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_gradient_equals_the_box_by_box_reference(shared, jit_compile):
    maps, boxes = boxes_and_maps()
    maps = maps[:, :1] if shared else maps
    upstream = np.random.default_rng(2).normal(size=(1, len(BOXES), M, M)).astype("float32")

    @tf.function(jit_compile=jit_compile)
    def gradient_of(maps):
        with tf.GradientTape() as tape:
            tape.watch(maps)
            total = tf.reduce_sum(crop_and_resize(maps, boxes, M) * upstream)
        return tape.gradient(total, maps)

    pairs = zip(upstream[0], boxes[0], strict=True)
    expected = np.stack([naive.crop_and_resize_gradient(gradient, box, (H, W)) for gradient, box in pairs])
    expected = expected.sum(0, keepdims=True) if shared else expected
    np.testing.assert_allclose(gradient_of(tf.constant(maps))[0], expected, atol=1e-4 * np.abs(expected).max())


def test_one_shared_map_equals_the_map_repeated():
    maps, boxes = boxes_and_maps()
    maps, boxes = maps.reshape(2, -1, H, W)[:, :1], boxes.reshape(2, -1, 4)
    repeated = np.repeat(maps, boxes.shape[1], axis=1)
    np.testing.assert_allclose(crop_and_resize(maps, boxes, M), crop_and_resize(repeated, boxes, M), atol=1e-5)


def test_row_that_is_not_finite_leaves_the_others_alone():
    maps, boxes = boxes_and_maps()
    broken = boxes.copy()
    broken[0, 3] = np.nan
    crops, expected = crop_and_resize(maps, broken, M).numpy(), crop_and_resize(maps, boxes, M).numpy()
    others = np.arange(len(BOXES)) != 3
    np.testing.assert_array_equal(crops[0, others], expected[0, others])


def test_dynamic_shapes():
    maps, boxes = boxes_and_maps()
    signature = [tf.TensorSpec([None] * 4, tf.float32), tf.TensorSpec([None, None, 4], tf.float32)]
    dynamic = tf.function(lambda maps, boxes: crop_and_resize(maps, boxes, M), input_signature=signature)
    np.testing.assert_allclose(dynamic(maps, boxes), crop_and_resize(maps, boxes, M), atol=1e-6)


def test_bfloat16_maps_are_cropped_in_float32():
    maps, boxes = boxes_and_maps()
    low = tf.cast(maps, "bfloat16")
    crops = crop_and_resize(low, boxes, M)
    assert crops.dtype == tf.float32
    np.testing.assert_array_equal(crops, crop_and_resize(tf.cast(low, "float32"), boxes, M))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_select_channels_takes_the_plane_of_each_class(jit_compile):
    rng = np.random.default_rng(3)
    maps, channels = rng.normal(size=(3, 5, 6, 4)).astype("float32"), rng.integers(0, 4, (3, 7)).astype("int32")
    planes = tf.function(select_channels, jit_compile=jit_compile)(tf.constant(maps), tf.constant(channels))
    for b in range(3):
        for n in range(7):
            np.testing.assert_array_equal(planes[b, n], maps[b, :, :, channels[b, n]])


@pytest.mark.parametrize(("side", "size"), [(32, 64), (32, 128), (8, 20), (24, 24), (32, 16)])
def test_resize_square_equals_tensorflow(side, size):
    maps = np.random.default_rng(4).normal(size=(2, 3, side, side)).astype("float32")
    resized = tf.function(resize_square, jit_compile=True)(tf.constant(maps), size)
    expected = tf.image.resize(maps.reshape(6, side, side, 1), (size, size), method="bilinear", antialias=False)
    np.testing.assert_allclose(tf.reshape(resized, expected.shape), expected, atol=1e-5)


def test_resize_square_upcasts_bfloat16():
    assert resize_square(tf.zeros((1, 1, 4, 4), "bfloat16"), 8).dtype == tf.float32
