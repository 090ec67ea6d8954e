"""Mask AP, size and latency of every exported format of a model.

    python benchmarks/nuclei_split.py --data nuclei_train
    centermask export --run saved_models/nuclei --to runs/export/nuclei
    python benchmarks/export.py --run saved_models/nuclei --exported runs/export/nuclei

prints one row per format, Keras in float32 first. AP is that of `--annotations` (default: the test part of the nuclei).
Latency is the inference graph alone, batch 1, on 2 threads, at the size of its input (256 x 256 where that is free):
the median of rounds in which each format runs once, so that what else the machine does meets all of them.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from centermask_keras.backend import start_backend
from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.inference_config import to_inference_config

THREADS = 2
SIDE = 256
ROUNDS = 30


def open_all(run: Path, exported: Path) -> dict[str, tuple]:
    """Load the model in every format: title -> (predictor, bytes on disk)."""
    from centermask_keras.export.record import size_of
    from centermask_keras.inference.load import load
    from centermask_keras.inference.runtimes.onnx import ONNXPredictor
    from centermask_keras.inference.runtimes.saved_model import SavedModelPredictor
    from centermask_keras.inference.runtimes.tflite import TFLitePredictor

    opened = {"Keras fp32": (load(run, ["model.dtype_policy=float32"]), size_of(run / "model.weights.h5"))}
    opened["SavedModel"] = (SavedModelPredictor(exported / "1"), size_of(exported / "1"))
    for path in sorted(exported.glob("*.tflite")):
        title = "TFLite " + path.stem.removeprefix(f"{exported.name}_")
        opened[title] = (TFLitePredictor(path, THREADS), size_of(path))
    for path in exported.glob("*.onnx"):
        opened["ONNX"] = (ONNXPredictor(path, THREADS), size_of(path))
    return opened


def time_rounds(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Run everything once per round and return the medians in milliseconds."""
    spent: dict[str, list[float]] = {title: [] for title in calls}
    for number in range(rounds + 2):
        for title, call in calls.items():
            begin = time.perf_counter()
            call()
            if number >= 2:  # the first rounds prepare
                spent[title].append(time.perf_counter() - begin)
    return {title: 1e3 * statistics.median(values) for title, values in spent.items()}


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("saved_models/nuclei"))
    parser.add_argument("--exported", type=Path, required=True, help="folder that `centermask export` wrote")
    parser.add_argument("--annotations", type=Path, default=Path("data/nuclei/test.json"))
    parser.add_argument("--images", type=Path, default=Path("data/nuclei/images"))
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="timings of each format; 0: none")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(THREADS)
    start_backend()
    from centermask_keras.evaluation.predict import evaluate_model

    opened = open_all(arguments.run, arguments.exported)
    annotations = load_annotations(arguments.annotations, arguments.images)
    config = to_inference_config(opened["Keras fp32"][0].config)
    height, width = (side or SIDE for side in config.network_hw)
    images = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
    calls = {title: lambda model=model: model.detect(images) for title, (model, _) in opened.items()}
    latency = time_rounds(calls, arguments.rounds) if arguments.rounds else {}
    rows = {}
    print(f"{'format':<16}{'MB':>6}{'mask AP':>9}{'AP50':>7}{'AP75':>7}{'box AP':>8}{'ms':>7}")
    for title, (model, size) in opened.items():
        figures = evaluate_model(model, annotations).figures
        rows[title] = {**figures, "bytes": size, "milliseconds": latency.get(title)}
        aps = [figures[name] for name in ("mask_ap", "mask_ap50", "mask_ap75", "box_ap")]
        print(
            f"{title:<16}{size / 1e6:>6.1f}{aps[0]:>9.4f}{aps[1]:>7.3f}{aps[2]:>7.3f}{aps[3]:>8.4f}"
            f"{latency.get(title, float('nan')):>7.1f}",
            flush=True,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
