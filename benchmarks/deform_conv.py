"""Time a deformable 3x3 convolution (DCNv2) beside a plain one of the same shape: forward, and a whole step.

    python benchmarks/deform_conv.py

The shapes are those of the deformable convolutions in the upsampling path of DLA-34 on a 512 x 512 input. Both layers
run as compiled functions and take turns. On a CPU the time is that of the processor, all cores added up, which other
processes do not add to; on an accelerator it is the clock's.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from centermask_keras.devices import describe_device
from centermask_keras.ops.deform_conv import DeformableConv2D

SHAPES = (
    (128, 64, 64),
    (64, 128, 64),
    (64, 128, 128),
    (32, 256, 64),
    (32, 256, 128),
    (32, 256, 256),
    (16, 512, 256),
)
"""Side of the map in cells, channels in, channels out: each that `backbones/dla.py` has at this input."""
OFFSET_DEVIATION = 2.0
"""Cells: trained offsets are spread; with zeros all samples of a tap would lie in order in memory."""


def build_layers(channels: int, filters: int, policy: str) -> dict[str, keras.layers.Layer]:
    """Build a plain and a deformable convolution; the latter moves its taps as after training."""
    plain = keras.layers.Conv2D(filters, 3, padding="same", dtype=policy)
    deformable = DeformableConv2D(filters, dtype=policy)
    for layer in (plain, deformable):
        layer.build((None, None, None, channels))
    inner = deformable.conv_offset_mask
    rng = np.random.default_rng(0)
    # The input has unit variance and 9 * channels taps feed each offset.
    inner.kernel.assign(rng.normal(0, OFFSET_DEVIATION / np.sqrt(9 * channels), inner.kernel.shape))
    return {"plain": plain, "deformable": deformable}


def make_calls(layer: keras.layers.Layer, features: tf.Tensor) -> dict[str, Callable[[], object]]:
    """Return the compiled forward pass, and the forward pass with all gradients."""

    @tf.function
    def forward() -> tf.Tensor:
        return layer(features)

    @tf.function
    def step() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(features)
            loss = tf.reduce_sum(tf.cast(layer(features), "float32"))
        return tape.gradient(loss, [features, *(weight.value for weight in layer.trainable_weights)])

    return {"forward": forward, "step": step}


def time_in_turns(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the median milliseconds of each call; a first round compiles and does not count."""
    clock = time.perf_counter if tf.config.list_physical_devices("GPU") else time.process_time
    seconds = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            begin = clock()
            tf.nest.map_structure(lambda value: value.numpy(), call())  # waits for the device
            if turn:
                seconds[name].append(clock() - begin)
    return {name: 1000 * statistics.median(values) for name, values in seconds.items()}


def compare(shape: tuple[int, int, int], policy: str, *, batch_size: int, repeats: int) -> dict[str, float]:
    """Time both layers on one shape: milliseconds by `plain forward`, `deformable step` and so on."""
    side, channels, filters = shape
    features = tf.random.stateless_normal((batch_size, side, side, channels), (1, 2))
    features = tf.cast(features, keras.DTypePolicy(policy).compute_dtype)
    calls = {}
    for name, layer in build_layers(channels, filters, policy).items():
        calls |= {f"{name} {kind}": call for kind, call in make_calls(layer, features).items()}
    return time_in_turns(calls, repeats)


def main() -> None:
    """Parse, time, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--policy", choices=["float32", "mixed_bfloat16"], default="mixed_bfloat16")
    arguments = parser.parse_args()
    print("   ".join(f"{name} {value}" for name, value in describe_device().items()))
    print(f"{arguments.policy}, batch {arguments.batch_size}; milliseconds, median of {arguments.repeats}")
    print(f"{'cells, channels':<22}{'plain':>9}{'deform.':>9}{'ratio':>7}{'plain':>11}{'deform.':>9}{'ratio':>7}")
    for shape in SHAPES:
        times = compare(shape, arguments.policy, batch_size=arguments.batch_size, repeats=arguments.repeats)
        cells = ""
        for kind, width in (("forward", 9), ("step", 11)):
            plain, deformable = times[f"plain {kind}"], times[f"deformable {kind}"]
            cells += f"{plain:>{width}.1f}{deformable:>9.1f}{deformable / plain:>7.1f}"
        side, channels, filters = shape
        print(f"{f'{side} x {side}, {channels} -> {filters}':<22}{cells}")


if __name__ == "__main__":
    main()
