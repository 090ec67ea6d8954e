"""Decoding gives back what the targets encode, and keeps candidates as a loop over locations does."""

import math

import numpy as np
import pytest
import tensorflow as tf

from centermask_keras.decode.fcos import decode_fcos
from centermask_keras.targets.fcos import encode_fcos

HW, CLASSES, LEAST = (256, 320), 4, 0.05
LEVELS_HW = [tuple(-(-side // stride) for side in HW) for stride in (8, 16, 32, 64, 128)]


def split(values):
    """Cut [B, T, F] into the levels [B, h, w, F]."""
    ends = np.cumsum([h * w for h, w in LEVELS_HW])[:-1]
    parts = np.split(values, ends, axis=1)
    return [part.reshape(len(values), *hw, -1) for part, hw in zip(parts, LEVELS_HW, strict=True)]


def perfect_outputs(boxes, classes):
    """Return the logits of a perfect network: class and centerness certain at the positives."""
    valid = np.ones(boxes.shape[:2], bool)
    targets = {k: np.asarray(v) for k, v in encode_fcos(boxes, classes, valid, levels_hw=LEVELS_HW).items()}
    logits = np.where(targets["positive"][..., None] & (np.arange(CLASSES) == targets["classes"][..., None]), 9.0, -9.0)
    centerness = np.clip(targets["centerness"], 1e-4, 1 - 1e-4)
    return (
        split(logits.astype("float32")),
        split(targets["distances"]),
        split(np.log(centerness / (1 - centerness))[..., None].astype("float32")),
    )


def test_decoded_targets_are_the_ground_truth():
    boxes = np.array(
        [
            [[10, 20, 40, 60], [100, 30, 200, 130], [8, 150, 48, 250], [60, 10, 310, 250]],
            [[3.5, 7.25, 30.5, 41.75], [150, 100, 290, 240], [200, 20, 260, 90], [90, 90, 120, 140]],
        ],
        "float32",
    )
    classes = np.array([[0, 1, 2, 3], [3, 3, 1, 0]], "int32")
    decoded = decode_fcos(*perfect_outputs(boxes, classes), num_detections=20, least_score=LEAST)
    found = {k: np.asarray(v) for k, v in decoded.items()}
    for row in range(2):
        assert found["valid"][row].sum() == 4
        decoded = found["boxes"][row][found["valid"][row]]
        order = [int(np.abs(decoded - box).max(axis=1).argmin()) for box in boxes[row]]
        assert sorted(order) == [0, 1, 2, 3]
        np.testing.assert_allclose(decoded[order], boxes[row], atol=1e-3)  # float32 at up to 320 pixels
        assert found["classes"][row][order].tolist() == classes[row].tolist()


def test_scores_are_the_root_of_class_times_centerness_and_unlikely_classes_do_not_count():
    class_logits = [np.full((1, *hw, 2), -20.0, "float32") for hw in LEVELS_HW]
    centerness = [np.zeros((1, *hw, 1), "float32") for hw in LEVELS_HW]
    distances = [np.ones((1, *hw, 4), "float32") for hw in LEVELS_HW]
    limit = math.log(0.05 / 0.95)
    class_logits[0][0, 3, 4, 1] = 2.0
    class_logits[1][0, 5, 6, 0] = limit + 1e-3
    class_logits[2][0, 1, 1, 0] = limit - 1e-3
    centerness[0][0, 3, 4] = 1.0
    decoded = decode_fcos(class_logits, distances, centerness, num_detections=5, least_score=LEAST)
    found = {k: np.asarray(v)[0] for k, v in decoded.items()}
    sigmoid = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    expected = [math.sqrt(sigmoid(2) * sigmoid(1)), math.sqrt(sigmoid(limit + 1e-3) / 2)]
    assert found["valid"].tolist() == [True, True, False, False, False]
    np.testing.assert_allclose(found["scores"][:2], expected, rtol=1e-5)
    assert found["classes"][:2].tolist() == [1, 0]
    first_level = LEVELS_HW[0][0] * LEVELS_HW[0][1]
    assert found["locations"][:2].tolist() == [3 * LEVELS_HW[0][1] + 4, first_level + 5 * LEVELS_HW[1][1] + 6]
    np.testing.assert_allclose(found["boxes"][0], [36 - 8, 28 - 8, 36 + 8, 28 + 8])
    np.testing.assert_allclose(found["boxes"][1], [104 - 16, 88 - 16, 104 + 16, 88 + 16])


def test_empty_boxes_take_no_place():
    """Early in training ReLU leaves many: they overlap nothing, and would fill all rows."""
    class_logits = [np.full((1, *hw, 1), -20.0, "float32") for hw in LEVELS_HW]
    centerness = [np.full((1, *hw, 1), 5.0, "float32") for hw in LEVELS_HW]
    distances = [np.zeros((1, *hw, 4), "float32") for hw in LEVELS_HW]
    class_logits[0][:] = 6.0
    class_logits[1][0, 2, 3] = 3.0
    distances[1][0, 2, 3] = 2.0
    found = decode_fcos(class_logits, distances, centerness, num_detections=5, least_score=LEAST)
    assert np.asarray(found["valid"]).tolist() == [[True, False, False, False, False]]


@pytest.mark.parametrize("jit_compile", [False, True], ids=["dynamic", "xla"])
def test_sizes_may_be_unknown_until_the_graph_runs(jit_compile):
    outputs = perfect_outputs(np.array([[[10, 20, 40, 60]]], "float32"), np.array([[2]], "int32"))
    signature = [[tf.TensorSpec([None, None, None, level.shape[-1]]) for level in part] for part in outputs]
    decode = tf.function(
        lambda *parts: decode_fcos(*parts, num_detections=7, least_score=LEAST),
        input_signature=signature,
        jit_compile=jit_compile,
    )
    found = decode(*outputs)
    assert found["boxes"].shape[1] == 7 and int(tf.reduce_sum(tf.cast(found["valid"], "int32"))) == 1
    np.testing.assert_allclose(found["boxes"][0, 0], [10, 20, 40, 60], atol=1e-3)
