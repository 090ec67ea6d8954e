"""Class planes to a dense map: equal to the naive oracle, exact for every coverage."""

import naive
import numpy as np
import pytest
import tensorflow as tf

from centermask_keras.targets.saliency import class_planes_to_map

B, P, H, W, C = 3, 4, 10, 14, 7


def random_planes():
    rng = np.random.default_rng(0)
    planes = rng.integers(0, 256, (B, P, H, W), dtype="uint8")
    classes = np.stack([rng.permutation(C)[:P] for _ in range(B)]).astype("int32")
    valid = np.array([[True, True, True, False], [True] * 4, [False] * 4])
    return planes, classes, valid


@pytest.mark.parametrize("jit_compile", [False, True])
def test_map_equals_the_naive_oracle(jit_compile):
    planes, classes, valid = random_planes()
    compiled = tf.function(class_planes_to_map, jit_compile=jit_compile)
    dense = compiled(tf.constant(planes), tf.constant(classes), tf.constant(valid), C)
    assert dense.dtype == tf.uint8
    for b in range(B):
        np.testing.assert_array_equal(dense[b], naive.class_planes_to_map(planes[b], classes[b], valid[b], C))


def test_every_coverage_survives():
    planes = np.arange(256, dtype="uint8").reshape(1, 1, 16, 16)
    dense = class_planes_to_map(planes, np.array([[1]], "int32"), np.array([[True]]), 2)
    np.testing.assert_array_equal(dense[0, :, :, 1], planes[0, 0])
    assert not np.any(dense[..., 0])


def test_padded_planes_leave_no_trace():
    planes, classes, valid = random_planes()
    clean = class_planes_to_map(planes * valid[..., None, None], classes * valid, valid, C)
    classes[~valid] = -99
    np.testing.assert_array_equal(class_planes_to_map(planes, classes, valid, C), clean)
    assert not np.any(clean[2])


def test_class_agnostic_is_one_plane_in_one_channel():
    planes, _, _ = random_planes()
    dense = class_planes_to_map(planes[:, :1], np.zeros((B, 1), "int32"), np.ones((B, 1), bool), 1)
    np.testing.assert_array_equal(dense[..., 0], planes[:, 0])
