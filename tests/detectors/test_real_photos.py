"""Every configuration on CenterNet trains: three steps on real photos, and the weights survive saving."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from centermask_keras.config import load_config
from centermask_keras.data.annotations import load_annotations
from centermask_keras.data.pipeline import SampleCounters, make_train_dataset
from centermask_keras.detectors import build_detector

CONFIGS = {
    path.stem: path
    for path in sorted((Path(__file__).parents[2] / "configs").glob("*.json"))
    if load_config(path).model.detector == "centernet"  # those of FCOS: test_fcos.py
}
STEPS = 3


def load_small(path: Path, photos: Path):
    """Read a configuration with 128 px, the 80 classes and the paths of the photos, without augmentation."""
    config = load_config(path)
    data = {f"data.{split}.annotations": str(photos / "annotations" / "instances.json") for split in ("train", "val")}
    data |= {f"data.{split}.images": str(photos / "images") for split in ("train", "val")}
    settings = {
        **data,
        "data.input_hw": [128, 128],
        "data.augmentation.crop": "none",
        "data.augmentation.flip": 0.0,
        "data.augmentation.flip_vertical": 0.0,
        "data.augmentation.invert": 0.0,
        "data.augmentation.color": 0.0,
        "data.augmentation.lighting": 0.0,
        "model.num_classes": 80,
        "model.max_detections": 10,
        "train.batch_size": 1 if config.model.backbone == "hourglass104" else 2,
    }
    return load_config(path, [f"{key}={json.dumps(value)}" for key, value in settings.items()])


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_three_steps_on_photos_lower_the_loss_and_the_weights_survive_saving(name, coco_tiny, tmp_path):
    config = load_small(CONFIGS[name], coco_tiny)
    annotations = load_annotations(config.data.train.annotations, config.data.train.images, crowd=config.data.crowd)
    counters = SampleCounters()
    batch = next(iter(make_train_dataset(config, annotations, start=0, counters=counters)))
    detector = build_detector(config)
    detector.compile(optimizer=keras.optimizers.Adam(config.train.learning_rate), jit_compile=False)
    losses = []
    for _ in range(STEPS + 1):  # the loss of a step is that before its update
        detector.reset_metrics()
        losses.append(float(detector.train_on_batch(batch, return_dict=True)["loss"]))
    assert np.isfinite(losses).all() and losses[STEPS] < losses[0], losses
    detector.save_weights(tmp_path / "model.weights.h5")
    expected = detector.detect(batch["image"])
    other = build_detector(config)
    other.load_weights(tmp_path / "model.weights.h5", skip_mismatch=False)
    for key, value in other.detect(batch["image"]).items():
        np.testing.assert_array_equal(value, expected[key])
