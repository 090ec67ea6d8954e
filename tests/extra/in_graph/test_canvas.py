"""Canvases of the graph are those of the pipeline."""

import numpy as np
import pytest
import tensorflow as tf
from project_files import ROOT

from centermask_keras.config import load_config
from centermask_keras.data.samples.preprocess import preprocess_image
from centermask_keras.data.samples.transform import make_eval_transform
from centermask_keras.data.samples.transform import make_keep as make_keep_numpy
from centermask_keras.data.samples.transform import make_letterbox as make_letterbox_numpy
from centermask_keras.extra.in_graph.canvas import make_keep, make_letterbox, make_turned, to_original, warp
from centermask_keras.geometry.transform import apply_to_boxes, invert

TURNED = ["eval.resize=turned", "eval.batch_size=1"]


@pytest.mark.parametrize("canvas_hw", [(128, 128), (64, 160)])
@pytest.mark.parametrize("hw", [(1, 200), (200, 1), (90, 150), (128, 128), (33, 257), (500, 20)])
def test_letterbox_is_that_of_the_pipeline(hw, canvas_hw):
    image = np.random.default_rng(0).integers(0, 256, (*hw, 3), np.uint8)
    transform = make_letterbox(tf.constant(hw), canvas_hw).numpy()
    np.testing.assert_array_equal(transform, make_letterbox_numpy(hw, canvas_hw))
    canvas = warp(tf.constant(image), tf.constant(transform), canvas_hw).numpy()
    expected = preprocess_image(image, transform, canvas_hw)
    assert np.abs(canvas.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("hw", [(1, 200), (150, 90), (128, 128), (96, 64)])
@pytest.mark.parametrize("canvas_hw", ["[96, 128]", "[128, 96]", "[128, 128]"])
def test_turned_is_that_of_the_pipeline(hw, canvas_hw):
    config = load_config(ROOT / "configs" / "demo.json", [f"data.input_hw={canvas_hw}", *TURNED])
    transform, canvas = make_turned(tf.constant(hw), config.data.input_hw)
    expected, expected_hw = make_eval_transform(hw, config)
    np.testing.assert_array_equal(transform, expected)
    assert tuple(canvas.numpy()) == expected_hw


@pytest.mark.parametrize("hw", [(1, 200), (90, 150), (64, 96)])
def test_keep_is_that_of_the_pipeline(hw):
    image = np.random.default_rng(0).integers(0, 256, (*hw, 3), np.uint8)
    transform, canvas_hw = make_keep(tf.constant(hw), 32)
    expected, expected_hw = make_keep_numpy(hw, 32)
    np.testing.assert_array_equal(transform, expected)
    assert tuple(canvas_hw.numpy()) == expected_hw
    np.testing.assert_array_equal(
        warp(tf.constant(image), transform, canvas_hw), preprocess_image(image, expected, expected_hw)
    )


def test_boxes_come_back_as_in_the_pipeline():
    transform = np.array([[0.5, 0.25, 3.0, 0.0], [2.0, 2.0, 0.0, 7.0]])
    boxes = np.random.default_rng(0).uniform(0, 100, (2, 5, 4)).astype("float32")
    boxes[..., 2:] += boxes[..., :2]
    expected = [apply_to_boxes(invert(t), b) for t, b in zip(transform, boxes, strict=True)]
    np.testing.assert_allclose(to_original(tf.constant(boxes), tf.constant(transform)), expected, rtol=1e-5)


def test_long_images_take_no_more_memory_than_they_have_pixels():
    """A row of 4 million pixels on 512 rows of canvas would be 25 GB if the rows were made first."""
    for hw in ((1, 1 << 22), (1 << 22, 1)):
        transform = make_letterbox(tf.constant(hw), (512, 512))
        assert warp(tf.fill([*hw, 3], tf.constant(200, tf.uint8)), transform, (512, 512)).numpy().max() == 200
