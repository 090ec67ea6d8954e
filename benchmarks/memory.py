"""Does the memory of a training stay flat? Read that of `centermask train` after every epoch of many steps.

    python benchmarks/memory.py --steps 2000

A small network on generated shapes, with everything that a long run does: validations, pictures for TensorBoard, saves.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from small_training import ROOT, write_small_config

STEPS_PER_EPOCH = 25
POLL_SECONDS = 0.2


def measure(folder: Path, steps: int) -> list[tuple[int, float]]:
    """Train and return (steps so far, MB resident) after every epoch."""
    config = write_small_config(
        folder,
        batch_size=2,
        steps_per_epoch=STEPS_PER_EPOCH,
        epochs=max(1, steps // STEPS_PER_EPOCH),
        overrides=["train.save.every=50"],
    )
    command = [sys.executable, str(ROOT / "train.py"), "--config", str(config), "--run", str(folder / "run")]
    with (folder / "log").open("w") as log:
        trainer = subprocess.Popen(command, stdout=log, stderr=log)
        readings: list[tuple[int, float]] = []
        try:
            while trainer.poll() is None:
                epochs = _epochs(folder / "run" / "metrics.csv")
                if epochs > len(readings):
                    readings += [(epochs * STEPS_PER_EPOCH, _resident_mb(trainer.pid))] * (epochs - len(readings))
                time.sleep(POLL_SECONDS)
        finally:
            trainer.kill()
    if trainer.returncode:
        raise SystemExit((folder / "log").read_text())
    return readings


def growth(readings: list[tuple[int, float]]) -> float:
    """Return MB per 1,000 steps: the slope of a line through the second half."""
    steps, resident = np.asarray(readings[len(readings) // 2 :]).T
    return float(np.polyfit(steps, resident, 1)[0] * 1000)


def _epochs(metrics: Path) -> int:
    return max(0, len(metrics.read_text().splitlines()) - 1) if metrics.exists() else 0


def _resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as folder:
        readings = measure(Path(folder), steps)
    print(f"{'steps':>6} {'MB resident':>12}")
    for done, resident in readings[:: max(1, len(readings) // 10)] + readings[-1:]:
        print(f"{done:6} {resident:12.0f}")
    print(f"growth over the second half: {growth(readings):+.1f} MB per 1,000 steps")


if __name__ == "__main__":
    main()
