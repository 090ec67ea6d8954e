"""Time our network beside a PyTorch network of the same structure: prediction and a training step.

    python benchmarks/pytorch_peer.py --torch-python OTHER_ENVIRONMENT/bin/python

PyTorch is not among this project's packages: `--torch-python` names an interpreter that has it. Both sides are DLA-34
with plain convolutions at 512 px, dense heatmap and saliency, and point heads at 100 fixed cells, without decoding and
masks. The training step has a stand-in loss, the mean square of every output, and Adam. Each measurement has a process
of its own, the sides take turns, and both get the same threads.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

CONFIG = Path(__file__).parents[1] / "configs" / "dla34_plain.json"
SIDE, POINTS, CLASSES, SHAPE, MIDDLE = 512, 100, 80, 32, 256
TASKS = {  # name -> batch size, precision
    "predict float32": (1, "float32"),
    "predict bfloat16": (1, "bfloat16"),
    "train float32": (2, "float32"),
    "train bfloat16": (2, "bfloat16"),
}
WARM_UP, STEPS = 2, 6


def time_calls(call: Callable[[], object]) -> float:
    """Return the median seconds of a call after some warm-up."""
    seconds = []
    for _ in range(WARM_UP + STEPS):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[WARM_UP:])


def run_ours(task: str) -> tuple[float, int]:
    """Time a task with our network: seconds, and the number of trained parameters."""
    import keras
    import numpy as np
    import tensorflow as tf

    from centermask_keras.config import load_config
    from centermask_keras.detectors import build_detector

    batch, precision = TASKS[task]
    policy = {"float32": "float32", "bfloat16": "mixed_bfloat16"}[precision]
    detector = build_detector(load_config(CONFIG, [f"model.dtype_policy={policy}"]).model)
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (batch, SIDE, SIDE, 3)), tf.float32)
    cells = tf.constant(np.tile(np.arange(POINTS, dtype=np.int32) * 163, (batch, 1)))
    optimizer = keras.optimizers.Adam(1e-4)
    optimizer.build(detector.trainable_variables)

    def outputs_of(training: bool) -> list:
        outputs = detector(images, training=training)
        points = detector.read_points(outputs["features"], cells)
        return [outputs["heatmap_logits"], outputs["saliency_logits"], *points.values()]

    @tf.function
    def predict() -> list:
        return outputs_of(False)

    @tf.function
    def train() -> None:
        with tf.GradientTape() as tape:
            loss = sum(tf.reduce_mean(tf.square(tf.cast(value, "float32"))) for value in outputs_of(True))
        optimizer.apply_gradients(
            zip(tape.gradient(loss, detector.trainable_variables), detector.trainable_variables, strict=True)
        )

    count = sum(int(np.prod(weight.shape)) for weight in detector.trainable_variables)
    return time_calls(train if task.startswith("train") else lambda: [value.numpy() for value in predict()]), count


def run_torch(task: str) -> tuple[float, int]:
    """Time a task with the PyTorch network: seconds, and the number of trained parameters."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    batch, precision = TASKS[task]
    network = build_torch_network(torch).to(memory_format=torch.channels_last)
    images = torch.rand(batch, 3, SIDE, SIDE).to(memory_format=torch.channels_last)
    cells = (torch.arange(POINTS) * 163).repeat(batch, 1)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    mixed = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")

    def predict() -> object:
        with torch.inference_mode(), mixed:
            return network(images, cells)

    def train() -> None:
        optimizer.zero_grad()
        with mixed:
            outputs = network(images, cells)
        sum(value.float().square().mean() for value in outputs).backward()
        optimizer.step()

    network.train(task.startswith("train"))
    count = sum(weight.numel() for weight in network.parameters())
    return time_calls(train if task.startswith("train") else predict), count


def build_torch_network(torch: object) -> object:
    """Build DLA-34 with plain convolutions and the five heads, as `backbones/dla.py` and `heads/` describe them."""
    nn = torch.nn

    def conv_norm(fan_in: int, filters: int, kernel: int = 3, stride: int = 1, relu: bool = True) -> nn.Module:
        conv = nn.Conv2d(fan_in, filters, kernel, stride, kernel // 2, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(filters), *([nn.ReLU()] if relu else []))

    class Block(nn.Module):
        def __init__(self, fan_in: int, filters: int, stride: int):
            super().__init__()
            self.first, self.second = conv_norm(fan_in, filters, 3, stride), conv_norm(filters, filters, relu=False)

        def forward(self, x, shortcut):
            return torch.relu(self.second(self.first(x)) + shortcut)

    class Tree(nn.Module):
        def __init__(self, fan_in: int, filters: int, depth: int, stride: int, extra: int):
            super().__init__()
            self.depth, self.pool = depth, nn.MaxPool2d(2) if stride == 2 else nn.Identity()
            if depth > 1:
                self.first = Tree(fan_in, filters, depth - 1, stride, 0)
                self.second = Tree(filters, filters, depth - 1, 1, extra + filters)
                return
            same = fan_in == filters
            self.project = nn.Identity() if same else conv_norm(fan_in, filters, 1, relu=False)
            self.first, self.second = Block(fan_in, filters, stride), Block(filters, filters, 1)
            self.root = conv_norm(2 * filters + extra, filters, 1)

        def forward(self, x, children=()):
            if self.depth > 1:
                first = self.first(x)
                return self.second(first, (*children, first))
            first = self.first(x, self.project(self.pool(x)))
            return self.root(torch.cat([self.second(first, first), first, *children], 1))

    class Merge(nn.Module):
        def __init__(self, channels: list[int], factors: list[int]):
            super().__init__()
            filters = channels[0]
            self.project = nn.ModuleList(conv_norm(fan_in, filters) for fan_in in channels[1:])
            self.node = nn.ModuleList(conv_norm(filters, filters) for _ in factors)
            self.up = nn.ModuleList(
                nn.ConvTranspose2d(filters, filters, 2 * f, f, f // 2, groups=filters, bias=False) for f in factors
            )

        def forward(self, maps):
            merged = [maps[0]]
            for x, project, up, node in zip(maps[1:], self.project, self.up, self.node, strict=True):
                merged.append(node(up(project(x)) + merged[-1]))
            return merged

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(conv_norm(3, 16, 7), conv_norm(16, 16), conv_norm(16, 32, stride=2))
            widths = (64, 128, 256, 512)
            depths, fan_in = (1, 2, 2, 1), (32, *widths[:-1])
            self.trees = nn.ModuleList(
                Tree(i, o, depth, 2, i if n else 0)
                for n, (i, o, depth) in enumerate(zip(fan_in, widths, depths, strict=True))
            )
            self.merges = nn.ModuleList(
                Merge([widths[2 - n], *[widths[3 - n]] * (n + 1)], [2] * (n + 1)) for n in range(3)
            )
            self.last = Merge([64, 128, 256], [2, 4])
            self.dense = nn.ModuleList(
                nn.Sequential(nn.Conv2d(64, MIDDLE, 3, 1, 1), nn.ReLU(), nn.Conv2d(MIDDLE, CLASSES, 1))
                for _ in range(2)
            )
            self.points = nn.ModuleList(
                nn.Sequential(nn.Linear(9 * 64, MIDDLE), nn.ReLU(), nn.Linear(MIDDLE, width))
                for width in (2, 2, SHAPE**2)
            )

        def forward(self, images, cells):
            x, levels = self.stem(images), []
            for tree in self.trees:
                x = tree(x, (nn.functional.max_pool2d(x, 2),) if levels else ())
                levels.append(x)
            merged = [levels[-1]]
            for index, merge in enumerate(self.merges):
                finer = 2 - index
                levels[finer:] = merge(levels[finer:])
                merged.insert(0, levels[-1])
            features = self.last(merged[:-1])[-1]
            padded = nn.functional.pad(features, (1, 1, 1, 1))
            width = features.shape[-1]
            rows, columns = cells // width, cells % width
            images_index = torch.arange(len(cells))[:, None]
            patches = torch.cat(
                [padded[images_index, :, rows + dy, columns + dx] for dy in range(3) for dx in range(3)], -1
            )
            return [head(features) for head in self.dense] + [head(patches) for head in self.points]

    return Network()


def measure(side: str, task: str, python: str) -> tuple[float, int]:
    """Run one task of one side in a process of its own."""
    worker = [python, str(Path(__file__)), "--worker", side, "--task", task]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(worker, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"error: {side}, {task}: {done.stderr.strip().splitlines()[-1]}")
    return tuple(json.loads(done.stdout.strip().splitlines()[-1]))


def check_torch(python: str) -> None:
    """Stop with one line where the interpreter has no PyTorch."""
    if subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode:
        raise SystemExit(f"error: {python}: expected an interpreter with PyTorch, received one without. --torch-python")


def main(arguments: list[str] | None = None) -> None:
    """Parse, measure in turns, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-python", default=sys.executable, help="an interpreter that has PyTorch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", choices=("ours", "torch"), help=argparse.SUPPRESS)
    parser.add_argument("--task", choices=TASKS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        print(json.dumps({"ours": run_ours, "torch": run_torch}[options.worker](options.task)))
        return
    check_torch(options.torch_python)
    print(f"{'milliseconds per step':<24}{'ours':>9}{'PyTorch':>9}{'PyTorch / ours':>16}")
    for task in TASKS:
        pairs = [
            (measure("ours", task, sys.executable), measure("torch", task, options.torch_python))
            for _ in range(options.rounds)
        ]
        if any(ours[1] != theirs[1] for ours, theirs in pairs):
            counts = " and ".join(f"{count:,}" for _, count in pairs[0])
            raise SystemExit(f"error: {task}: expected equal numbers of parameters, received {counts}")
        ours, theirs = (statistics.median(pair[i][0] for pair in pairs) for i in range(2))
        ratio = statistics.median(theirs[0] / ours[0] for ours, theirs in pairs)
        print(f"{task:<24}{1000 * ours:9.0f}{1000 * theirs:9.0f}{ratio:16.2f}", flush=True)
    print(f"parameters of each: {pairs[0][0][1]:,}")


if __name__ == "__main__":
    main()
