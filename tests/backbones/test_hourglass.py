"""Hourglass networks have the released structure, counted by hand, and give features for each stack."""

import numpy as np
import pytest
import tensorflow as tf

from centermask_keras.backbones.hourglass import build_hourglass104, build_hourglass_small


def conv(side: int, inputs: int, outputs: int) -> int:
    """Weights of a convolution without bias and of its normalisation."""
    return side * side * inputs * outputs + 4 * outputs


def residual(inputs: int, outputs: int, *, stride: int = 1) -> int:
    projected = stride > 1 or inputs != outputs
    return conv(3, inputs, outputs) + conv(3, outputs, outputs) + (conv(1, inputs, outputs) if projected else 0)


# Hourglass-104, level by level from the outside: channels here and one level further inside. Two blocks in each chain.
LEVELS_104 = [(256, 256), (256, 384), (384, 384), (384, 384), (384, 512)]
INNERMOST_104 = 4 * residual(512, 512)


def one_hourglass104() -> int:
    total = INNERMOST_104
    for outer, inner in LEVELS_104:
        total += 2 * residual(outer, outer)  # beside
        total += residual(outer, inner, stride=2) + residual(inner, inner)  # down
        total += residual(inner, inner) + residual(inner, outer)  # and up again
    return total


@pytest.fixture(scope="module")
def hourglass104():
    return build_hourglass104()


@pytest.mark.slow
def test_hourglass104_has_the_weights_counted_by_hand(hourglass104):
    stem = conv(7, 3, 128) + residual(128, 256, stride=2)
    stacks = 2 * (one_hourglass104() + conv(3, 256, 256))
    between = 2 * conv(1, 256, 256) + residual(256, 256)
    # The weights and statistics of the PyTorch release without its heads: 187,817,856.
    assert stem + stacks + between == 187_817_856
    assert hourglass104.count_params() == 187_817_856


@pytest.mark.slow
def test_hourglass104_names_its_layers_after_the_released_checkpoint(hourglass104):
    shapes = {
        "pre_0_conv": (7, 7, 3, 128),
        "pre_1_skip_0": (1, 1, 128, 256),
        "kps_0_up1_1_conv2": (3, 3, 256, 256),
        "kps_0_low2_low1_0_skip_0": (1, 1, 256, 384),
        "kps_1_low2_low2_low2_low2_low1_0_conv1": (3, 3, 384, 512),
        "kps_1_low2_low2_low2_low2_low2_3_conv2": (3, 3, 512, 512),
        "kps_1_low2_low2_low2_low2_low3_1_conv1": (3, 3, 512, 384),
        "cnvs_1_conv": (3, 3, 256, 256),
        "inters_0_conv1": (3, 3, 256, 256),
        "inters__0_0": (1, 1, 256, 256),
        "cnvs__0_0": (1, 1, 256, 256),
    }
    assert {name: tuple(hourglass104.get_layer(name).kernel.shape) for name in shapes} == shapes


def test_both_stacks_give_features_of_stride_4_at_any_multiple_of_64():
    model = build_hourglass_small()
    dynamic = tf.function(model, input_signature=[tf.TensorSpec([None, None, None, 3])])
    for height, width in ((64, 128), (128, 64)):
        levels = dynamic(tf.random.normal((2, height, width, 3)))
        for features in (levels["P2"], *levels["intermediate"]):
            assert features.shape == (2, height // 4, width // 4, 64)
            assert np.isfinite(features).all()
        assert len(levels["intermediate"]) == 1
        assert np.abs(levels["P2"] - levels["intermediate"][0]).max() > 1e-3


def test_hourglass_small_is_small():
    assert 4e6 < build_hourglass_small().count_params() < 6e6


@pytest.mark.slow
def test_every_weight_learns_under_xla():
    model = build_hourglass_small()

    @tf.function(jit_compile=True)
    def gradients(images):
        with tf.GradientTape() as tape:
            levels = model(images, training=True)
            loss = sum(tf.reduce_sum(features**2) for features in (levels["P2"], *levels["intermediate"]))
        return tape.gradient(loss, model.trainable_variables)

    for weight, gradient in zip(model.trainable_variables, gradients(tf.random.normal((2, 128, 128, 3))), strict=True):
        assert np.isfinite(gradient).all() and np.any(gradient != 0), weight.path
