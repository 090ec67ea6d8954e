"""Where a training step, or a prediction, spends its time: operations grouped by what they are for.

    python benchmarks/profile_step.py --data coco_train --config configs/dla34_plain.json --batch-size 4
    python benchmarks/profile_step.py --data coco_train --config configs/dla34_plain.json --batch-size 1 --predict

Seconds are those of TensorFlow's own profiler on the processor, summed over its threads; kernels that run beside each
other count one by one, so that the sum exceeds the time of the step.
"""

import argparse
import collections
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from centermask_keras.config import load_config
from centermask_keras.data.feeding.pipeline import make_train_dataset
from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.detectors import build_detector
from centermask_keras.inference.runtimes.keras import InferenceGraph

STEPS = 3
GROUPS = (  # the first pattern that an operation's name holds
    ("convolutions", r"Conv2D|Conv2d"),
    ("batch normalisation", r"BatchNorm"),
    ("matrix products", r"MatMul"),
    ("pooling, upsampling", r"Pool|Resize"),
    ("gather, scatter", r"Gather|Scatter|Segment|TopK|OneHot"),
    ("casts and copies", r"Cast|Transpose|Concat|Slice|Pad|Tile|Pack|Reshape|Split|BroadcastTo|Fill"),
    ("optimizer", r"Assign|ReadVariable|L2Loss"),
    ("elementwise, sums", r"^[A-Z_]"),
)
OUTER = re.compile(r"^(Process|one_step|TFE_|Eager|Run| |.*__inference|.*Executor|.*Compute|.*Thread)")


def profile(call: Callable[[], object]) -> tuple[float, dict[str, float]]:
    """Run a call some times under the profiler: median seconds of a call, and seconds by operation in one call."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    for _ in range(2):
        call()
    with tempfile.TemporaryDirectory() as folder:
        options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=2)
        tf.profiler.experimental.start(folder, options=options)
        seconds = []
        for _ in range(STEPS):
            begin = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - begin)
        tf.profiler.experimental.stop()
        space = xplane_pb2.XSpace()
        space.ParseFromString(next(Path(folder).rglob("*.xplane.pb")).read_bytes())
    return statistics.median(seconds), operation_seconds(space)


def operation_seconds(space: object) -> dict[str, float]:
    """Add up the profiler's events by the name of their operation: seconds per call."""
    totals: dict[str, float] = collections.Counter()
    for plane in space.planes:
        if "CPU" not in plane.name:
            continue
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name.partition("#")[0].rpartition(":")[2]
                if not OUTER.match(name):
                    totals[name] += event.duration_ps / 1e12 / STEPS
    return totals


def group_seconds(operations: dict[str, float]) -> dict[str, float]:
    """Add up operations by what they are for."""
    groups = dict.fromkeys([name for name, _ in GROUPS], 0.0)
    for operation, seconds in operations.items():
        group = next((name for name, pattern in GROUPS if re.search(pattern, operation)), None)
        if group:
            groups[group] += seconds
    return groups


def main() -> None:
    """Parse, profile, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with annotations/instances.json and images/")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--predict", action="store_true", help="prediction in the place of training")
    arguments = parser.parse_args()
    config = load_config(arguments.config, [f"train.batch_size={arguments.batch_size}"])
    annotations = load_annotations(arguments.data / "annotations" / "instances.json", arguments.data / "images")
    batch = next(iter(make_train_dataset(config, annotations)))
    detector = build_detector(config.model)
    if arguments.predict:
        graph, images = InferenceGraph(detector), batch["image"].numpy()
        seconds, operations = profile(lambda: graph.predict_on_batch(images))
    else:
        detector.compile(optimizer="adam", jit_compile=False)
        seconds, operations = profile(lambda: detector.train_on_batch(batch))
    groups = group_seconds(operations)
    total = sum(groups.values())
    print(
        f"{1000 * seconds:.0f} ms per {'prediction' if arguments.predict else 'step'} of {arguments.batch_size} images"
    )
    for name, value in sorted(groups.items(), key=lambda item: -item[1]):
        print(f"  {name:<22}{1000 * value:9.1f} ms {value / total:6.1%}")
    print("largest operations: " + ", ".join(f"{n} {1000 * s:.0f} ms" for n, s in operations.most_common(8)))


if __name__ == "__main__":
    main()
