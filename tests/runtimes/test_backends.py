"""The same weights give the same detections on TensorFlow, JAX and PyTorch, whichever of them wrote the file."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "saved_models" / "nuclei"
CASE = Path(__file__).with_name("backend_case.py")
SCORE = 0.1  # of the objects that are compared: below it neighbours in the order may change places
SCORES_TOLERANCE, PIXELS_TOLERANCE = 1e-3, 0.02  # float32 through forty layers, in another order


def detect(backend: str, model: Path, folder: Path) -> dict[str, np.ndarray]:
    """Run a model in a process with a backend, which also writes `model.weights.h5` in the folder."""
    folder.mkdir()
    images = sorted((SHIPPED / "samples").glob("*.png"))[:2]
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


@pytest.fixture(scope="module")
def tensorflow(tmp_path_factory) -> dict[str, np.ndarray]:
    return detect("tensorflow", SHIPPED, tmp_path_factory.mktemp("tensorflow") / "run")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_weights_and_detections_are_those_of_tensorflow(backend, tensorflow, tmp_path):
    pytest.importorskip(backend)
    assert_same(tensorflow, detect(backend, SHIPPED, tmp_path / "run"))
    for name in ("config.json", "run.json"):
        shutil.copy(SHIPPED / name, tmp_path / "run" / name)
    assert_same(tensorflow, detect("tensorflow", tmp_path / "run", tmp_path / "back"))
