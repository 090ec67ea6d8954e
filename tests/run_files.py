"""What tests of the training read in run folders, and how they hold runs and processes to what they expect."""

import csv
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

TIMES = {"seconds", "images_per_second"}  # columns that no two runs share
DEADLINE = 600  # seconds, on a busy machine


def metrics_of(run: Path) -> list[dict[str, float]]:
    """Read the figures of every epoch, without times and empty cells."""
    with (run / "metrics.csv").open() as file:
        return [{k: float(v) for k, v in row.items() if k not in TIMES and v} for row in csv.DictReader(file)]


def states_of(run: Path) -> list[Path]:
    return sorted(run.glob("state_*.npz"))


def state_of(run: Path) -> dict[str, Any]:
    """Read the variables and the progress of the newest state; nothing if there is none, or it was just replaced."""
    try:
        with np.load(max(states_of(run), default="none")) as state:
            variables = {key: state[key] for key in state.files if key not in ("progress", "paths")}
            progress = json.loads(str(state["progress"]))
    except FileNotFoundError:
        return {}
    return variables | {key: value for key, value in progress.items() if "seconds" not in key}


def distance(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    return float(sum(np.abs(a - b).sum() for a, b in zip(one, other, strict=True)))


def data_paths(folder: Path) -> list[str]:
    """Return the overrides that point a configuration to a folder of shapes."""
    paths = [f'data.{split}.annotations="{folder / split}.json"' for split in ("train", "val")]
    return paths + [f'data.{split}.images="{folder / split}"' for split in ("train", "val")]


def finish(process: subprocess.Popen, code: int = 0) -> str:
    """Wait for a process to end with this code, and return what it printed."""
    text, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == code, text[-3000:]
    return text
