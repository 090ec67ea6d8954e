"""DLA networks have the published structure, counted by hand, and upsample like a transposed convolution."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from centermask_keras.backbones import BACKBONES
from centermask_keras.backbones.dla import BilinearUpsampling, build_dla34, build_dla_small
from centermask_keras.config.sections import DEFORMABLE_BACKBONES

# Kernel side, input channels, output channels of every convolution of the encoder; each is followed by a normalisation.
ENCODER_34 = [
    *[(7, 3, 16), (3, 16, 16), (3, 16, 32)],  # base layer, level 0, level 1
    *[(1, 32, 64), (3, 32, 64), (3, 64, 64), (3, 64, 64), (3, 64, 64), (1, 128, 64)],  # level 2
    *[(1, 64, 128), (3, 64, 128), (3, 128, 128), (3, 128, 128), (3, 128, 128), (1, 256, 128)],  # level 3, tree 1
    *[(3, 128, 128), (3, 128, 128), (3, 128, 128), (3, 128, 128), (1, 448, 128)],  # level 3, tree 2
    *[(1, 128, 256), (3, 128, 256), (3, 256, 256), (3, 256, 256), (3, 256, 256), (1, 512, 256)],  # level 4, tree 1
    *[(3, 256, 256), (3, 256, 256), (3, 256, 256), (3, 256, 256), (1, 896, 256)],  # level 4, tree 2
    *[(1, 256, 512), (3, 256, 512), (3, 512, 512), (3, 512, 512), (3, 512, 512), (1, 1280, 512)],  # level 5
]
# Input channels, output channels and upsampling factor of every step of the decoder.
DECODER_34 = [
    (512, 256, 2),  # ida 0
    *[(256, 128, 2), (256, 128, 2)],  # ida 1
    *[(128, 64, 2), (128, 64, 2), (128, 64, 2)],  # ida 2
    *[(128, 64, 2), (256, 64, 4)],  # to stride 4
]


def count_by_hand(*, deformable: bool) -> int:
    """Count all weights: a normalisation has 4 per channel, a deformable convolution 27 inner channels and biases."""
    total = sum(side * side * inputs * outputs + 4 * outputs for side, inputs, outputs in ENCODER_34)
    for inputs, outputs, factor in DECODER_34:
        for channels in (inputs, outputs):  # projection, node
            total += 9 * channels * outputs + 4 * outputs
            total += (9 * channels * 27 + 27 + outputs) if deformable else 0
        total += (2 * factor) ** 2 * outputs
    return total


def naive_transposed_convolution(features: np.ndarray, kernel: np.ndarray, factor: int) -> np.ndarray:
    """Spread every value over a 2f x 2f window at stride f and cut f / 2 off every side."""
    batch, height, width, channels = features.shape
    output = np.zeros((batch, (height + 1) * factor, (width + 1) * factor, channels))
    for i, j in np.ndindex(height, width):
        window = output[:, i * factor : (i + 2) * factor, j * factor : (j + 2) * factor]
        window += features[:, i, j][:, None, None] * kernel
    half = factor // 2
    return output[:, half:-half, half:-half]


@pytest.mark.parametrize("deformable", [True, False], ids=["deformable", "plain"])
def test_dla34_has_the_weights_counted_by_hand(deformable):
    assert build_dla34(deformable=deformable).count_params() == count_by_hand(deformable=deformable)


def test_dla34_names_its_layers_after_the_released_checkpoint():
    model = build_dla34(deformable=True)
    shapes = {
        "base_base_layer_0": (7, 7, 3, 16),
        "base_level2_project_0": (1, 1, 32, 64),
        "base_level3_tree1_tree1_conv1": (3, 3, 64, 128),
        "base_level3_tree2_root_conv": (1, 1, 448, 128),
        "base_level4_tree2_root_conv": (1, 1, 896, 256),
        "base_level5_root_conv": (1, 1, 1280, 512),
        "dla_up_ida_0_proj_1_conv": (3, 3, 512, 256),
        "dla_up_ida_2_node_3_conv": (3, 3, 64, 64),
        "ida_up_proj_2_conv": (3, 3, 256, 64),
        "ida_up_up_2": (8, 8, 64),
    }
    assert {name: tuple(model.get_layer(name).kernel.shape) for name in shapes} == shapes
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(norms) == len(ENCODER_34) + 16
    assert {(norm.momentum, norm.epsilon) for norm in norms} == {(0.9, 1e-5)}
    assert {"base_base_layer_1", "base_level2_tree1_bn2", "dla_up_ida_1_node_2_actf_0"} <= {n.name for n in norms}


def test_dla_small_is_small():
    assert 0.5e6 < build_dla_small(deformable=False).count_params() < 1.0e6


@pytest.mark.parametrize("name", DEFORMABLE_BACKBONES)
def test_strided_convolutions_are_padded_evenly(name):
    model = BACKBONES[name](deformable=False)
    strided = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D) and layer.strides == (2, 2)]
    assert strided
    seen = keras.Model(model.input, [layer.input for layer in strided])(np.ones((1, 64, 64, 3), "float32"))
    for layer, padded in zip(strided, seen, strict=True):
        border = layer.kernel_size[0] // 2
        outside = np.pad(np.zeros(np.array(padded.shape[1:3]) - 2 * border), border, constant_values=1) == 1
        values = np.abs(padded[0].numpy()).sum(axis=-1)
        assert layer.padding == "valid" and np.all(values[outside] == 0) and np.any(values[~outside] > 0)


@pytest.mark.parametrize("deformable", [True, False], ids=["deformable", "plain"])
@pytest.mark.parametrize("name", ["dla_small", pytest.param("dla34", marks=pytest.mark.slow)])
def test_features_have_stride_4_for_any_multiple_of_32(name, deformable):
    model = BACKBONES[name](deformable=deformable)
    channels = model.output["P2"].shape[-1]
    dynamic = tf.function(model, input_signature=[tf.TensorSpec([None, None, None, 3])])
    for height, width in ((32, 96), (64, 32)):
        features = dynamic(tf.random.normal((2, height, width, 3)))["P2"]
        assert features.shape == (2, height // 4, width // 4, channels)
        assert np.isfinite(features).all()


@pytest.mark.slow
@pytest.mark.parametrize("deformable", [True, False], ids=["deformable", "plain"])
@pytest.mark.parametrize("name", DEFORMABLE_BACKBONES)
def test_every_weight_learns_under_xla_and_bfloat16(name, deformable):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = BACKBONES[name](deformable=deformable)
    finally:
        keras.config.set_dtype_policy("float32")
    weights = model.trainable_variables

    @tf.function(jit_compile=True)
    def gradients(images):
        with tf.GradientTape() as tape:
            features = model(images, training=True)["P2"]
            loss = tf.reduce_sum(tf.cast(features, "float32") ** 2)
        return features, tape.gradient(loss, weights)

    features, received = gradients(tf.random.normal((2, 64, 64, 3)))
    assert features.dtype == tf.bfloat16
    for weight, gradient in zip(weights, received, strict=True):
        assert np.isfinite(gradient).all() and np.any(gradient != 0), weight.path


def test_weights_survive_saving(tmp_path):
    first, second = build_dla_small(deformable=True), build_dla_small(deformable=True)
    images = np.random.standard_normal((1, 64, 64, 3)).astype("float32")
    before = first(images)["P2"]
    assert np.abs(before - second(images)["P2"]).max() > 0.01
    first.save_weights(tmp_path / "model.weights.h5")
    second.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(second(images)["P2"], before)


@pytest.mark.parametrize("factor", [2, 4])
def test_upsampling_equals_a_transposed_convolution_of_each_channel(factor):
    features = np.random.standard_normal((2, 3, 4, 5)).astype("float32")
    layer = BilinearUpsampling(factor)
    layer.build(features.shape)
    layer.kernel.assign(np.random.standard_normal(layer.kernel.shape))
    expected = naive_transposed_convolution(features, layer.kernel.numpy(), factor)
    np.testing.assert_allclose(layer(features), expected, atol=1e-5)


@pytest.mark.parametrize("factor", [2, 4])
def test_upsampling_starts_as_bilinear_interpolation(factor):
    features = np.random.standard_normal((1, 5, 6, 3)).astype("float32")
    size = (5 * factor, 6 * factor)
    expected = keras.ops.image.resize(features, size, interpolation="bilinear")
    inside = slice(factor // 2, -(factor // 2))  # at the border the map is continued with zeros
    received = BilinearUpsampling(factor)(features)
    np.testing.assert_allclose(received[:, inside, inside], expected[:, inside, inside], atol=1e-5)
