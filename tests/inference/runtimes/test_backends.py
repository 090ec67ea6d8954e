"""The same weights give the same detections on TensorFlow, JAX and PyTorch, whichever of them wrote the file."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from project_files import files_in

from centermask_keras.config import load_config
from centermask_keras.detectors import build_detector

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = ROOT / "saved_models" / "nuclei"
CASE = Path(__file__).with_name("backend_case.py")
SCORE = 0.1  # of the objects that are compared: below it neighbours in the order may change places
SCORES_TOLERANCE, PIXELS_TOLERANCE = 1e-3, 0.02  # float32 through forty layers, in another order

IMAGES = 4
AP_TOLERANCE = 0.01  # a score or an overlap that is rounded the other way moves one object of some dozens
SMALL_FCOS = [
    *("model.backbone=resnet_small", "model.tower_depth=1", "model.frozen_norm=false", "model.head_channels=16"),
    *("model.num_classes=3", "model.shape_size=8", "model.mask_size_train=8", "model.mask_size_infer=16"),
    *("model.dtype_policy=float32", "data.input_hw=[128, 128]", "data.multi_scale_hw=null"),
]
FRESH_HEADS = {"class_logits", "centerness_logits", "distances", "local_shape_logits", "saliency_2"}


def detect(backend: str, model: Path, folder: Path) -> dict[str, np.ndarray]:
    """Run a model in a process with a backend, which also writes `model.weights.h5` in the folder."""
    folder.mkdir()
    images = files_in("saved_models/nuclei/samples")[:2]
    files = [folder / "found.npz", folder / "model.weights.h5", *images]
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(CASE), str(model), *map(str, files)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(files[0]) as arrays:
        return dict(arrays)


def assert_same(expected: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> None:
    """Hold the surest detections to each other: those of TensorFlow, by the nearest of the same class."""
    sure = expected["valid"] & (expected["scores"] > SCORE)
    assert sure.sum() > 10
    for image, row in np.argwhere(sure):
        distance = np.abs(found["boxes"][image] - expected["boxes"][image, row]).max(axis=-1)
        distance[(found["classes"][image] != expected["classes"][image, row]) | ~found["valid"][image]] = np.inf
        nearest = int(distance.argmin())
        assert distance[nearest] < PIXELS_TOLERANCE
        assert abs(found["scores"][image, nearest] - expected["scores"][image, row]) < SCORES_TOLERANCE
        difference = np.abs(found["masks"][image, nearest] - expected["masks"][image, row])
        assert difference.max() < 10 * SCORES_TOLERANCE and difference.mean() < SCORES_TOLERANCE
    sure_there = found["valid"] & (found["scores"] > SCORE + SCORES_TOLERANCE)
    assert sure_there.sum() <= sure.sum()


def write_fcos(folder: Path) -> Path:
    """Write a run folder with a small CenterMask on FCOS and random weights, sure of something in many places."""
    config = load_config(ROOT / "configs" / "fcos_resnet101.json", SMALL_FCOS)
    keras.utils.set_random_seed(5)
    detector = build_detector(config.model)
    for weight in detector.weights:
        if weight.path.split("/")[0] in FRESH_HEADS and weight.path.endswith("kernel"):
            weight.assign(20 * weight)  # fresh heads say nearly the same everywhere
    folder.mkdir()
    detector.save_weights(folder / "model.weights.h5")
    (folder / "config.json").write_text(config.to_json())
    categories = [{"id": index, "name": f"class {index}"} for index in range(config.model.num_classes)]
    (folder / "run.json").write_text(json.dumps({"categories": categories}))
    return folder


@pytest.fixture(scope="module", params=["nuclei", "fcos"])
def model(request, tmp_path_factory) -> Path:
    """The run folder of a trained CenterMask on CenterNet, or of a random one on FCOS."""
    return SHIPPED if request.param == "nuclei" else write_fcos(tmp_path_factory.mktemp("fcos") / "run")


@pytest.fixture(scope="module")
def tensorflow(model, tmp_path_factory) -> dict[str, np.ndarray]:
    return detect("tensorflow", model, tmp_path_factory.mktemp("tensorflow") / "run")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_weights_and_detections_are_those_of_tensorflow(backend, model, tensorflow, tmp_path):
    pytest.importorskip(backend)
    assert_same(tensorflow, detect(backend, model, tmp_path / "run"))
    for name in ("config.json", "run.json"):
        shutil.copy(model / name, tmp_path / "run" / name)
    assert_same(tensorflow, detect("tensorflow", tmp_path / "run", tmp_path / "back"))


@pytest.mark.slow
def test_the_command_evaluates_under_jax_as_under_tensorflow(nuclei_train, tmp_path):
    pytest.importorskip("jax")
    document = json.loads((nuclei_train / "annotations" / "instances.json").read_text())
    document["images"] = document["images"][:IMAGES]
    kept = {image["id"] for image in document["images"]}
    document["annotations"] = [row for row in document["annotations"] if row["image_id"] in kept]
    (tmp_path / "few.json").write_text(json.dumps(document))
    data = ["--annotations", str(tmp_path / "few.json"), "--images", str(nuclei_train / "images")]
    command = ["evaluate", "--run", str(SHIPPED), *data, "--set", "eval.resize=letterbox"]
    figures = {}
    for backend in ("tensorflow", "jax"):
        environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
        files = ["--json", str(tmp_path / f"{backend}.json"), "--out", str(tmp_path / backend)]
        done = subprocess.run(
            [sys.executable, "-m", "centermask_keras.cli", *command, *files],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found = json.loads((tmp_path / f"{backend}.json").read_text())
        figures[backend] = {name: found[name] for name in ("mask_ap", "box_ap", "boundary_ap")}
    assert figures["tensorflow"]["mask_ap"] > 0.2
    assert figures["jax"] == pytest.approx(figures["tensorflow"], abs=AP_TOLERANCE)
