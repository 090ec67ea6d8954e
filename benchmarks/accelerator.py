"""Train and predict on a GPU under JAX: seconds to compile, images per second and peak memory.

    KERAS_BACKEND=jax python benchmarks/accelerator.py --data coco_tiny --config configs/dla34.json --batch-sizes 1 32

`--data` is a folder with `annotations/instances.json` and `images/`. One batch is made before the clock starts and used
again and again. A training step is that of `keras.Model.fit`: the batch goes to the device, and the loss comes back.
A prediction is that of the predictor: uint8 images go there, boxes and masks come back.

Every measurement has a process of its own. All compile at the same time; then they run one after the other. Memory is
the most that JAX ever had in use, what trying out kernels took included. Nothing here needs TensorFlow.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import product
from multiprocessing.synchronize import Barrier, Lock
from pathlib import Path
from statistics import median
from typing import NamedTuple

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the processes share the device

import jax
import keras
import numpy as np
from dense_heads import VARIANTS

from centermask_keras.config import Config, ModelConfig, load_config
from centermask_keras.data.feeding.rows import make_train_batch
from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.data.samples.sample import SampleCounters
from centermask_keras.detectors import CenterMask, build_detector
from centermask_keras.devices import describe_device
from centermask_keras.inference.runtimes.keras import InferenceGraph
from centermask_keras.structures import GroundTruth
from centermask_keras.training.optimizer import build_optimizer

WARM_UP = 2  # runs after the first one that are not timed
MAY_WAIT = 1800  # seconds for the others to compile


class Figures(NamedTuple):
    """What one measurement gives; peak is None where the device does not tell."""

    compile_seconds: float
    seconds: float
    peak_gib: float | None


class StepTimes(keras.callbacks.Callback):
    """The time at the end of every step, which is over when its loss is here."""

    def __init__(self, on_compiled: Callable[[], None]):
        super().__init__()
        self.seconds: list[float] = []
        self._on_compiled, self._begin = on_compiled, 0.0

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Take the time."""
        self._begin = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Wait for the loss, and keep the time since the begin."""
        if not np.isfinite(float(logs["loss"])):
            raise ValueError(f"expected a finite loss, received {logs['loss']} in step {batch + 1}")
        self.seconds.append(time.perf_counter() - self._begin)
        if batch == 0:
            self._on_compiled()


def time_training(
    build: Callable[[ModelConfig], CenterMask],
    config: Config,
    batch: GroundTruth,
    steps: int,
    on_compiled: Callable[[], None],
) -> list[float]:
    """Train on one batch and return the seconds of every step; the first one compiles."""
    detector = build(config.model)
    detector.compile(optimizer=build_optimizer(config.train, config.train.learning_rate), jit_compile=True)
    times = StepTimes(on_compiled)

    def repeat() -> Iterator[tuple[GroundTruth]]:
        while True:
            yield (batch,)

    detector.fit(repeat(), steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[times])
    return times.seconds


def time_prediction(config: Config, batch: GroundTruth, steps: int, on_compiled: Callable[[], None]) -> list[float]:
    """Predict one batch and return the seconds of every time; the first one compiles."""
    graph, seconds = InferenceGraph(build_detector(config.model)), []
    for step in range(steps):
        begin = time.perf_counter()
        graph.predict_on_batch(batch["image"])
        seconds.append(time.perf_counter() - begin)
        if step == 0:
            on_compiled()
    return seconds


TASKS = {
    "train": partial(time_training, VARIANTS["point"]),
    "predict": time_prediction,
    "train_dense": partial(time_training, VARIANTS["dense"]),
}
"""What can be measured; `train_dense` is the same network with dense heads (`dense_heads.py`)."""


def make_batch(config: Config, data: Path) -> GroundTruth:
    """Make the first training batch of a folder with `annotations/instances.json` and `images/`."""
    annotations = load_annotations(data / "annotations" / "instances.json", data / "images")
    return make_train_batch(config, annotations, range(config.train.batch_size), SampleCounters())


def measure(config: Config, task: str, data: Path, steps: int) -> Figures:
    """Measure one task in a process that does nothing else, beside others that `prepare` knows."""
    reached = False
    with ExitStack() as alone:

        def wait_for_turn() -> None:
            nonlocal reached
            reached = True
            _compiled.wait(MAY_WAIT)
            alone.enter_context(_turn)

        try:
            first, *seconds = TASKS[task](config, make_batch(config, data), 1 + WARM_UP + steps, wait_for_turn)
        except Exception:
            if not reached:  # the others wait for this one
                _compiled.wait(MAY_WAIT)
            raise
    seconds = median(seconds[WARM_UP:])
    memory = jax.local_devices()[0].memory_stats()
    return Figures(first - seconds, seconds, memory and memory["peak_bytes_in_use"] / 2**30)


def prepare(compiled: Barrier, turn: Lock) -> None:
    """Begin a process: wait for all to have compiled, then for its turn."""
    global _compiled, _turn
    _compiled, _turn = compiled, turn


def start_all(runs: list[tuple[Config, str]], data: Path, steps: int) -> list[Future[Figures]]:
    """Measure tasks of configurations, each in a process; all have run to their end afterwards."""
    context = multiprocessing.get_context("spawn")
    sharing = (context.Barrier(len(runs)), context.Lock())
    with ProcessPoolExecutor(len(runs), mp_context=context, initializer=prepare, initargs=sharing) as processes:
        return [processes.submit(measure, config, task, data, steps) for config, task in runs]


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with annotations/ and images/")
    parser.add_argument("--config", type=Path, required=True, nargs="+")
    parser.add_argument("--set", action="append", default=[], help="change of the configuration, KEY=VALUE")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["train", "predict"])
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--steps", type=int, default=20, help="timed steps of each task")
    arguments = parser.parse_args()
    if keras.backend.backend() != "jax":
        parser.error(f"expected KERAS_BACKEND=jax, received {keras.backend.backend()}")
    cases = [
        (path, task, size, load_config(path, [*arguments.set, f"train.batch_size={size}"]))
        for path, task, size in product(arguments.config, arguments.tasks, arguments.batch_sizes)
    ]
    futures = start_all([(config, task) for _, task, _, config in cases], arguments.data, arguments.steps)
    print(f"JAX {jax.__version__}, {cases[0][3].model.dtype_policy}, {describe_device()['device']}")
    print(f"{'':<20} task             batch  compile s       ms  images/s  peak GiB")
    for (path, task, size, _), future in zip(cases, futures, strict=True):
        row = f"{path.stem:<20} {task:<15} {size:>6}"
        if error := future.exception():
            print(f"{row}  {type(error).__name__}: {str(error).splitlines()[0][:90]}")
            continue
        compile_seconds, seconds, peak = future.result()
        memory = "-" if peak is None else f"{peak:.2f}"
        print(f"{row} {compile_seconds:>10.1f} {1000 * seconds:>8.1f} {size / seconds:>9.1f} {memory:>9}")


if __name__ == "__main__":
    main()
