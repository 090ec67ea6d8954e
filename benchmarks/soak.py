"""Kill a training with SIGKILL again and again, and hold its end to that of a training that was left alone.

    python benchmarks/soak.py --kills 30

The trainer is `centermask train`, in a process of its own that tells at each point that matters where it is and waits
for an answer: a process that is killed while it waits dies exactly there. Moments inside of a training step are chosen
by chance, after the answer. Both trainings run with deterministic operations.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import cycle, islice
from pathlib import Path

import h5py
import numpy as np
from small_training import ROOT, write_small_config

STEPS_PER_EPOCH = 4
LONGEST_STEP = 0.3  # seconds after an answer in which a kill by chance comes
TIMES = {"seconds", "images_per_second"}
PLAN = (  # where to kill: point, and what the name of its file holds
    ("written", "state"),
    ("step", ""),
    ("flushed", "state"),
    ("validation", ""),
    ("renamed", "state"),
    ("flushed", "state"),
    ("step", ""),
    ("written", "state"),
    ("flushed", "weights"),
    ("step", ""),
)
POINTS = {
    ("written", "state"): "in a save of the state: written, not flushed",
    ("flushed", "state"): "in a save of the state: flushed, not renamed",
    ("renamed", "state"): "in a save of the state: renamed, the oldest not deleted",
    ("flushed", "weights"): "in a save of weights: flushed, not renamed",
    ("validation", ""): "in a validation",
    ("step", ""): "at a moment by chance after a step",
}


def soak(folder: Path, kills: int, seed: int = 0) -> Counter:
    """Train twice, one of them killed `kills` times, and return how often at which point.

    Raises:
        SystemExit: the two differ, or the training ended before its last kill.
    """
    epochs = 4 + 2 * kills // 3
    config = write_small_config(
        folder,
        batch_size=4,
        steps_per_epoch=STEPS_PER_EPOCH,
        epochs=epochs,
        overrides=[
            f"train.drop_epochs=[{epochs // 2}]",
            "train.validate_every=2",
            "train.accumulation_steps=3",
            "train.save.every=1",
        ],
    )
    if not run_trainer(config, folder / "whole"):
        raise SystemExit(f"the training that nobody kills failed, see {folder / 'whole.log'}")
    chance, counts = random.Random(seed), Counter()
    for number, target in enumerate(islice(cycle(PLAN), kills), 1):
        occurrence = chance.randint(1, 3) if target[1] != "weights" and target[0] != "validation" else 1
        delay = chance.uniform(0, LONGEST_STEP) if target[0] == "step" else 0.0
        if run_trainer(config, folder / "parts", (*target, occurrence, delay)):
            raise SystemExit(f"the training ended before kill {number}")
        counts[target] += 1
        print(f"kill {number:2}  {POINTS[target]}", flush=True)
    if not run_trainer(config, folder / "parts"):
        raise SystemExit(f"the training failed after its last kill, see {folder / 'parts.log'}")
    differences = compare_runs(folder / "whole", folder / "parts")
    if differences:
        raise SystemExit("different: " + ", ".join(differences))
    return counts


def compare_runs(one: Path, other: Path) -> list[str]:
    """Name what is not the same, bit for bit, in two run folders: weights, state, metrics."""
    differences = compare_arrays(_read_state(one) | read_weights(one), _read_state(other) | read_weights(other))
    if read_metrics(one) != read_metrics(other):
        differences.append("metrics.csv")
    return differences


def compare_arrays(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> list[str]:
    """Name the arrays that are not the same, bit for bit, or not on both sides."""
    return sorted(name for name in ours.keys() | theirs.keys() if not _same(ours.get(name), theirs.get(name)))


def run_trainer(
    config: Path, run: Path, target: tuple[str, str, int, float] | None = None, *, root: Path = ROOT
) -> bool:
    """Start the trainer of a checkout and let it run to its end, or to the target; return whether it came to its end.

    Args:
        config: the configuration.
        run: the run folder; beside it `RUN.log` gets what the trainer prints.
        target: where the trainer is killed: point, what the name of its file holds, which time, seconds after that.
        root: the checkout.
    """
    from_child, to_parent = os.pipe()
    from_parent, to_child = os.pipe()
    command = [
        sys.executable,
        str(root / "benchmarks" / "soak.py"),
        "--trainer",
        str(config),
        str(run),
        str(from_parent),
        str(to_parent),
    ]
    environment = os.environ | {"TF_DETERMINISTIC_OPS": "1", "PYTHONPATH": str(root)}
    with run.with_suffix(".log").open("a") as log:
        trainer = subprocess.Popen(
            command, pass_fds=(from_parent, to_parent), stdout=log, stderr=log, cwd=root, env=environment
        )
    os.close(from_parent)
    os.close(to_parent)
    seen = 0
    with os.fdopen(from_child) as reports, os.fdopen(to_child, "w") as answers:
        for line in reports:
            point, _, name = line.strip().partition(" ")
            if target and point == target[0] and target[1] in name:
                seen += 1
                if seen == target[2]:
                    _kill(trainer, run, point, name, answers, delay=target[3])
                    return False
            print("go", file=answers, flush=True)
    return trainer.wait() == 0


def _kill(trainer: subprocess.Popen, run: Path, point: str, name: str, answers, *, delay: float) -> None:
    if point == "step":
        print("go", file=answers, flush=True)
        time.sleep(delay)
    elif point != "validation":
        partial = any(run.glob("partial.*"))
        assert partial == (point != "renamed"), f"{point} {name}: not where the trainer said it was"
    trainer.send_signal(signal.SIGKILL)
    assert trainer.wait() == -signal.SIGKILL


def _train(config: str, run: str, from_parent: int, to_parent: int) -> None:
    """Run `centermask train`, and tell the other process where it is."""
    answers, reports = os.fdopen(from_parent), os.fdopen(to_parent, "w")

    def report(point: str, name: str = "") -> None:
        print(point, name, file=reports, flush=True)
        if not answers.readline():
            os._exit(1)  # nobody is there any more

    def before(function, point, name_of=lambda *args: ""):
        def call(*args, **kwargs):
            if name_of(*args) is not None:
                report(point, name_of(*args))
            return function(*args, **kwargs)

        return call

    def partial_name(descriptor: int) -> str | None:
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        return name if name.startswith("partial.") else None

    replace = os.replace

    def replace_and_tell(source, target) -> None:
        report("flushed", Path(target).name)
        replace(source, target)
        report("renamed", Path(target).name)

    from centermask_keras.backend import start_backend
    from centermask_keras.cli import main

    start_backend()
    from centermask_keras.training import callbacks
    from centermask_keras.training.checkpoints import Checkpoints

    os.fsync, os.replace = before(os.fsync, "written", partial_name), replace_and_tell
    callbacks.evaluate_model = before(callbacks.evaluate_model, "validation")
    Checkpoints.on_train_batch_end = before(Checkpoints.on_train_batch_end, "step")
    main(["train", "--config", config, "--run", run])


def _read_state(run: Path) -> dict[str, np.ndarray]:
    with np.load(max(run.glob("state_*.npz"))) as state:
        return {f"state: {key}": state[key] for key in state.files if key not in ("progress", "paths")}


def read_weights(run: Path) -> dict[str, np.ndarray]:
    """Read both weights files of a run folder."""
    arrays: dict[str, np.ndarray] = {}
    for name in ("model.weights.h5", "last.weights.h5"):
        with h5py.File(run / name) as file:
            file.visititems(lambda key, item, name=name: _collect(arrays, f"{name}: {key}", item))
    return arrays


def _collect(arrays: dict[str, np.ndarray], key: str, item: h5py.Dataset | h5py.Group) -> None:
    if isinstance(item, h5py.Dataset):
        arrays[key] = item[()]


def _same(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    return one is not None and other is not None and one.dtype == other.dtype and one.tobytes() == other.tobytes()


def read_metrics(run: Path) -> list[dict[str, str]]:
    """Read the row of every epoch, without times."""
    with (run / "metrics.csv").open() as file:
        return [{key: value for key, value in row.items() if key not in TIMES} for row in csv.DictReader(file)]


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        counts = soak(Path(folder), arguments.kills, arguments.seed)
        progress = json.loads((Path(folder) / "parts" / "run.json").read_text())
    print(f"\n{'point':60} kills")
    for target, title in POINTS.items():
        print(f"{title:60} {counts[target]:5}")
    minutes = (time.monotonic() - began) / 60
    starts, epochs = len(progress["starts"]), progress["epochs"]
    print(f"{sum(counts.values())} kills, {starts} starts, {epochs} epochs, {minutes:.0f} min")
    print("weights, optimizer, averages and metrics: bit for bit those of a training that was left alone")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--trainer"]:
        _train(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    else:
        main()
