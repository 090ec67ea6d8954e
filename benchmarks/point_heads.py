"""Train with point heads and with dense heads, in one run: images per second and peak memory of each.

    python benchmarks/point_heads.py --data coco_train

`--data` is a folder with `annotations/instances.json` and `images/`; the batches are made before the clock starts.

All variants are `configs/dla34_plain.json` with the same losses and optimizer. The dense ones compute offset, size and
local shape at every cell and gather them at the true centres; with the same weights all give the same losses (a test
holds them to it). `dense` is the same network: the last layers of its heads run in float32, as everywhere in the
package. `dense_low` is a favour to the dense side: the 1,024 channels of the local shape stay in bfloat16.

Every measurement has a process of its own, and the variants take turns. Memory is that of the process, read from Linux.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import keras
import numpy as np
import tensorflow as tf
from dense_heads import VARIANTS

from centermask_keras.config import Config, TrainConfig, load_config
from centermask_keras.data.feeding.pipeline import make_train_dataset
from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.detectors import CenterMask
from centermask_keras.structures import GroundTruth

CONFIG = Path(__file__).parents[1] / "configs" / "dla34_plain.json"
WARM_UP = 2  # steps that are not timed: the first one traces the graph
FIGURES = ("images_per_second", "peak_gib", "growth_gib")


def measure(variant: str, data: Path, *, batch_size: int, steps: int) -> dict[str, float]:
    """Train some steps of one variant, in a process that does nothing else, and return its `FIGURES`."""
    config = load_config(CONFIG, [f"train.batch_size={batch_size}"])
    batches = read_batches(config, data, WARM_UP + steps)
    before = read_memory("VmRSS")
    seconds = time_steps(VARIANTS[variant](config.model), config.train, batches)
    peak = read_memory("VmHWM")
    return {"images_per_second": batch_size / median(seconds), "peak_gib": peak, "growth_gib": peak - before}


def read_batches(config: Config, data: Path, count: int) -> list[GroundTruth]:
    """Make training batches of one shape: another number of padded objects would trace the graph anew."""
    annotations = load_annotations(data / "annotations" / "instances.json", data / "images")
    dataset = make_train_dataset(config, annotations)
    shape = next(iter(dataset))["boxes"].shape
    return list(islice((batch for batch in dataset if batch["boxes"].shape == shape), count))


def time_steps(detector: CenterMask, settings: TrainConfig, batches: Sequence[GroundTruth]) -> list[float]:
    """Train one step on each batch and return the seconds of all steps after the `WARM_UP`."""
    optimizer = keras.optimizers.Adam(settings.learning_rate, global_clipnorm=settings.clip_norm)
    optimizer.build(detector.trainable_variables)
    detector.compile(optimizer=optimizer, jit_compile=bool(tf.config.list_physical_devices("GPU")))
    times = [time.perf_counter()]
    for batch in batches:
        detector.train_on_batch(batch)  # returns the loss as a number, so the step is over
        times.append(time.perf_counter())
    return np.diff(times)[WARM_UP:].tolist()


def read_memory(field: str) -> float:
    """Return what Linux knows of this process, GiB: memory in use (VmRSS), or the most that ever was (VmHWM).

    `resource.getrusage` would not do: its peak begins at the memory of the process that started this one.
    """
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) / 2**20


def measure_rounds(data: Path, *, batch_size: int, rounds: int, steps: int) -> list[dict[str, dict[str, float]]]:
    """Measure all variants in turn, each time in a new process: per round the figures by variant."""
    measured = []
    for _ in range(rounds):
        figures = {}
        for variant in VARIANTS:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                figures[variant] = process.submit(measure, variant, data, batch_size=batch_size, steps=steps).result()
        measured.append(figures)
    return measured


def summarize(rounds: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Return, per figure and variant, the median and the median of the rounds' ratios, point heads to the variant."""
    summary = {}
    for figure in FIGURES:
        summary[figure] = {}
        for variant in rounds[0]:
            values = [figures[variant][figure] for figures in rounds]
            ratios = [figures["point"][figure] / figures[variant][figure] for figures in rounds]
            summary[figure][variant] = {"median": median(values), "ratio": median(ratios)}
    return summary


def print_table(rounds: list[dict[str, dict[str, float]]], summary: dict[str, dict[str, dict[str, float]]]) -> None:
    """Print the speed of every round, the medians of all figures, and the ratios."""
    print(f"{'':<28}" + "".join(f"{variant:>12}" for variant in VARIANTS))
    for number, figures in enumerate(rounds, start=1):
        print_row(f"round {number}, images/s", [figures[variant]["images_per_second"] for variant in VARIANTS])
    for label, figure in zip(("images/s", "peak memory, GiB", "of it by training, GiB"), FIGURES, strict=True):
        print_row(f"{label}: median", [summary[figure][variant]["median"] for variant in VARIANTS])
        print_row("  point heads to this", [summary[figure][variant]["ratio"] for variant in VARIANTS])


def print_row(label: str, values: Sequence[float]) -> None:
    """Print one line of the table."""
    print(f"{label:<28}" + "".join(f"{value:12.2f}" for value in values))


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with annotations/ and images/")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5, help="timed steps per variant and round")
    parser.add_argument("--json", type=Path, help="write all figures there as well")
    arguments = parser.parse_args()
    rounds = measure_rounds(
        arguments.data, batch_size=arguments.batch_size, rounds=arguments.rounds, steps=arguments.steps
    )
    summary = summarize(rounds)
    print_table(rounds, summary)
    if arguments.json:
        arguments.json.write_text(json.dumps({"rounds": rounds, "median": summary}, indent=2) + "\n")


if __name__ == "__main__":
    main()
