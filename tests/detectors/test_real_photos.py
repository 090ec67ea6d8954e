"""Every configuration trains: three steps on real photos at full depth, and the weights survive saving."""

import json
from pathlib import Path

import numpy as np
import pytest
from project_files import files_below

from centermask_keras.config import load_config
from centermask_keras.data.feeding.pipeline import make_train_dataset
from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.detectors import build_detector
from centermask_keras.training.optimizer import build_optimizer

PHOTO_CLASSES = 80
STEPS = 3
SETTINGS = {
    "data.input_hw": [128, 128],
    "data.augmentation.crop": "none",
    "data.augmentation.flip": 0.0,
    "data.augmentation.flip_vertical": 0.0,
    "data.augmentation.invert": 0.0,
    "data.augmentation.color": 0.0,
    "data.augmentation.lighting": 0.0,
    "train.batch_size": 1,
    "train.warmup_steps": 0,  # three steps are too few for one
}


CONFIG_OF = {path.stem: path for path in files_below("configs", ".json")}


def on_photos(path: Path, photos: Path, **overrides: object):
    """Read a configuration at full depth, for photos at 128 px without augmentation."""
    config = load_config(path)
    settings = dict(SETTINGS)
    for split in ("train", "val"):
        settings[f"data.{split}.annotations"] = str(photos / "annotations" / "instances.json")
        settings[f"data.{split}.images"] = str(photos / "images")
    settings["model.num_classes"] = max(PHOTO_CLASSES, config.model.num_classes)  # LVIS: the photos have its first
    if config.model.detector == "fcos":
        settings["data.multi_scale_hw"] = [[128, 128]]
        settings["model.least_score"] = 1e-4  # else fresh heads find nothing, and no mask tells of the loaded weights
    else:
        settings["model.max_detections"] = 10
    settings |= {key.replace("__", "."): value for key, value in overrides.items()}
    return load_config(path, [f"{key}={json.dumps(value)}" for key, value in settings.items()])


def open_branches(detector) -> None:
    """Let the residual branches take part: fresh ones end in a scale of 0, which frozen normalisation keeps."""
    for layer in detector.network.get_layer("fpn")._flatten_layers():
        if layer.name.endswith("_bn3"):
            layer.gamma.assign(0.1 + 0 * layer.gamma)


def widen(detector) -> None:
    """Let every peak have a box: sizes may be below 0 after three steps, and nothing would be found."""
    bias = detector.point_heads.get_layer("size").project.bias
    bias.assign(bias + 20.0)  # cells, of 32


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIG_OF)
def test_three_steps_on_photos_lower_the_loss_and_the_weights_survive_saving(name, coco_tiny, tmp_path):
    """Operation by operation: the graph takes twenty times longer to trace than to run."""
    config = on_photos(CONFIG_OF[name], coco_tiny)
    data = on_photos(CONFIG_OF[name], coco_tiny, model__num_classes=PHOTO_CLASSES)
    annotations = load_annotations(data.data.train.annotations, data.data.train.images)
    batch = next(make_train_dataset(data, annotations).as_numpy_iterator())
    detector = build_detector(config.model)
    if config.model.detector == "fcos":
        open_branches(detector)
    optimizer = build_optimizer(config.train, config.train.learning_rate)
    detector.compile(optimizer=optimizer, jit_compile=False, run_eagerly=True)
    losses = []
    for _ in range(STEPS + 1):  # the loss of a step is that before its update
        detector.reset_metrics()
        losses.append(float(detector.train_on_batch(batch, return_dict=True)["loss"]))
    assert np.isfinite(losses).all() and losses[STEPS] < losses[0], losses
    if config.model.detector == "centernet":
        widen(detector)
    expected = {key: np.asarray(value) for key, value in detector.detect(batch["image"]).items()}
    assert expected["valid"].any() and np.ptp(expected["masks"][expected["valid"]]) > 0
    weights = tmp_path / "model.weights.h5"
    detector.save_weights(weights)
    del detector, optimizer
    loaded = build_detector(config.model)
    loaded.load_weights(weights, skip_mismatch=False)
    weights.unlink()  # up to 800 MB
    for key, value in loaded.detect(batch["image"]).items():
        np.testing.assert_array_equal(value, expected[key], err_msg=key)
