"""Train one short pass of a configuration over real photos: does the loss fall, does it stay finite, how much memory.

    python benchmarks/train_pass.py --config configs/dla34.json --data ../shared/data/coco_train --batch-size 4

`--data` is a folder with `annotations/instances.json` and `images/`. Prints a table of the losses, the speed and the
peak memory of the process.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import keras
import numpy as np

from centermask_keras.config import load_config
from centermask_keras.data.feeding.pipeline import make_train_dataset
from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.detectors import build_detector


class StepLosses(keras.callbacks.Callback):
    """Keep the losses of every step; Keras reports their means over the epoch so far."""

    def __init__(self) -> None:
        super().__init__()
        self.means: list[dict[str, float]] = []
        self.times: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        self.means.append(dict(logs))
        self.times.append(time.perf_counter())

    def per_step(self) -> dict[str, np.ndarray]:
        """Return the losses of the single steps by name."""
        counts = np.arange(1, len(self.means) + 1)
        sums = {name: counts * [mean[name] for mean in self.means] for name in self.means[0]}
        return {name: np.diff(values, prepend=0.0) for name, values in sums.items()}


def run_pass(config_path: Path, data: Path, *, batch_size: int, steps: int | None) -> StepLosses:
    """Train over the photos once (or for some steps) on fresh weights."""
    config = load_config(config_path, [f"train.batch_size={batch_size}"])
    annotations = load_annotations(data / "annotations" / "instances.json", data / "images")
    detector = build_detector(config.model)
    detector.compile(optimizer=keras.optimizers.Adam(config.train.learning_rate), jit_compile=False)
    losses = StepLosses()
    dataset = make_train_dataset(config, annotations)
    steps = steps or len(annotations) // batch_size
    detector.fit(dataset, steps_per_epoch=steps, verbose=0, callbacks=[losses])
    return losses


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--steps", type=int, help="default: one pass")
    arguments = parser.parse_args()
    losses = run_pass(arguments.config, arguments.data, batch_size=arguments.batch_size, steps=arguments.steps)
    quarter = max(1, len(losses.means) // 4)
    print(f"{'loss':<10} first quarter   last quarter   all finite")
    for name, values in losses.per_step().items():
        first, last = values[:quarter].mean(), values[-quarter:].mean()
        print(f"{name:<10} {first:13.3f}  {last:13.3f}   {bool(np.isfinite(values).all())}")
    seconds = np.median(np.diff(losses.times))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{len(losses.means)} steps of {arguments.batch_size} images, median {seconds:.1f} s per step")
    print(f"peak memory {peak:.1f} GiB")


if __name__ == "__main__":
    main()
