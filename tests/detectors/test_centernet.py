"""Building detectors: every configuration, its precision, its heads, its first layer."""

from pathlib import Path

import keras
import numpy as np
import pytest
from project_files import files_in

from centermask_keras.config import load_config
from centermask_keras.detectors.base import IMAGE_MEAN, IMAGE_STD, ImageNormalization
from centermask_keras.detectors.centernet import build_centernet, build_network, build_point_heads

CONFIGS = [path for path in files_in("configs", ".json") if load_config(path).model.detector == "centernet"]
# One row for each model that no configuration above has: the others differ in their losses only.
ABLATIONS = [
    Path(__file__).parents[2] / "configs" / "ablations" / f"{row}.json"
    for row in ("1a_shape_size_24", "1a_shape_size_48", "1c_without_shape", "1d_without_saliency", "1e_class_agnostic")
]
DEMO = Path(__file__).parents[2] / "configs" / "demo.json"


def assert_builds_and_detects(path):
    config = load_config(path)
    detector = build_centernet(config)
    h = w = config.model.input_multiple // config.model.stride
    outputs = detector(np.zeros((1, h * 4, w * 4, 3), np.uint8))
    stacks = [*outputs.get("intermediate", ()), outputs]
    assert len(stacks) == (2 if "hourglass" in config.model.backbone else 1)
    widths = {"offset": 2, "size": 2, "local_shape_logits": config.model.shape_size**2}
    if config.model.mask_factors == "saliency":
        del widths["local_shape_logits"]
    classes = config.model.num_classes
    for stack, dense in enumerate(stacks):
        assert dense["heatmap_logits"].shape == (1, h, w, classes)
        if config.model.mask_factors == "local_shape":
            assert "saliency_logits" not in dense
        else:
            channels = classes if config.model.saliency == "class_specific" else 1
            assert dense["saliency_logits"].shape == (1, h, w, channels)
        points = detector.read_points(dense["features"], np.array([[0, 5, h * w - 1]], np.int32), stack=stack)
        assert {key: tuple(value.shape) for key, value in points.items()} == {
            key: (1, 3, width) for key, width in widths.items()
        }
        assert all(keras.backend.standardize_dtype(value.dtype) == "float32" for value in points.values())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_builds_and_detects(path):
    assert_builds_and_detects(path)


@pytest.mark.slow
@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_every_model_of_table_1_builds_and_detects(path):
    assert_builds_and_detects(path)


def test_networks_and_heads_are_functional_models():
    config = load_config(DEMO)
    for model in (build_network(config), build_point_heads(config, 64)):
        assert model.inputs and model.outputs  # a subclassed model has neither


def test_precision_is_bfloat16_inside_and_float32_outside():
    config = load_config(DEMO)
    assert config.model.dtype_policy == "mixed_bfloat16"
    before = keras.config.dtype_policy()
    detector = build_centernet(config)
    assert keras.config.dtype_policy() == before
    outputs = detector(np.zeros((1, 64, 64, 3), np.uint8))
    dtypes = {key: keras.backend.standardize_dtype(value.dtype) for key, value in outputs.items()}
    assert dtypes == {"heatmap_logits": "float32", "saliency_logits": "float32", "features": "bfloat16"}
    weights = [weight for weight in detector.weights if "seed" not in weight.path]
    assert {keras.backend.standardize_dtype(weight.dtype) for weight in weights} == {"float32"}


def test_equal_seeds_build_equal_weights():
    first, second = (build_centernet(load_config(DEMO)) for _ in range(2))
    other = build_centernet(load_config(DEMO, ["train.seed=2"]))
    for a, b in zip(first.trainable_weights, second.trainable_weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(first.trainable_weights, other.trainable_weights, strict=True))


def test_normalisation_gives_the_statistics_zero_mean_and_unit_variance():
    pixels = 255 * np.array([IMAGE_MEAN, np.add(IMAGE_MEAN, IMAGE_STD)], np.float32)
    normalised = np.asarray(ImageNormalization(per_image=False)(pixels[None, None]))
    np.testing.assert_allclose(normalised[0, 0], [[0, 0, 0], [1, 1, 1]], atol=1e-5)


def test_normalisation_per_image_undoes_brightness_and_contrast():
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 200, (2, 8, 9, 3)).astype("float32")
    images[1] = 10 + images[0] / 8
    normalised = np.asarray(ImageNormalization(per_image=True)(images))
    np.testing.assert_allclose(normalised[0], normalised[1], atol=1e-4)
    assert abs(normalised[0].mean()) < 1e-5 and abs(normalised[0].std() - 1) < 1e-5


def test_normalisation_per_image_does_not_amplify_noise_without_bound():
    image = np.full((1, 8, 8, 3), 7.0, "float32")
    image[0, 0, 0] = 8.0
    assert np.abs(ImageNormalization(per_image=True)(image)).max() <= 0.25


def test_fresh_heatmap_says_that_objects_are_rare():
    detector = build_centernet(load_config(DEMO))
    logits = np.asarray(detector(np.full((1, 64, 64, 3), 128, np.uint8))["heatmap_logits"])
    assert 0.05 < np.median(1 / (1 + np.exp(-logits))) < 0.2
