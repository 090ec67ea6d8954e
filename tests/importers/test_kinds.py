"""The tables of names fit the published networks: every tensor of DLA-34 and of Hourglass-104 has a place."""

import json
from pathlib import Path

import numpy as np
import pytest

from centermask_keras.config import load_config
from centermask_keras.detectors import build_detector
from centermask_keras.importers.convert import IMAGENET_STD, assign, convert
from centermask_keras.importers.kinds import CLASSIFIER, COUNTER, KINDS, NEVER_USED, OFFSETS, UNTRAINED
from centermask_keras.ops.image_normalization import IMAGE_STD

ROOT = Path(__file__).parents[2]
SHAPES = json.loads(str(np.load(ROOT / "tests" / "parity" / "centernet.npz")["shapes"]))


def test_every_kind_names_backbones_that_configurations_have():
    schema = json.dumps(load_config(ROOT / "configs" / "demo.json").model_json_schema())
    assert all(f'"{backbone}"' in schema for kind in KINDS.values() for backbone in kind.backbones)


def test_imagenet_weights_of_dla34_fill_the_encoder_and_nothing_else():
    detector = build_detector(load_config(ROOT / "configs" / "dla34.json").model)
    shapes = {key.removeprefix("base."): s for key, s in SHAPES["dla34"].items() if key.startswith("base.")}
    tensors = {key: np.ones(shape, np.float32) for key, shape in shapes.items()}
    tensors |= {"fc.weight": np.zeros((1000, 512, 1, 1)), "fc.bias": np.zeros(1000)}
    values, report = convert(tensors, detector, KINDS["dla34-imagenet"], source="file")
    assert {name.split("_")[0] for name in values} == {"base"}
    assert not [name for name in report.initial if name.startswith("base_")]
    reasons = list(report.left_out.values())
    # Two projections of a convolution and a normalisation without its counter; the classifier's weights and biases.
    assert (reasons.count(NEVER_USED), reasons.count(CLASSIFIER)) == (2 * 5, 2)
    assert reasons.count(COUNTER) == sum(key.endswith("num_batches_tracked") for key in shapes)


def torchvision_tensors(depths, groups, group_width):
    """Write the tensors of a residual network of torchvision by their names, by hand, no two alike."""
    rng = np.random.default_rng(2)
    state = {}

    def add(key, *shape):
        state[f"{key}.weight"] = rng.standard_normal(shape, np.float32)

    def add_norm(key, channels):
        for name in ("weight", "bias", "running_mean", "running_var"):
            state[f"{key}.{name}"] = rng.uniform(0.5, 1.5, channels).astype(np.float32)
        state[f"{key}.num_batches_tracked"] = np.array(7)

    add("conv1", 64, 3, 7, 7), add_norm("bn1", 64)
    inputs = 64
    for stage, depth in enumerate(depths, start=1):
        outputs = 128 * 2**stage
        width = outputs // 4 * group_width // 64 * groups
        for index in range(depth):
            block = f"layer{stage}.{index}"
            add(f"{block}.conv1", width, inputs, 1, 1), add_norm(f"{block}.bn1", width)
            add(f"{block}.conv2", width, width // groups, 3, 3), add_norm(f"{block}.bn2", width)
            add(f"{block}.conv3", outputs, width, 1, 1), add_norm(f"{block}.bn3", outputs)
            if index == 0:
                add(f"{block}.downsample.0", outputs, inputs, 1, 1), add_norm(f"{block}.downsample.1", outputs)
            inputs = outputs
    add("fc", 1000, 2048)
    state["fc.bias"] = np.zeros(1000, np.float32)
    return state


@pytest.mark.parametrize(
    ("name", "overrides", "structure", "offsets"),
    [
        ("fcos_resnet101", ["model.backbone=resnet50"], ((3, 4, 6, 3), 1, 64), 0),
        # Without the local shape there are no point heads.
        ("fcos_resnet101", ["model.backbone=resnet50", "model.mask_factors=saliency"], ((3, 4, 6, 3), 1, 64), 0),
        pytest.param("fcos_resnext101_dcn", [], ((3, 4, 23, 3), 32, 8), 2 * (23 + 3), marks=pytest.mark.slow),
    ],
    ids=["resnet50", "saliency only", "resnext101 deformable"],
)
def test_weights_of_torchvision_fill_the_residual_network_and_nothing_else(name, overrides, structure, offsets):
    detector = build_detector(load_config(ROOT / "configs" / f"{name}.json", overrides).model)
    tensors = torchvision_tensors(*structure)
    values, report = convert(tensors, detector, KINDS["torchvision-resnet"], source="file")
    backbone = {key.replace(".", "_") for key in tensors if not key.startswith("fc") and "tracked" not in key}
    assert set(values) == set(report.mapped.values()) == backbone
    reasons = list(report.left_out.values())
    norms = sum(key.endswith("num_batches_tracked") for key in tensors)
    assert (reasons.count(CLASSIFIER), reasons.count(COUNTER), len(reasons)) == (2, norms, norms + 2)
    initial = list(report.initial.values())
    assert initial.count(OFFSETS) == offsets and initial.count(UNTRAINED) == len(initial) - offsets
    assert len(values) + len(initial) == len(detector.weights)  # every variable is accounted for
    assign(detector, values)
    layers = {layer.name: layer for layer in detector.network.get_layer("fpn")._flatten_layers()}
    kernel = np.asarray(layers["layer3_1_conv2"].kernel)
    assert kernel[1, 2, 3, 4] == tensors["layer3.1.conv2.weight"][4, 3, 1, 2]
    for ours, theirs in (("gamma", "weight"), ("beta", "bias"), ("moving_variance", "running_var")):
        value = getattr(layers["layer2_0_downsample_1"], ours)
        np.testing.assert_array_equal(value, tensors[f"layer2.0.downsample.1.{theirs}"])
    first = np.asarray(layers["conv1"].kernel)[5, 6, 2, 7]
    assert first == pytest.approx(tensors["conv1.weight"][7, 2, 5, 6] * IMAGE_STD[2] / IMAGENET_STD[2], rel=1e-5)
