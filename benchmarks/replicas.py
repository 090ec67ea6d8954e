"""Time training steps of 1 and 2 replicas, from image files and from shards.

    python benchmarks/replicas.py --data coco_train

The replicas are logical devices of one CPU, which they share: what is measured is what mirroring costs, not what it
gains. The batch over all replicas stays the same. All four cases take steps in turns.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf
from pipeline import FILES, SHARDS, load_both

from centermask_keras.config import Config, load_config
from centermask_keras.data.feeding.pipeline import make_train_dataset
from centermask_keras.data.files.annotations import Annotations
from centermask_keras.detectors import build_detector
from centermask_keras.training.distribution import start_replicas

WARM_UP = 3  # steps: traces of the step, and of one with more objects
NAMES = {"none": "1 replica", "mirrored": "2 replicas"}


def make_cases(config: Config, datasets: dict[str, Annotations]) -> dict[tuple[str, str], Callable[[], dict]]:
    """Return a call for the next step of each case, by replicas and storage; the storages share a model."""
    cases = {}
    for distribution, name in NAMES.items():
        with start_replicas(config.model_copy(update={"distribution": distribution}), name) as replicas:
            with replicas.scope():
                model = build_detector(config.model)
                model.compile(optimizer=keras.optimizers.Adam(1e-4), jit_compile=False)
                model.optimizer.build(model.trainable_variables)  # inside of the scope, as `train` does
            model.make_train_function()
            replicas.prepare(model)
            for storage, annotations in datasets.items():
                batches = iter(
                    replicas.distribute(
                        lambda share, annotations=annotations: make_train_dataset(config, annotations, share=share)
                    )
                )
                cases[name, storage] = lambda model=model, batches=batches: model.train_function(batches)
    return cases


def time_steps(step: Callable[[], dict], steps: int) -> float:
    """Return seconds per step."""
    begin = time.perf_counter()
    for _ in range(steps):
        logs = step()
    float(logs["loss"])  # waits for it
    return (time.perf_counter() - begin) / steps


def main() -> None:
    """Parse, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with annotations/instances.json and images/")
    parser.add_argument("--config", type=Path, default=Path(__file__).parents[1] / "configs" / "demo.json")
    parser.add_argument("--classes", type=int, default=80, help="of the data")
    parser.add_argument("--batch-size", type=int, default=8, help="over all replicas")
    parser.add_argument("--steps", type=int, default=5, help="in a round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    settings = [f"train.batch_size={arguments.batch_size}", f"model.num_classes={arguments.classes}"]
    config = load_config(arguments.config, settings)
    with tempfile.TemporaryDirectory() as folder:
        cases = make_cases(config, load_both(arguments.data, Path(folder)))
        for step in cases.values():
            time_steps(step, WARM_UP)
        seconds = {case: [] for case in cases}
        for _ in range(arguments.rounds):
            for case, step in cases.items():
                seconds[case].append(time_steps(step, arguments.steps))
    height, width = config.data.input_hw
    print(f"{config.model.backbone} at {height} x {width}, batch {arguments.batch_size}, {config.model.dtype_policy}")
    for (name, storage), values in seconds.items():
        print(f"{name} from {storage}: {arguments.batch_size / statistics.median(values):.2f} images/s")
    for storage in (FILES, SHARDS):
        pairs = zip(seconds["1 replica", storage], seconds["2 replicas", storage], strict=True)
        ratio = statistics.median(one / two for one, two in pairs)
        print(f"2 replicas / 1 replica from {storage}: {ratio:.2f}, median of each round's")
    for name in NAMES.values():
        pairs = zip(seconds[name, FILES], seconds[name, SHARDS], strict=True)
        ratio = statistics.median(files / shards for files, shards in pairs)
        print(f"shards / image files with {name}: {ratio:.2f}, median of each round's")


if __name__ == "__main__":
    main()
