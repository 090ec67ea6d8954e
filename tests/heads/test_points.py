"""Point heads equal the dense head with the same weights at every cell, borders included: values and gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from centermask_keras.heads.dense import build_dense_head
from centermask_keras.heads.points import PointHead
from centermask_keras.ops.gather_patches import gather_patches

BATCH, HEIGHT, WIDTH, CHANNELS, MID, OUT = 2, 4, 5, 6, 16, 7


@pytest.fixture
def features() -> tf.Tensor:
    return tf.constant(np.random.standard_normal((BATCH, HEIGHT, WIDTH, CHANNELS)).astype("float32"))


@pytest.fixture
def cells() -> np.ndarray:
    """Every cell of each image once, in another order per image, and one cell twice."""
    orders = [np.append(np.random.permutation(HEIGHT * WIDTH), 0) for _ in range(BATCH)]
    return np.stack(orders).astype("int32")


def build_pair() -> tuple[keras.Model, PointHead]:
    """Build a dense head and a point head with the same random weights, biases included."""
    inputs = keras.Input((None, None, CHANNELS))
    dense = keras.Model(inputs, build_dense_head(inputs, mid_channels=MID, out_channels=OUT, bias=0.5, name="size"))
    for weight in dense.trainable_variables:
        weight.assign(np.random.standard_normal(weight.shape) * 0.3)
    head = PointHead(MID, OUT)
    head.build((None, None, 3, 3, CHANNELS))
    kernel, bias, project, out_bias = (weight.numpy() for weight in dense.weights)
    for target, value in zip(point_weights(head), (kernel, bias, project[0, 0], out_bias), strict=True):
        target.assign(value)
    return dense, head


def point_weights(head: PointHead) -> list[keras.Variable]:
    return [head.kernel, head.bias, head.project.kernel, head.project.bias]


def read_dense(dense: keras.Model, features: tf.Tensor, cells: np.ndarray) -> tf.Tensor:
    return tf.gather(tf.reshape(dense(features), (BATCH, -1, OUT)), cells, batch_dims=1)


def test_values_equal_the_dense_head_at_every_cell(features, cells):
    dense, head = build_pair()
    expected = read_dense(dense, features, cells)
    np.testing.assert_allclose(head(gather_patches(features, cells)), expected, atol=1e-5)


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "xla"])
def test_gradients_equal_those_of_the_dense_head(features, cells, compiled):
    dense, head = build_pair()
    upstream = np.random.standard_normal((*cells.shape, OUT)).astype("float32")

    def gradients(read, variables, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(read(x) * upstream)
        return tape.gradient(loss, [x, *variables])

    expected = gradients(lambda x: read_dense(dense, x, cells), [v.value for v in dense.trainable_variables], features)
    at_points = tf.function(
        lambda x: gradients(lambda y: head(gather_patches(y, cells)), [v.value for v in point_weights(head)], x),
        jit_compile=compiled,
    )
    received = at_points(features)
    names = ("features", "kernel", "bias", "project kernel", "project bias")
    for name, one, other in zip(names, expected, received, strict=True):
        np.testing.assert_allclose(
            tf.reshape(other, one.shape), one, atol=1e-5 * np.abs(one).max(), rtol=1e-4, err_msg=name
        )


def test_output_is_float32_under_mixed_precision(features, cells):
    head = PointHead(MID, OUT, dtype="mixed_bfloat16")
    patches = keras.Input((None, 3, 3, CHANNELS), dtype="bfloat16")
    model = keras.Model(patches, head(patches))
    assert model.output.dtype == "float32" and model.output.shape == (None, None, OUT)
    head.project.bias.assign(np.full(OUT, 2.19))  # no bfloat16
    received = model(tf.zeros((BATCH, 4, 3, 3, CHANNELS)))
    assert received.dtype == tf.float32
    np.testing.assert_allclose(received, 2.19, rtol=1e-6)


def test_no_points_give_no_output(features):
    patches = gather_patches(features, np.zeros((BATCH, 0), "int32"))
    assert PointHead(MID, OUT)(patches).shape == (BATCH, 0, OUT)


def test_new_heads_differ(features, cells):
    """Each head draws its own weights: a shared initialiser would give equal ones."""
    patches = gather_patches(features, cells)
    assert np.abs(PointHead(MID, OUT)(patches) - PointHead(MID, OUT)(patches)).max() > 0.01
