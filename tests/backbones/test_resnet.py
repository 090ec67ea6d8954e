"""Residual networks have the published sizes, torchvision's names, even padding, and freeze what they should."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from centermask_keras.backbones.resnet import RESNETS, build_resnet
from centermask_keras.ops.deform_conv import DeformableConv2D

# Parameters that torchvision publishes, its classifier (2048 x 1000 weights and 1000 biases) included.
CLASSIFIER = 2048 * 1000 + 1000
PUBLISHED = {
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnext101_32x8d": 88_791_336,
    "resnext101_64x4d": 83_455_272,
}

LARGE = ("resnet101", "resnext101_32x8d", "resnext101_64x4d")  # take seconds to build


def count(weights) -> int:
    return sum(int(np.prod(weight.shape)) for weight in weights)


@pytest.mark.parametrize("name", ["resnet50", *(pytest.param(n, marks=pytest.mark.slow) for n in LARGE)])
def test_sizes_are_the_published_ones(name):
    model = build_resnet(name, deformable=False, frozen_norm=False)
    assert count(model.trainable_weights) == PUBLISHED[name] - CLASSIFIER
    channels = {level: shape.shape[-1] for level, shape in model.output.items()}
    assert channels == {"C2": 256, "C3": 512, "C4": 1024, "C5": 2048}


@pytest.mark.slow
def test_names_and_shapes_are_those_of_torchvision():
    model = build_resnet("resnext101_32x8d", deformable=False, frozen_norm=True)
    shapes = {
        "conv1": (7, 7, 3, 64),
        "layer1_0_conv1": (1, 1, 64, 256),
        "layer1_0_conv2": (3, 3, 8, 256),
        "layer1_0_downsample_0": (1, 1, 64, 256),
        "layer3_22_conv2": (3, 3, 32, 1024),
        "layer4_2_conv3": (1, 1, 2048, 2048),
    }
    assert {name: tuple(model.get_layer(name).kernel.shape) for name in shapes} == shapes
    assert model.get_layer("layer4_0_conv2").strides == (2, 2)  # and not in the 1x1 before it
    assert model.get_layer("layer4_0_conv1").strides == (1, 1)


def test_frozen_normalisation_neither_trains_nor_moves():
    model = build_resnet("resnet_small", deformable=False, frozen_norm=True)
    assert count(model.trainable_weights) == count(w for w in model.weights if w.name == "kernel")
    before = [np.asarray(weight) for weight in model.non_trainable_weights]
    images = np.random.standard_normal((2, 64, 64, 3)).astype("float32")
    np.testing.assert_array_equal(model(images, training=True)["C5"], model(images, training=False)["C5"])
    for weight, value in zip(model.non_trainable_weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("resnet_small", {"layer2", "layer3", "layer4"}),
        pytest.param("resnet101", {"layer2", "layer3", "layer4"}, marks=pytest.mark.slow),
        pytest.param("resnext101_32x8d", {"layer3", "layer4"}, marks=pytest.mark.slow),
    ],
)
def test_deformable_stages_are_c3_to_c5_and_in_resnext_c4_to_c5(name, stages):
    model = build_resnet(name, deformable=True, frozen_norm=True)
    deformable = [layer for layer in model.layers if isinstance(layer, DeformableConv2D)]
    assert {layer.name.split("_")[0] for layer in deformable} == stages
    depth = dict(zip(("layer1", "layer2", "layer3", "layer4"), RESNETS[name].depths, strict=True))
    assert len(deformable) == sum(depth[stage] for stage in stages)


def test_a_fresh_network_is_a_chain_of_shortcuts():
    """The residual branches start at 0, so that nothing grows with the depth, frozen or not."""
    model = build_resnet("resnet50", deformable=False, frozen_norm=True)
    images = np.random.standard_normal((1, 64, 64, 3)).astype("float32")
    deviations = [float(np.std(value)) for value in model(images).values()]
    assert max(deviations) < 10


@pytest.mark.parametrize("hw", [(64, 96), (32, 32), (50, 70)])
def test_levels_round_up_as_even_padding_does(hw):
    model = build_resnet("resnet_small", deformable=True, frozen_norm=False)
    levels = model(np.zeros((1, *hw, 3), "float32"))
    for level in range(2, 6):
        expected = tuple(-(-side // 2**level) for side in hw)
        assert tuple(levels[f"C{level}"].shape) == (1, *expected, 32 * 2**level)


def test_strided_convolutions_are_padded_evenly():
    """Mirroring the image mirrors the maps where the last sample of the stride falls on the mirrored first one."""
    model = build_resnet("resnet_small", deformable=False, frozen_norm=True)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            layer.kernel.assign(layer.kernel + layer.kernel[::-1, ::-1])  # kernels without a direction
    images = np.random.standard_normal((1, 65, 65, 3)).astype("float32")  # 64 k + 1: ends on a sample at every stage
    for values, mirrored in zip(model(images).values(), model(images[:, ::-1, ::-1]).values(), strict=True):
        np.testing.assert_allclose(values[:, ::-1, ::-1], mirrored, atol=1e-3 * float(np.abs(values).max()))


@pytest.mark.slow
def test_every_weight_learns_under_xla_and_bfloat16():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build_resnet("resnet_small", deformable=True, frozen_norm=False)
    finally:
        keras.config.set_dtype_policy("float32")
    for layer in model.layers:
        if layer.name.endswith("bn3"):
            layer.gamma.assign(layer.gamma + 0.5)  # a fresh network passes nothing through its branches

    @tf.function(jit_compile=True)
    def gradients(images):
        with tf.GradientTape() as tape:
            loss = sum(tf.reduce_sum(tf.cast(x, "float32") ** 2) for x in model(images, training=True).values())
        return tape.gradient(loss, model.trainable_variables)

    for weight, gradient in zip(model.trainable_variables, gradients(tf.random.normal((2, 64, 64, 3))), strict=True):
        assert np.isfinite(gradient).all() and np.any(gradient != 0), weight.path
