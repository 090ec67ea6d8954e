"""Decoding inverts encoding: the ground truth comes back, and nothing else does."""

import numpy as np
import pytest
import tensorflow as tf

from centermask_keras.decode.centernet import decode_centernet
from centermask_keras.targets.centernet import encode_centernet

GRID_HW, STRIDE, C, K = (24, 32), 4, 3, 20


def ground_truth(batch: int = 3, count: int = 8):
    """Return objects of different cells; the last image has none."""
    rng = np.random.default_rng(5)
    boxes = np.zeros((batch, count, 4), "float32")
    for b in range(batch):
        # No two centres in neighbouring cells of one class: cells with even coordinates, each once.
        cells = rng.permutation(GRID_HW[0] * GRID_HW[1] // 4)[:count]
        i, j = 2 * (cells // (GRID_HW[1] // 2)), 2 * (cells % (GRID_HW[1] // 2))
        center = (np.stack([j, i], -1) + rng.uniform(0, 1, (count, 2))) * STRIDE
        half = rng.uniform(0.5, 30, (count, 2))
        boxes[b] = np.concatenate([center - half, center + half], -1)
    valid = rng.random((batch, count)) < 0.8
    valid[-1] = False
    return boxes, rng.integers(0, C, (batch, count)).astype("int32"), valid


def read_targets(targets):
    """Return `read_points` of a network that has learnt the targets: zeros away from the centres."""

    def dense(values):
        shape = (values.shape[0], GRID_HW[0] * GRID_HW[1], values.shape[-1])
        image = tf.repeat(tf.range(values.shape[0])[:, None], values.shape[1], axis=1)
        return tf.tensor_scatter_nd_max(tf.zeros(shape), tf.stack([image, targets["cells"]], -1), values)

    def read_points(cells):
        read = {key: tf.gather(dense(targets[key]), cells, batch_dims=1) for key in ("offset", "size")}
        return {**read, "local_shape_logits": tf.repeat(tf.cast(cells, "float32")[..., None], 4, axis=-1)}

    return read_points


@pytest.mark.parametrize("jit_compile", [False, True])
def test_encode_then_decode_returns_the_ground_truth(jit_compile):
    boxes, classes, valid = ground_truth()

    @tf.function(jit_compile=jit_compile)
    def round_trip(boxes, classes, valid):
        targets = encode_centernet(boxes, classes, valid, grid_hw=GRID_HW, stride=STRIDE, num_classes=C)
        # Where the heatmap is 0 lies a plateau, and every cell of a plateau is a peak: their size is 0, so not valid.
        logits = 20 * targets["heatmap"] - 10
        return decode_centernet(logits, stride=STRIDE, num_detections=K, read_points=read_targets(targets))

    decoded = {key: value.numpy() for key, value in round_trip(boxes, classes, valid).items()}
    for b in range(len(boxes)):
        count = valid[b].sum()
        assert decoded["valid"][b].sum() == count
        assert decoded["valid"][b, :count].all()  # the objects are the strongest
        found = np.concatenate([decoded["classes"][b, :count, None], decoded["boxes"][b, :count]], axis=1)
        expected = np.concatenate([classes[b, :, None], boxes[b]], axis=1)[valid[b]]
        order, expected_order = np.lexsort(found.round(2).T), np.lexsort(expected.round(2).T)
        np.testing.assert_allclose(found[order], expected[expected_order], atol=1e-3)
    np.testing.assert_array_equal(decoded["local_shape_logits"][..., 0], decoded["cells"])


def constant_points(size, offset=(0.5, 0.5)):
    def read_points(cells):
        return {key: tf.broadcast_to(value, (*cells.shape, 2)) for key, value in (("offset", offset), ("size", size))}

    return read_points


def one_peak() -> np.ndarray:
    logits = np.full((1, 6, 8, C), -np.inf, "float32")
    logits[0, 4, 3, 2] = 2
    return logits


def test_one_peak_by_hand():
    decoded = decode_centernet(one_peak(), stride=4, num_detections=3, read_points=constant_points((2.0, 3.0)))
    # Centre ((3 + .5) 4, (4 + .5) 4) = (14, 18); size (8, 12).
    np.testing.assert_allclose(decoded["boxes"][0, 0], [10, 12, 18, 24])
    np.testing.assert_allclose(decoded["scores"][0], [1 / (1 + np.exp(-2)), 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(decoded["classes"][0], [2, 0, 0])
    np.testing.assert_array_equal(decoded["cells"][0], [4 * 8 + 3, 0, 0])
    np.testing.assert_array_equal(decoded["valid"][0], [True, False, False])
    assert "local_shape_logits" not in decoded


@pytest.mark.parametrize("size", [(0.0, 3.0), (2.0, -1.0), (np.nan, 3.0)])
def test_a_box_without_area_is_not_valid(size):
    decoded = decode_centernet(one_peak(), stride=4, num_detections=3, read_points=constant_points(size))
    assert not np.any(decoded["valid"])


def test_an_image_without_any_score_has_no_detection():
    logits = np.full((2, 6, 8, C), -200, "float32")
    decoded = decode_centernet(logits, stride=4, num_detections=3, read_points=constant_points((2.0, 3.0)))
    assert not np.any(decoded["valid"])
    assert np.all(np.isfinite(decoded["boxes"]))


def test_dynamic_shapes_give_the_same():
    boxes, classes, valid = ground_truth()
    targets = encode_centernet(boxes, classes, valid, grid_hw=GRID_HW, stride=STRIDE, num_classes=C)
    read_points = read_targets(targets)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, C], tf.float32)])
    def dynamic(logits):
        return decode_centernet(logits, stride=STRIDE, num_detections=K, read_points=read_points)

    logits = 20 * targets["heatmap"] - 10
    expected = decode_centernet(logits, stride=STRIDE, num_detections=K, read_points=read_points)
    for key, value in dynamic(logits).items():
        np.testing.assert_array_equal(value, expected[key], err_msg=key)


def test_bfloat16_points_give_float32_boxes():
    def read_points(cells):
        return {key: tf.cast(value, "bfloat16") for key, value in constant_points((2.0, 3.0))(cells).items()}

    decoded = decode_centernet(one_peak(), stride=4, num_detections=3, read_points=read_points)
    assert decoded["boxes"].dtype == decoded["scores"].dtype == tf.float32
    np.testing.assert_allclose(decoded["boxes"][0, 0], [10, 12, 18, 24])
