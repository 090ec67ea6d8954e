"""Building detectors: every configuration, its precision, its heads."""

import random
from pathlib import Path

import keras
import numpy as np
import pytest
from project_files import files_in

from centermask_keras.config import load_config
from centermask_keras.detectors import build_detector
from centermask_keras.detectors.centernet import build_network, build_point_heads
from centermask_keras.ops.gather_patches import gather_patches

CONFIGS = [path for path in files_in("configs", ".json") if load_config(path).model.detector == "centernet"]
# One row for each model that no configuration above has: the others differ in their losses only.
ABLATIONS = [
    Path(__file__).parents[2] / "configs" / "ablations" / f"{row}.json"
    for row in ("1a_shape_size_24", "1a_shape_size_48", "1c_without_shape", "1d_without_saliency", "1e_class_agnostic")
]
DEMO = Path(__file__).parents[2] / "configs" / "demo.json"


def assert_builds_and_detects(path):
    config = load_config(path)
    detector = build_detector(config.model)
    h = w = config.model.input_multiple // config.model.stride
    outputs = detector(np.zeros((1, h * 4, w * 4, 3), np.uint8))
    stacks = [*outputs.get("intermediate", ()), outputs]
    assert len(stacks) == (2 if "hourglass" in config.model.backbone else 1)
    widths = {"offset": 2, "size": 2, "local_shape_logits": config.model.shape_size**2}
    if config.model.mask_factors == "saliency":
        del widths["local_shape_logits"]
    classes = config.model.num_classes
    heads = [*detector.intermediate_point_heads, detector.point_heads]
    for head, dense in zip(heads, stacks, strict=True):
        assert dense["heatmap_logits"].shape == (1, h, w, classes)
        if config.model.mask_factors == "local_shape":
            assert "saliency_logits" not in dense
        else:
            channels = classes if config.model.saliency == "class_specific" else 1
            assert dense["saliency_logits"].shape == (1, h, w, channels)
        points = head(gather_patches(dense["features"], np.array([[0, 5, h * w - 1]], np.int32)))
        assert {key: tuple(value.shape) for key, value in points.items()} == {
            key: (1, 3, width) for key, width in widths.items()
        }
        assert all(keras.backend.standardize_dtype(value.dtype) == "float32" for value in points.values())


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_builds_and_detects(path):
    assert_builds_and_detects(path)


@pytest.mark.slow
@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_every_model_of_table_1_builds_and_detects(path):
    assert_builds_and_detects(path)


def test_networks_and_heads_are_functional_models():
    config = load_config(DEMO)
    for model in (build_network(config.model), build_point_heads(config.model, 64)):
        assert model.inputs and model.outputs  # a subclassed model has neither


def test_precision_is_bfloat16_inside_and_float32_outside():
    config = load_config(DEMO)
    assert config.model.dtype_policy == "mixed_bfloat16"
    before = keras.config.dtype_policy()
    detector = build_detector(config.model)
    assert keras.config.dtype_policy() == before
    outputs = detector(np.zeros((1, 64, 64, 3), np.uint8))
    dtypes = {key: keras.backend.standardize_dtype(value.dtype) for key, value in outputs.items()}
    assert dtypes == {"heatmap_logits": "float32", "saliency_logits": "float32", "features": "bfloat16"}
    weights = [weight for weight in detector.weights if "seed" not in weight.path]
    assert {keras.backend.standardize_dtype(weight.dtype) for weight in weights} == {"float32"}


def test_equal_seeds_build_equal_weights():
    model = load_config(DEMO).model
    first, second, other = (build_detector(model, seed=seed) for seed in (1, 1, 2))
    for a, b in zip(first.trainable_weights, second.trainable_weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(first.trainable_weights, other.trainable_weights, strict=True))


@pytest.mark.parametrize("name", ["demo", "fcos_resnet101"])
def test_building_leaves_the_random_numbers_of_the_caller_alone(name):
    overrides = ["model.backbone=resnet_small", "model.head_channels=32"] if name.startswith("fcos") else []
    model = load_config(DEMO.with_name(f"{name}.json"), overrides).model

    def draws():
        draw = keras.random.uniform((2,), seed=keras.random.SeedGenerator())
        return random.random(), np.random.rand(), np.asarray(draw).tolist()

    keras.utils.set_random_seed(5)
    expected = [draws() for _ in range(2)]
    keras.utils.set_random_seed(5)
    received = [draws()]
    build_detector(model, seed=3)
    received.append(draws())
    assert received == expected


def test_fresh_heatmap_says_that_objects_are_rare():
    detector = build_detector(load_config(DEMO).model)
    logits = np.asarray(detector(np.full((1, 64, 64, 3), 128, np.uint8))["heatmap_logits"])
    assert 0.05 < np.median(1 / (1 + np.exp(-logits))) < 0.2
