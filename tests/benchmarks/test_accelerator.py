"""The short version of `benchmarks/accelerator.py`, on a CPU: every task is compiled and timed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run_script(data, *options, backend="jax"):
    command = [sys.executable, ROOT / "benchmarks" / "accelerator.py", "--data", data, *options]
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)


@pytest.mark.slow
def test_every_task_is_timed(coco_tiny):
    small = ["model.num_classes=80", "data.input_hw=[64, 64]", "model.head_channels=16", "data.max_objects=64"]
    changes = [option for change in small for option in ("--set", change)]
    tasks = ["train", "train_dense", "predict"]
    config = ["--config", ROOT / "configs" / "demo.json"]
    done = run_script(coco_tiny, *config, *changes, "--tasks", *tasks, "--batch-sizes", "2", "--steps", "2")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[2:]]
    assert [row[:3] for row in rows] == [["demo", task, "2"] for task in tasks]
    for row in rows:
        compile_seconds, milliseconds, images = map(float, row[3:6])
        assert compile_seconds > 0 and images == pytest.approx(2000 / milliseconds, rel=0.1)


def test_another_backend_is_refused(coco_tiny):
    done = run_script(coco_tiny, "--config", ROOT / "configs" / "demo.json", backend="tensorflow")
    assert done.returncode == 2 and "expected KERAS_BACKEND=jax, received tensorflow" in done.stderr
