"""The short version of `benchmarks/accelerator.py`, on a CPU: every task is compiled and timed, beside the others."""

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
def test_every_task_is_timed_and_what_fails_holds_nobody_up(coco_tiny):
    small = ["model.num_classes=80", "data.input_hw=[64, 64]", "model.head_channels=16", "data.max_objects=64"]
    changes = [option for change in small for option in ("--set", change)]
    # A stack of batches of 0 images does not exist.
    sizes = ["--batch-sizes", "2", "0"]
    tasks = ["--tasks", "train", "train_dense", "predict"]
    config = ["--config", ROOT / "configs" / "demo.json"]
    done = run_script(coco_tiny, *config, *changes, *tasks, *sizes, "--steps", "2")
    assert done.returncode == 0, done.stderr
    print(done.stdout)


def test_another_backend_is_refused(coco_tiny):
    done = run_script(coco_tiny, "--config", ROOT / "configs" / "demo.json", backend="tensorflow")
    assert done.returncode == 2 and "expected KERAS_BACKEND=jax, received tensorflow" in done.stderr
