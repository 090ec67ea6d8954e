"""Mobile backbones: the published trunk, counted by hand, features of stride 4, and nothing but TFLite builtins."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from centermask_keras.backbones.mobile import build_mobilenet_v3_large, build_mobilenet_v3_small

BUILDERS = {"small": build_mobilenet_v3_small, "large": build_mobilenet_v3_large}
# Kernel side, expanded channels, output channels and squeeze-and-excite of every block: Howard et al. 2019, Tables 1
# (large) and 2 (small). The first block has no expansion layer where input and expanded channels are equal.
BLOCKS = {
    "small": [
        *[(3, 16, 16, True), (3, 72, 24, False), (3, 88, 24, False), (5, 96, 40, True), (5, 240, 40, True)],
        *[(5, 240, 40, True), (5, 120, 48, True), (5, 144, 48, True)],
        *[(5, 288, 96, True), (5, 576, 96, True), (5, 576, 96, True)],
    ],
    "large": [
        *[(3, 16, 16, False), (3, 64, 24, False), (3, 72, 24, False)],
        *[(5, 72, 40, True), (5, 120, 40, True), (5, 120, 40, True)],
        *[(3, 240, 80, False), (3, 200, 80, False), (3, 184, 80, False), (3, 184, 80, False)],
        *[(3, 480, 112, True), (3, 672, 112, True)],
        *[(5, 672, 160, True), (5, 960, 160, True), (5, 960, 160, True)],
    ],
}
# Channels of the trunk's levels of stride 4, 8, 16 and 32.
LEVELS = {"small": (16, 24, 48, 96), "large": (24, 40, 112, 160)}


def round_to_8(channels: float) -> int:
    """Round to a multiple of 8, not down by more than a tenth (the rule of the paper's code)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def count_trunk(kind: str) -> int:
    total, inputs = 27 * 16 + 4 * 16, 16
    for side, expanded, outputs, squeezed in BLOCKS[kind]:
        if expanded != inputs:
            total += inputs * expanded + 4 * expanded
        total += side * side * expanded + 4 * expanded
        if squeezed:
            narrow = round_to_8(expanded / 4)
            total += 2 * expanded * narrow + expanded + narrow
        total += expanded * outputs + 4 * outputs
        inputs = outputs
    return total


def count_way_up(kind: str, channels: int = 64) -> int:
    projections = sum(inputs * channels + 4 * channels for inputs in LEVELS[kind])
    merge = 9 * channels + 4 * channels + channels * channels + 4 * channels
    return projections + 3 * merge


@pytest.mark.parametrize("kind", BUILDERS)
def test_mobile_has_the_weights_counted_by_hand(kind):
    assert BUILDERS[kind]().count_params() == count_trunk(kind) + count_way_up(kind)


@pytest.mark.parametrize("kind", BUILDERS)
def test_the_image_is_normalised_once(kind):
    """The detector normalises; the trunk must not rescale from 0..255 as well."""
    assert not [layer for layer in BUILDERS[kind]().layers if isinstance(layer, keras.layers.Rescaling)]


def test_features_have_stride_4_at_any_multiple_of_32():
    model = build_mobilenet_v3_small()
    dynamic = tf.function(model, input_signature=[tf.TensorSpec([None, None, None, 3])])
    for height, width in ((32, 96), (64, 32)):
        features = dynamic(tf.random.normal((2, height, width, 3)))["P2"]
        assert features.shape == (2, height // 4, width // 4, 64) and np.isfinite(features).all()


def test_every_weight_learns():
    model = build_mobilenet_v3_small()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(tf.random.normal((2, 64, 64, 3)), training=True)["P2"] ** 2)
    for weight, gradient in zip(model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True):
        assert np.isfinite(gradient).all() and np.any(gradient != 0), weight.path


@pytest.mark.slow
@pytest.mark.parametrize("kind", BUILDERS)
def test_the_network_converts_to_tflite_builtins(kind):
    converter = tf.lite.TFLiteConverter.from_keras_model(BUILDERS[kind]())
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]  # anything else fails the conversion
    assert len(converter.convert()) > 1e6
