"""The formats that a model is exported in. Nothing is imported for one of them before somebody asks for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from centermask_keras.errors import CenterMaskError
from centermask_keras.packages import install_hint

TITLES = {"saved_model": "SavedModel", "tflite": "TFLite", "onnx": "ONNX"}
"""The formats, and their names for people."""
TOGETHER = {
    "saved_model": (),
    "tflite": ("ai_edge_litert", "ai_edge_quantizer", "tf2onnx"),
    "onnx": ("onnx", "onnxruntime", "tf2onnx"),
}
"""The modules that a format needs beside TensorFlow, to be written and run."""
THREADS = 2
"""CPU threads that the files are timed on."""


def import_exporter(name: str) -> Callable[..., dict[str, Path]]:
    """Import what writes a format: (detector, description, folder, canvases) -> precision to path.

    Raises:
        CenterMaskError: a package is not installed.
    """
    try:
        match name:
            case "saved_model":
                from centermask_keras.export.saved_model import export_saved_model as exporter
            case "tflite":
                from centermask_keras.export.tflite import export_tflite as exporter
            case "onnx":
                from centermask_keras.export.onnx import export_onnx as exporter
    except ModuleNotFoundError as error:
        raise CenterMaskError(
            f"{TITLES[name]}: expected the package {error.name}, received none. {install_hint(error, TOGETHER[name])}"
        ) from None
    return exporter


def check_name(folder: Path) -> str:
    """Return the name of an export's folder, which a model server serves it by.

    Raises:
        CenterMaskError: the name is none that a URL can hold.
    """
    name = folder.resolve().name
    if not name or not name.isascii() or not all(letter.isalnum() or letter in "_-." for letter in name):
        raise CenterMaskError(
            f"{folder}: expected a name of letters, digits, _ - and . to serve it by, received {name}"
        )
    return name
