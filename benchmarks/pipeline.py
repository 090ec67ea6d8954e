"""Time the input pipeline of training: read, crop, scale, flip, jitter, lighting, masks, saliency planes, batched.

    python benchmarks/pipeline.py --data coco_train

Two threads make the batches and nothing else runs. Images per second and core are those of the clock, divided by the
cores in use, and those per second of processor time, which other programs on the machine disturb less.
"""

import argparse
import statistics
import time
from pathlib import Path

import tensorflow as tf

from centermask_keras.config import Config, load_config
from centermask_keras.data.annotations import Annotations, load_annotations
from centermask_keras.data.pipeline import make_train_dataset

THREADS = 2
WARM_UP = 3  # batches


def time_batches(config: Config, annotations: Annotations, batches: int) -> tuple[float, float]:
    """Make batches and return images per second of the clock and per second of processor time."""
    options = tf.data.Options()
    options.threading.private_threadpool_size = THREADS
    dataset = make_train_dataset(config, annotations).with_options(options)
    iterator = iter(dataset)
    for _ in range(WARM_UP):
        next(iterator)
    clock, processor = time.perf_counter(), time.process_time()
    for _ in range(batches):
        next(iterator)
    images = batches * config.train.batch_size
    return images / (time.perf_counter() - clock), images / (time.process_time() - processor)


def main() -> None:
    """Parse, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with annotations/instances.json and images/")
    parser.add_argument("--config", type=Path, default=Path(__file__).parents[1] / "configs" / "dla34.json")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    config = load_config(arguments.config, [f"train.batch_size={arguments.batch_size}"])
    annotations = load_annotations(
        arguments.data / "annotations" / "instances.json", arguments.data / "images", crowd=config.data.crowd
    )
    rounds = [time_batches(config, annotations, arguments.batches) for _ in range(arguments.rounds)]
    clock, processor = (statistics.median(values) for values in zip(*rounds, strict=True))
    print(f"{len(annotations)} images at {config.data.input_hw[0]} x {config.data.input_hw[1]}, {THREADS} threads")
    print(f"clock: {clock:.0f} images/s, {clock / THREADS:.0f} per core")
    print(f"processor time: {processor:.0f} images per second")


if __name__ == "__main__":
    main()
