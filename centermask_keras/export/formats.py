"""The formats that a model is exported in. Nothing is imported for one of them before somebody asks for it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from centermask_keras.errors import CenterMaskError
from centermask_keras.packages import install_hint


class ExportFormat(NamedTuple):
    """A format; `export/NAME.py` writes it with `export_NAME`.

    Attributes:
        title: its name for people.
        modules: what is imported beside TensorFlow to write and to run it.
    """

    title: str
    modules: tuple[str, ...]


FORMATS = {
    "saved_model": ExportFormat("SavedModel", ()),
    "tflite": ExportFormat("TFLite", ("ai_edge_litert", "ai_edge_quantizer", "tf2onnx")),
    "onnx": ExportFormat("ONNX", ("tf2onnx", "onnx", "onnxruntime")),
}
THREADS = 2
"""CPU threads that the files are timed on."""


def import_exporter(name: str) -> Callable[..., dict[str, Path]]:
    """Import what writes a format: (detector, description, folder, canvases) -> precision to path.

    Raises:
        CenterMaskError: a package is not installed.
    """
    title, modules = FORMATS[name]
    try:
        return getattr(import_module(f"centermask_keras.export.{name}"), f"export_{name}")
    except ModuleNotFoundError as error:
        raise CenterMaskError(
            f"{title}: expected the package {error.name}, received none. {install_hint(error, modules)}"
        ) from None


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
