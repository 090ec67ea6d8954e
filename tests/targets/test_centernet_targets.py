"""CenterNet targets: equal to the naive oracle, deaf to padded rows, without a map per object."""

import naive
import numpy as np
import pytest
import tensorflow as tf

from centermask_keras.targets.centernet import encode_centernet, gaussian_radius

STRIDE, C = 4, 3


def encode(boxes, classes, valid, grid_hw, *, jit_compile=False):
    @tf.function(jit_compile=jit_compile)
    def compiled(boxes, classes, valid):
        return encode_centernet(boxes, classes, valid, grid_hw=grid_hw, stride=STRIDE, num_classes=C)

    return compiled(tf.constant(boxes, "float32"), tf.constant(classes, "int32"), tf.constant(valid))


def random_objects(batch: int, count: int, grid_hw: tuple[int, int]):
    rng = np.random.default_rng(0)
    corners = rng.uniform((0, 0), (grid_hw[1] * STRIDE, grid_hw[0] * STRIDE), (batch, count, 2, 2))
    boxes = np.concatenate([corners.min(2), corners.max(2)], -1).astype("float32")
    return boxes, rng.integers(0, C, (batch, count)), rng.random((batch, count)) < 0.8


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("grid_hw", [(20, 28), (64, 16)])
def test_targets_equal_the_naive_oracle(grid_hw, jit_compile):
    boxes, classes, valid = random_objects(2, 9, grid_hw)
    boxes[0, 0] = (0, 0, grid_hw[1] * STRIDE, grid_hw[0] * STRIDE)  # the largest Gaussian there is
    valid[0, 0] = True
    targets = encode(boxes, classes, valid, grid_hw, jit_compile=jit_compile)
    for b in range(2):
        expected = naive.heatmap(boxes[b], classes[b], valid[b], grid_hw, STRIDE, C)
        np.testing.assert_allclose(targets["heatmap"][b], expected, atol=1e-6)
        for n in np.flatnonzero(valid[b]):
            cell, offset, size = naive.encode_center(boxes[b, n], grid_hw, STRIDE)
            assert int(targets["cells"][b, n]) == cell
            np.testing.assert_allclose(targets["offset"][b, n], offset, atol=1e-5)
            np.testing.assert_allclose(targets["size"][b, n], size, atol=1e-5)
            # Exactly 1, or the loss would take the centre for a negative.
            assert targets["heatmap"][b, cell // grid_hw[1], cell % grid_hw[1], classes[b, n]] == 1


@pytest.mark.parametrize("jit_compile", [False, True])
def test_radius_equals_the_released_code_for_every_size(jit_compile):
    height, width = (axis.astype("float32") for axis in np.meshgrid(np.arange(1, 193), np.arange(1, 193)))
    radius = tf.function(gaussian_radius, jit_compile=jit_compile)(tf.constant(height), tf.constant(width))
    expected = np.vectorize(naive.gaussian_radius)(height, width)
    np.testing.assert_array_equal(radius, expected)


@pytest.mark.parametrize(("height", "width", "radius"), [(8, 8, 2), (16, 16, 4), (32, 32, 8), (64, 64, 17)])
def test_published_radii(height, width, radius):
    assert float(gaussian_radius(height, width)) == radius


def test_radius_takes_the_next_whole_size_and_is_zero_for_an_empty_box():
    np.testing.assert_array_equal(
        gaussian_radius([6.1, 0.0, 0.0], [7.1, 0.0, 5.0]), [naive.gaussian_radius(7, 8), 0, 0]
    )


@pytest.mark.parametrize("jit_compile", [False, True])
def test_padded_rows_leave_no_trace(jit_compile):
    grid_hw = (20, 28)
    boxes, classes, _ = random_objects(2, 6, grid_hw)
    valid = np.array([[True, True, False, False, False, False], [False] * 6])
    clean = encode(boxes * valid[..., None], classes * valid, valid, grid_hw, jit_compile=jit_compile)
    boxes[~valid], classes[~valid] = (-1e30, 3e37, 1e20, -7), -12345
    soiled = encode(boxes, classes, valid, grid_hw, jit_compile=jit_compile)
    for key, value in clean.items():
        np.testing.assert_array_equal(soiled[key], value, err_msg=key)
    assert not np.any(clean["heatmap"][1])  # an image without objects
    assert np.sum(clean["heatmap"][0] == 1) == 2
    for key in ("cells", "offset", "size"):
        assert not np.any(clean[key].numpy()[~valid])


def test_no_tensor_holds_a_map_per_object():
    count, grid_hw = 128, (128, 128)
    boxes, classes, valid = random_objects(1, count, grid_hw)

    @tf.function
    def compiled(boxes, classes, valid):
        return encode_centernet(boxes, classes, valid, grid_hw=grid_hw, stride=STRIDE, num_classes=C)

    graph = compiled.get_concrete_function(boxes, classes.astype("int32"), valid).graph
    sizes = [output.shape.num_elements() or 0 for op in graph.get_operations() for output in op.outputs]
    assert max(sizes) < count * grid_hw[0] * grid_hw[1] / 3


def test_dynamic_batch():
    grid_hw = (20, 28)
    boxes, classes, valid = random_objects(3, 5, grid_hw)
    signature = [
        tf.TensorSpec([None, 5, *rest], dtype) for rest, dtype in (([4], "float32"), ([], "int32"), ([], bool))
    ]

    @tf.function(input_signature=signature)
    def dynamic(boxes, classes, valid):
        return encode_centernet(boxes, classes, valid, grid_hw=grid_hw, stride=STRIDE, num_classes=C)

    expected = encode(boxes, classes, valid, grid_hw)
    actual = dynamic(boxes, classes.astype("int32"), valid)
    np.testing.assert_array_equal(actual["heatmap"], expected["heatmap"])


def test_targets_are_float32():
    boxes = tf.constant([[[0, 0, 16, 16]]], "bfloat16")
    targets = encode_centernet(boxes, [[0]], tf.constant([[True]]), grid_hw=(8, 8), stride=STRIDE, num_classes=C)
    assert {key: value.dtype.name for key, value in targets.items()} == {
        "heatmap": "float32",
        "cells": "int32",
        "offset": "float32",
        "size": "float32",
        "valid": "bool",
    }
