"""Where prediction spends its time: reading, network, decoding, masks, pasting.

Stage: evaluation. The stages of the inference graph are timed as growing parts of it, each compiled as a whole by the
backend: network alone, then with decoding and point heads, then with masks. A stage is the difference to the part
before, so that no stage pays for copying large maps between host and device that the whole never copies.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from centermask_keras.config import load_config
from centermask_keras.data.files.images import read_image
from centermask_keras.data.files.shards import ImageFile
from centermask_keras.data.samples.preprocess import preprocess_image
from centermask_keras.data.samples.transform import make_letterbox
from centermask_keras.detectors import CenterMask
from centermask_keras.inference.load import build, load
from centermask_keras.inference.runtimes.keras import InferenceGraph, KerasPredictor
from centermask_keras.structures import Tensor

STAGES = ("read", "network", "decode", "masks", "paste")
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
"""What is timed: name -> `model.dtype_policy`."""


class _Part(InferenceGraph):
    """A part of the inference graph from its beginning, with small outputs: images [B, H, W, 3] -> tensors."""

    def __init__(self, detector: CenterMask, part: Callable[[CenterMask, Tensor], dict[str, Tensor]]):
        super().__init__(detector)
        self.part = part

    def call(self, images: Tensor) -> dict[str, Tensor]:
        """Run the part on images uint8 [B, H, W, 3]."""
        return self.part(self.detector, images)


def run_network(detector: CenterMask, images: Tensor) -> dict[str, Tensor]:
    """Run the dense part; one number per image and output, so that nothing is left out and nothing large copied."""
    outputs = detector(images, training=False)
    return {key: _highest(keras.tree.flatten(value)) for key, value in outputs.items()}


def _highest(maps: list[Tensor]) -> Tensor:
    """Return the highest number of each image in maps [B, h, w, F]: float32 [B]."""
    return ops.max(ops.stack([ops.max(ops.cast(values, "float32"), axis=(1, 2, 3)) for values in maps]), axis=0)


def run_decoding(detector: CenterMask, images: Tensor) -> dict[str, Tensor]:
    """Run the dense part, the decoding and the point heads."""
    outputs = detector(images, training=False)
    decoded = detector.decode(outputs)
    kept = {key: decoded[key] for key in ("boxes", "scores", "classes", "valid")}
    if "local_shape_logits" in decoded:
        kept["local_shape_logits"] = ops.max(decoded["local_shape_logits"], axis=(1, 2))
    if "saliency_logits" in outputs:
        kept["saliency_logits"] = ops.max(outputs["saliency_logits"], axis=(1, 2, 3))
    return kept


def benchmark_inference(
    predictor: KerasPredictor, images: Sequence[ImageFile], *, batch_size: int, repeats: int
) -> dict[str, float]:
    """Time the stages of prediction on images, letterboxed to the training input.

    Args:
        predictor: the model.
        images: files to read; they are repeated to fill a batch.
        batch_size: images per step of the network.
        repeats: timings of each stage; the median counts. They follow a first run that compiles.

    Returns:
        Milliseconds per image: `read`, `network`, `decode`, `masks`, `paste` (of all K), `total`; `images_per_second`.
    """
    files = [images[index % len(images)] for index in range(batch_size)]
    hw = predictor.config.data.input_hw
    reading = _median(lambda: [_read(path, hw) for path in files], repeats)
    batch = [_read(path, hw) for path in files]
    canvas = np.stack([image for image, _, _ in batch])
    graphs = (
        _Part(predictor.detector, run_network),
        _Part(predictor.detector, run_decoding),
        InferenceGraph(predictor.detector),
    )
    parts = _median_of_each([partial(graph.predict_on_batch, canvas) for graph in graphs], repeats)
    detections = graphs[-1].predict_on_batch(canvas)
    pasting = _median(
        lambda: [
            predictor.to_objects(detections, row, transform, size) for row, (_, transform, size) in enumerate(batch)
        ],
        repeats,
    )
    # Differences of noisy medians: a stage that costs next to nothing must not come out negative.
    seconds = {
        "read": reading,
        "network": parts[0],
        "decode": max(parts[1] - parts[0], 0.0),
        "masks": max(parts[2] - parts[1], 0.0),
        "paste": pasting,
    }
    total = reading + parts[2] + pasting
    figures = {name: 1000 * value / batch_size for name, value in {**seconds, "total": total}.items()}
    return {**figures, "images_per_second": batch_size / total}


def benchmark_precisions(
    model: Path,
    images: Sequence[ImageFile],
    *,
    overrides: Sequence[str] = (),
    batch_size: int,
    repeats: int,
) -> dict[str, dict[str, float]]:
    """Time a model in each precision, with batches of 1 and of `batch_size`.

    Args:
        model: a run folder, or a configuration file, whose model gets random weights.
        images: files to read.
        overrides: `a.b=v` changes to the configuration.
        batch_size: the larger of the two batches.
        repeats: timings of each stage.

    Returns:
        A title of each setting -> its figures (see `benchmark_inference`).
    """
    rows: dict[str, dict[str, float]] = {}
    for name, policy in POLICIES.items():
        changes = [*overrides, f"model.dtype_policy={policy}"]
        predictor = load(model, changes) if model.is_dir() else build(load_config(model, changes))
        for count in sorted({1, batch_size}):
            rows[f"{name} batch {count}"] = benchmark_inference(predictor, images, batch_size=count, repeats=repeats)
    return rows


def stage_table(rows: dict[str, dict[str, float]]) -> str:
    """Lay out the figures of several settings, milliseconds per image."""
    columns = (*STAGES, "total")
    width = max(len(title) for title in rows) + 2
    lines = [f"{'ms per image':<{width}}" + "".join(f"{name:>9}" for name in columns) + "    img/s"]
    for title, figures in rows.items():
        cells = "".join(f"{figures[name]:9.1f}" for name in columns)
        lines.append(f"{title:<{width}}{cells}{figures['images_per_second']:9.1f}")
    return "\n".join(lines)


def _read(file: ImageFile, hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Read an image onto the input: canvas, transform, original size."""
    image = read_image(file)
    transform = make_letterbox(image.shape[:2], hw)
    return preprocess_image(image, transform, hw), transform, image.shape[:2]


def _median(call: Callable[[], Any], repeats: int) -> float:
    return _median_of_each([call], repeats)[0]


def _median_of_each(calls: Sequence[Callable[[], Any]], repeats: int) -> list[float]:
    """Time calls in turns, so that a slow moment of the machine meets all of them: median seconds."""
    for call in calls:
        call()
    seconds = [[_seconds(call) for call in calls] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*seconds, strict=True)]


def _seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin
