"""Time the input pipeline of training: read, crop, scale, flip, jitter, lighting, masks, saliency planes, batched.

    python benchmarks/pipeline.py --data coco_train
    python benchmarks/pipeline.py --data coco_train --processes 2

Some threads make the batches, or processes do (`--processes`), and nothing else runs; from image files and from
shards of them, in turns. Images per second and core are those of the clock, divided by the threads or processes. Those
per second of processor time are of this process alone, which other programs on the machine disturb less: with threads
all of the work, with processes what is left for the one that trains. There are at most as many threads as cores. The
files are in the memory of the machine after the first round: a slow disk shows in neither.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from centermask_keras.config import Config, load_config
from centermask_keras.cores import count_cores
from centermask_keras.data.files.annotations import Annotations, load_annotations
from centermask_keras.data.files.shard_writer import write_shards
from centermask_keras.data.files.shards import ANNOTATIONS_NAME

WARM_UP = 3  # batches
FILES, SHARDS = "image files", "shards"


def load_both(data: Path, folder: Path) -> dict[str, Annotations]:
    """Load a dataset from its image files, and from shards of them that are written into a folder."""
    files = load_annotations(data / "annotations" / "instances.json", data / "images")
    write_shards(files, folder)
    return {FILES: files, SHARDS: load_annotations(folder / ANNOTATIONS_NAME, folder)}


def time_batches(
    config: Config, annotations: Annotations, batches: int, threads: int, processes: int
) -> tuple[float, float]:
    """Make batches and return images per second of the clock and per second of processor time of this process."""
    import tensorflow as tf  # not above: the processes that make batches import this file, and need none

    from centermask_keras.data.feeding.pipeline import make_train_dataset

    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    dataset = make_train_dataset(config, annotations, processes=processes).with_options(options)
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
    parser.add_argument("--threads", type=int, default=min(2, count_cores()))
    parser.add_argument("--processes", type=int, default=0, help="processes that make the batches, instead of threads")
    arguments = parser.parse_args()
    if not 1 <= arguments.threads <= count_cores():
        parser.error(
            f"--threads: expected 1 to {count_cores()}, the cores of this process, received {arguments.threads}"
        )
    config = load_config(arguments.config, [f"train.batch_size={arguments.batch_size}"])
    rounds: dict[str, list[tuple[float, float]]] = {FILES: [], SHARDS: []}
    with tempfile.TemporaryDirectory() as folder:
        datasets = load_both(arguments.data, Path(folder))
        for _ in range(arguments.rounds):
            for storage, annotations in datasets.items():
                figures = time_batches(config, annotations, arguments.batches, arguments.threads, arguments.processes)
                rounds[storage].append(figures)
    size = f"{config.data.input_hw[0]} x {config.data.input_hw[1]}"
    count, makers = (arguments.processes, "process") if arguments.processes else (arguments.threads, "thread")
    print(f"{len(datasets[FILES])} images at {size}, made by {count} x {makers}")
    for storage, figures in rounds.items():
        clock, processor = (statistics.median(values) for values in zip(*figures, strict=True))
        print(
            f"{storage}: {clock:.0f} images/s, {clock / count:.0f} per {makers}; "
            f"{processor:.0f} images per second of processor time of this process"
        )
    for number, name in enumerate(("clock", "processor time")):
        pairs = zip(rounds[SHARDS], rounds[FILES], strict=True)
        ratio = statistics.median(shards[number] / files[number] for shards, files in pairs)
        print(f"shards / image files by {name}: {ratio:.2f}, median of each round's")


if __name__ == "__main__":
    main()
