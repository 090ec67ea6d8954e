"""Export a model in several formats and prove each file in its own runtime."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from centermask_keras import __version__
from centermask_keras.data.images import read_image
from centermask_keras.data.preprocess import preprocess_image
from centermask_keras.data.transform import make_eval_transform
from centermask_keras.errors import CenterMaskError
from centermask_keras.export.onnx import export_onnx
from centermask_keras.export.parity import TOLERANCES, Parity, compare
from centermask_keras.export.saved_model import export_saved_model
from centermask_keras.export.tflite import export_tflite
from centermask_keras.inference import load
from centermask_keras.predictor import Predictor
from centermask_keras.runtimes.description import INPUT, Description

EXPORTERS = {"saved_model": export_saved_model, "tflite": export_tflite, "onnx": export_onnx}
"""Format to the function that writes it: (detector, description, folder, canvases) -> precision to path."""

TITLES = {"saved_model": "SavedModel", "tflite": "TFLite", "onnx": "ONNX"}
RECORD = "export.json"
CALIBRATION_IMAGES = 48
CHECKED_IMAGES = 4
PACKAGES = ("tensorflow", "keras", "numpy", "ai-edge-litert", "ai-edge-quantizer", "tf2onnx", "onnx", "onnxruntime")
SIGNATURES = {
    "saved_model": {
        "serving_default": {
            "in": {"image_bytes": "string [B], JPEG, PNG, BMP or WebP files of any sizes"},
            "out": {
                "boxes": "float32 [B, K, 4], xyxy, original pixels, the frame of the mask: not clipped to the image",
                "scores": "float32 [B, K]",
                "classes": "int32 [B, K]",
                "valid": "bool [B, K]; the other rows carry no meaning",
                "masks": "uint8 [B, K, M, M], probability times 255 on the grid of the box",
                "image_hw": "int32 [B, 2], height and width, upright; 0 where there is an error",
                "error": "string [B], why a file was not read; empty if it was",
            },
        },
        "id_map": {
            "in": {"image_bytes": "as above"},
            "out": {
                "id_map_bytes": "string [B], a 16-bit PNG of the image's size: row of the object plus 1, or 0",
                "boxes, scores, classes, valid, image_hw, error": "as above",
            },
        },
        "describe": {
            "in": {"query": "string [B], anything"},
            "out": {"description": "string [B], JSON: input, categories, config"},
        },
    },
}
DETECT = {
    "in": {"images": INPUT},
    "out": {
        "boxes": "float32 [B, K, 4], xyxy, input pixels",
        "scores": "float32 [B, K]",
        "classes": "int32 [B, K]",
        "valid": "bool [B, K]; the other rows carry no meaning",
        "masks": "float32 [B, K, M, M], probabilities on the grid of each box",
    },
}


@dataclass(frozen=True)
class Exported:
    """One written file (or SavedModel folder).

    Attributes:
        title: format and precision, for people.
        precision: `fp32`, `fp16`, `dynamic` or `int8`.
        path: where it is.
        parity: how far it is from Keras.
    """

    title: str
    precision: str
    path: Path
    parity: Parity

    @property
    def faults(self) -> list[str]:
        """Say what is out of tolerance."""
        return self.parity.faults(TOLERANCES[self.precision])


def export_run(
    run: Path,
    folder: Path,
    formats: Iterable[str],
    images: Sequence[Path],
    *,
    overrides: Sequence[str] = (),
    progress: Callable[[Exported], None] = lambda exported: None,
) -> list[Exported]:
    """Export a run folder or a shipped model, float32 whatever it was trained in.

    Args:
        run: the folder.
        folder: where the files go; its name is theirs.
        formats: keys of `EXPORTERS`.
        images: real images, to calibrate int8 and to prove the files with.
        overrides: changes to the configuration; `eval.resize=letterbox` fixes the size of the input to `data.input_hw`.
        progress: told about each file once it is proven.

    Raises:
        CenterMaskError: after everything is written, a file that is out of tolerance.
    """
    predictor = load(run, [*overrides, "model.dtype_policy=float32"])
    description = Description(predictor.config, predictor.categories)
    canvases = [make_canvas(path, predictor) for path in spread(images, CALIBRATION_IMAGES)]
    folder.mkdir(parents=True, exist_ok=True)
    done: list[Exported] = []
    for name in formats:
        for precision, path in EXPORTERS[name](predictor.detector, description, folder, canvases).items():
            parity = compare(predictor, load(path), spread(canvases, CHECKED_IMAGES))
            done.append(Exported(f"{TITLES[name]} {precision}", precision, path, parity))
            progress(done[-1])
    write_record(folder, run, description, formats, done)
    faults = [f"{exported.path}: {fault}" for exported in done for fault in exported.faults]
    if faults:
        raise CenterMaskError("\n".join(faults))
    return done


def make_canvas(path: Path, predictor: Predictor) -> np.ndarray:
    """Read an image and bring it to the network's input, uint8 [H, W, 3]."""
    image = read_image(path)
    transform, canvas_hw = make_eval_transform(image.shape[:2], predictor.config)
    return preprocess_image(image, transform, canvas_hw)


def spread(items: Sequence, count: int) -> list:
    """Choose up to `count` items at even distances."""
    chosen = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[index] for index in chosen]


def write_record(
    folder: Path, run: Path, description: Description, formats: Iterable[str], done: Sequence[Exported]
) -> None:
    """Write `export.json`: what was exported, from what, with what, and how far it is from Keras."""
    record = {
        **description.to_json(),
        "name": folder.name,
        "class_names": [category.name for category in description.categories],
        "weights_sha256": hashlib.sha256((run / "model.weights.h5").read_bytes()).hexdigest(),
        "signatures": {name: {**SIGNATURES.get(name, {}), "tensor": DETECT} for name in formats},
        "files": [_file_record(exported, folder) for exported in done],
        "versions": {
            "centermask-keras": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in PACKAGES},
        },
    }
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    (folder / RECORD).write_text(text, encoding="utf-8")


def _file_record(exported: Exported, folder: Path) -> dict[str, Any]:
    parity = exported.parity
    return {
        "path": exported.path.relative_to(folder).as_posix(),
        "precision": exported.precision,
        "bytes": size_of(exported.path),
        "objects": len(parity.boxes),
        "objects_lost": parity.lost,
        "boxes_px": {"mean": float(parity.boxes.mean()), "worst": float(parity.boxes.max())},
        "scores": {"mean": float(parity.scores.mean()), "worst": float(parity.scores.max())},
        "mask_iou": {"mean": float(parity.mask_iou.mean()), "worst": float(parity.mask_iou.min())},
    }


def size_of(path: Path) -> int:
    """Count the bytes of a file, or of all files in a folder."""
    return path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


COLUMNS = ("format", "file", "size", "boxes px", "scores", "mask IoU", "lost", "ms")
WIDTHS = (16, 28, -8, -8, -7, -8, -6, -5)  # negative: to the right


def table_header() -> str:
    """Write the head of the table of parity."""
    return _line(COLUMNS)


def _line(cells: Sequence[str]) -> str:
    cells = [cell.rjust(-width) if width < 0 else cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)]
    return "  ".join(cells)


def table_row(exported: Exported) -> str:
    """Write one row of the table: worst cases of float32, means of the other precisions."""
    parity, worst = exported.parity, TOLERANCES[exported.precision].worst
    boxes, scores, mask_iou = (
        (parity.boxes.max(), parity.scores.max(), parity.mask_iou.min())
        if worst
        else (parity.boxes.mean(), parity.scores.mean(), parity.mask_iou.mean())
    )
    file = f"{exported.path.parent.name}/{exported.path.name}" if exported.path.is_dir() else exported.path.name
    return _line(
        (
            exported.title,
            file,
            f"{size_of(exported.path) / 1e6:.1f} MB",
            f"{boxes:.4f}",
            f"{scores:.0e}",
            f"{mask_iou:.4f}",
            f"{parity.lost}/{len(parity.boxes)}",
            f"{parity.milliseconds:.0f}",
        )
    )
