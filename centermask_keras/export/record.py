"""What is written and printed of an export: `export.json`, and the table of parity."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from centermask_keras import __version__
from centermask_keras.export.formats import FORMATS, THREADS
from centermask_keras.export.parity import TOLERANCES, Parity
from centermask_keras.export.saved_model import image_limit
from centermask_keras.inference.runtimes.description import Description, describe_input
from centermask_keras.inference_config import SCORE_THRESHOLD, InferenceConfig
from centermask_keras.packages import PACKAGES

RECORD = "export.json"
NOT_MEASURED = "not measured"
VERSIONS_OF = ("tensorflow", "keras", "numpy", *(module for row in FORMATS.values() for module in row.modules))
"""Modules whose packages write and run exports."""
FILES = {
    "in": {
        "image_bytes": "string [B], files of any sizes: JPEG, PNG, BMP (8, 24 or 32 bits, without run lengths) or WebP "
        "(not animated)"
    },
    "out": {
        "boxes": "float32 [B, K, 4], xyxy, original pixels, the frame of the mask: not clipped to the image",
        "scores": "float32 [B, K]",
        "classes": "int32 [B, K]",
        "valid": "bool [B, K]; the other rows carry no meaning",
        "masks": "uint8 [B, K, M, M], probability times 255 on the grid of the box",
        "image_hw": "int32 [B, 2], height and width, upright; 0 where there is an error",
        "error": "string [B], why a file was not read; empty if it was",
    },
}
ID_MAP = {
    "in": {"image_bytes": "as above"},
    "out": {
        "id_map_bytes": "string [B], a 16-bit PNG of the image's size: row of the object plus 1, or 0; holds the "
        f"objects that score {SCORE_THRESHOLD} or more",
        "boxes, scores, classes, valid, image_hw, error": "as above",
    },
}
DESCRIBE = {
    "in": {"query": "string [B], anything"},
    "out": {"description": "string [B], JSON: format, input, categories, config"},
}


def signatures(name: str, config: InferenceConfig) -> dict[str, Any]:
    """Say what a format takes and gives, by the names of its signatures; an ONNX graph has none."""
    batch = "1" if name == "tflite" else "B"
    graph = {
        "in": {"images": describe_input(config, batch)},
        "out": {
            "boxes": f"float32 [{batch}, K, 4], xyxy, input pixels",
            "scores": f"float32 [{batch}, K]",
            "classes": f"int32 [{batch}, K]",
            "valid": f"bool [{batch}, K]; the other rows carry no meaning",
            "masks": f"float32 [{batch}, K, M, M], probabilities on the grid of each box",
        },
    }
    match name:
        case "saved_model":
            return {"serving_default": FILES, "id_map": ID_MAP, "tensor": graph, "describe": DESCRIBE}
        case "tflite":
            return {"serving_default": graph}
        case _:
            return graph


@dataclass(frozen=True)
class Exported:
    """One written file (or SavedModel folder).

    Attributes:
        format: key of `FORMATS`.
        precision: `fp32`, `fp16`, `dynamic` or `int8`.
        path: where it is.
        parity: how far it is from Keras; None where that was not measured, as the model found nothing.
    """

    format: str
    precision: str
    path: Path
    parity: Parity | None

    @property
    def title(self) -> str:
        """Format and precision, for people."""
        return f"{FORMATS[self.format].title} {self.precision}"

    @property
    def faults(self) -> list[str]:
        """Say what is out of tolerance."""
        return self.parity.faults(TOLERANCES[self.precision]) if self.parity else []


def write_record(folder: Path, run: Path, description: Description, done: Sequence[Exported]) -> None:
    """Write `export.json`: what was exported, from what, with what, and how far it is from Keras."""
    record = {
        **description.to_json(),
        "name": folder.name,
        "class_names": [category.name for category in description.categories],
        "weights_sha256": hashlib.sha256((run / "model.weights.h5").read_bytes()).hexdigest(),
        "signatures": {row.format: signatures(row.format, description.config) for row in done},
        "most_pixels": image_limit(description.config)["most_pixels"],
        "files": [_file_record(exported, folder) for exported in done],
        "versions": {"centermask-keras": __version__, "python": platform.python_version(), **_versions(VERSIONS_OF)},
    }
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    (folder / RECORD).write_text(text, encoding="utf-8")


def _versions(modules: Iterable[str]) -> dict[str, str]:
    """Look up the versions of the packages of some modules, those that are installed."""
    found = {}
    for package in dict.fromkeys(PACKAGES.get(module, module) for module in modules):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _file_record(exported: Exported, folder: Path) -> dict[str, Any]:
    return {
        "path": exported.path.relative_to(folder).as_posix(),
        "format": exported.format,
        "precision": exported.precision,
        "bytes": size_of(exported.path),
        **(_parity_record(exported.parity) if exported.parity else {"parity": NOT_MEASURED}),
    }


def _parity_record(parity: Parity) -> dict[str, Any]:
    figures = zip(parity.figures(worst=False), parity.figures(worst=True), strict=True)
    boxes, scores, mask_iou = ({"mean": _finite(mean), "worst": _finite(worst)} for mean, worst in figures)
    return {
        "objects": parity.objects,
        "objects_of_another_class": parity.other_class,
        "objects_lost": parity.lost,
        "objects_not_finite": parity.not_finite,
        "boxes_px": boxes,
        "scores": scores,
        "mask_iou": mask_iou,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no NaN


def size_of(path: Path) -> int:
    """Count the bytes of a file, or of all files in a folder."""
    return path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


COLUMNS = (
    ("format", 16),
    ("file", 28),
    ("size", -8),
    ("boxes px", -8),
    ("scores", -7),
    ("mask IoU", -8),
    ("classes", -7),
    ("lost", -6),
    (f"ms, {THREADS} threads", -13),
)
"""Title and width; negative: to the right."""


def table_header() -> str:
    """Write the head of the table of parity."""
    return _line([title for title, _ in COLUMNS])


def _line(cells: Sequence[str]) -> str:
    rows = zip(cells, (width for _, width in COLUMNS[: len(cells)]), strict=True)
    return "  ".join(cell.rjust(-width) if width < 0 else cell.ljust(width) for cell, width in rows)


def table_row(exported: Exported) -> str:
    """Write one row of the table: worst cases of float32, means of lower precisions; classes and lost are counts."""
    parity, path = exported.parity, exported.path
    name = f"{path.parent.name}/{path.name}" if path.is_dir() else path.name
    file = (exported.title, name, f"{size_of(path) / 1e6:.1f} MB")
    if parity is None:
        return f"{_line(file)}  {NOT_MEASURED}"
    boxes, scores, mask_iou = parity.figures(worst=TOLERANCES[exported.precision].worst)
    return _line(
        (
            *file,
            f"{boxes:.4f}",
            f"{scores:.0e}",
            f"{mask_iou:.4f}",
            str(parity.other_class),
            f"{parity.lost}/{parity.objects}",
            f"{parity.milliseconds:.0f}",
        )
    )
