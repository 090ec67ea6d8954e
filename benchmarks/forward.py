"""Run a model forward on one image at full size: parameters, operations, time and peak memory.

    python benchmarks/forward.py --config configs/hourglass104.json
    python benchmarks/forward.py --config configs/fcos_resnet101.json

Random weights, one image of noise of the size `data.input_hw`, the whole inference graph, float32 unless `--set` says
otherwise. Operations are those of convolutions and matrix products, two for each multiplication with its addition,
counted from the shapes in the traced graph. `dense` is what they would be with the same point heads at every location
of the features (those of the stack that inference reads) in place of the K that were found. Memory is that of the
process, read from Linux.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import keras
import numpy as np
import tensorflow as tf
from point_heads import read_memory

from centermask_keras.config import Config, load_config
from centermask_keras.detectors import CenterMask, build_detector
from centermask_keras.inference.runtimes.keras import InferenceGraph

FLOAT32 = "model.dtype_policy=float32"
OPAQUE = ("Einsum", "Conv2DBackpropInput", "Conv3D", "While", "StatelessWhile", "If", "StatelessIf")
"""Operations that would multiply, or hold others that do, and that the count does not look into."""


def count_operations(function: Callable, *shapes: tf.TensorSpec) -> int:
    """Count the operations of the convolutions and matrix products in the graph of a function."""
    graph = tf.function(function, input_signature=shapes, autograph=False).get_concrete_function().graph
    return sum(_operations_of(operation) for operation in graph.get_operations())


def _operations_of(operation: tf.Operation) -> int:
    if operation.type in OPAQUE or "PartitionedCall" in operation.type:
        raise ValueError(f"{operation.name}: expected operations with a rule to count them, received {operation.type}")
    match operation.type:
        case "Conv2D":
            terms = math.prod(operation.inputs[1].shape[:3])  # height, width and inputs of a kernel
        case "DepthwiseConv2dNative":
            terms = math.prod(operation.inputs[1].shape[:2])
        case "MatMul":
            terms = operation.inputs[0].shape[0 if operation.get_attr("transpose_a") else 1]
        case "BatchMatMulV2":
            terms = operation.inputs[0].shape[-2 if operation.get_attr("adj_x") else -1]
        case _:
            return 0
    return 2 * terms * math.prod(operation.outputs[0].shape)


def count_detector(detector: CenterMask, input_hw: tuple[int, int]) -> dict[str, float]:
    """Count the operations for one image, as it is and with dense heads: GFLOPs `points` and `dense`."""
    points = count_operations(detector.detect, tf.TensorSpec([1, *input_hw, 3], tf.uint8))
    dense = points
    if detector.point_heads:
        count = detector.config.max_detections
        patches = tf.TensorSpec([1, count, *detector.point_heads.inputs[0].shape[2:]], tf.float32)
        at_points = count_operations(detector.point_heads, patches)
        dense += at_points // count * (count_locations(detector, input_hw) - count)
    return {"points": points / 1e9, "dense": dense / 1e9}


def count_locations(detector: CenterMask, input_hw: tuple[int, int]) -> int:
    """Count the locations of the features that the point heads are read from, over all levels, for one image."""
    images = keras.KerasTensor((1, *input_hw, 3), "float32")
    features = keras.tree.flatten(detector.network.compute_output_spec(images)["features"])
    return sum(math.prod(level.shape[1:3]) for level in features)


def run_forward(detector: CenterMask, input_hw: tuple[int, int], repeats: int) -> float:
    """Predict one image as often, after a first time that compiles: median seconds."""
    graph = InferenceGraph(detector)
    images = np.random.default_rng(0).integers(0, 256, (1, *input_hw, 3), np.uint8)
    graph.predict_on_batch(images)
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        graph.predict_on_batch(images)
        seconds.append(time.perf_counter() - begin)
    return median(seconds)


def measure(config: Config, repeats: int) -> dict[str, float]:
    """Return parameters in millions, GFLOPs, seconds and GiB of a configuration."""
    before = read_memory("VmRSS")
    detector, input_hw = build_detector(config.model), config.data.input_hw
    seconds = run_forward(detector, input_hw, repeats)  # before the operations are counted: that traces more graphs
    peak = read_memory("VmHWM")
    counted = {f"gflops_{name}": value for name, value in count_detector(detector, input_hw).items()}
    figures = {"parameters_millions": detector.count_params() / 1e6, **counted, "seconds": seconds}
    return {**figures, "peak_gib": peak, "growth_gib": peak - before}


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], help="change of the configuration, KEY=VALUE")
    parser.add_argument("--repeats", type=int, default=3, help="runs that are timed")
    arguments = parser.parse_args()
    config = load_config(arguments.config, [FLOAT32, *arguments.set])
    figures = measure(config, arguments.repeats)
    height, width = config.data.input_hw
    print(f"{arguments.config.stem}, {height} x {width}, {config.model.dtype_policy}, one image")
    print(f"{figures['parameters_millions']:.1f} million parameters")
    print(f"GFLOPs: {figures['gflops_points']:.1f} with points, {figures['gflops_dense']:.1f} dense")
    print(f"{figures['seconds']:.2f} s, median of {arguments.repeats}")
    print(f"peak memory {figures['peak_gib']:.2f} GiB, of it by the model {figures['growth_gib']:.2f}")


if __name__ == "__main__":
    main()
