"""The whole method learns: a few pictures by heart, to a high AP by the COCO scorer, and survives a SIGTERM."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from rich.console import Console
from run_files import metrics_of

from centermask_keras.config import load_config
from centermask_keras.demo.shapes import make_shapes
from centermask_keras.training.train import train

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "configs" / "demo.json"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    make_shapes(folder, train=16, val=1, hw=(128, 128), seed=5)
    return folder


def overrides(folder: Path, **values) -> list[str]:
    """Train and validate on the same few pictures."""
    paths = {f"data.{s}.annotations": str(folder / "train.json") for s in ("train", "val")}
    paths |= {f"data.{s}.images": str(folder / "train") for s in ("train", "val")}
    return [f"{key}={json.dumps(value)}" for key, value in {**paths, **values}.items()]


@pytest.mark.slow
def test_sixteen_pictures_are_learned_by_heart(shapes, tmp_path):
    settings = {
        "data.augmentation.flip": 0.0,
        "data.augmentation.color": 0.0,
        "train.batch_size": 8,
        "train.epochs": 150,
        "train.drop_epochs": [110, 140],
        "train.validate_every": 150,
    }
    result = train(
        load_config(DEMO, overrides(shapes, **settings)), name="overfit", run_dir=tmp_path, console=Console(width=200)
    )
    assert result.best_mask_ap >= 0.75


def losses(run: Path) -> list[dict[str, float]]:
    names = ("loss", "heatmap", "offset", "size", "mask", "saliency", "mask_ap")
    return [{name: row[name] for name in names} for row in metrics_of(run)]


@pytest.mark.slow
def test_a_training_that_is_preempted_saves_exits_with_its_code_and_continues_as_if_nothing_had_been(
    shapes, tmp_path, spawn
):
    settings = {
        "train.batch_size": 4,
        "train.epochs": 2,
        "train.drop_epochs": [1],
        "train.validate_every": 1,
        "model.dtype_policy": "float32",
    }
    options = [part for value in overrides(shapes, **settings) for part in ("--set", value)]

    def start(run: str) -> subprocess.Popen:
        arguments = ["train.py", "--config", str(DEMO), "--run", str(tmp_path / run), *options]
        return spawn(*arguments, TF_DETERMINISTIC_OPS="1")

    assert start("whole").wait() == 0
    stopped = start("stopped")
    while not list((tmp_path / "stopped").glob("state_*.npz")):  # the first epoch is over, and the second begins
        assert stopped.poll() is None
        time.sleep(0.05)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait() == 143
    assert not json.loads((tmp_path / "stopped" / "run.json").read_text())["finished"]
    assert start("stopped").wait() == 0
    whole, parts = losses(tmp_path / "whole"), losses(tmp_path / "stopped")
    assert len(whole) == len(parts) == 2
    assert whole == parts  # bit for bit
