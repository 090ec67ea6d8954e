"""Packages that only some tasks need: what to install where one of them is missing."""

from __future__ import annotations

from importlib.util import find_spec

PACKAGES = {
    "PIL": "pillow",
    "absl": "absl-py",
    "ai_edge_litert": "ai-edge-litert",
    "ai_edge_quantizer": "ai-edge-quantizer",
    "cv2": "opencv-python",
    "faster_coco_eval": "faster-coco-eval",
    "grpc": "grpcio",
    "tensorflow_serving": "tensorflow-serving-api",
}
"""Name of a module -> the package that it is in, where the two differ."""


def install_hint(error: ModuleNotFoundError, together: tuple[str, ...] = ()) -> str:
    """Return the command that installs a missing module.

    Args:
        error: what its import raised.
        together: modules that the same task needs; those that are missing as well are named, too.
    """
    first = str(error.name).partition(".")[0]
    missing = [first, *(name for name in together if name != first and find_spec(name) is None)]
    return f"pip install {' '.join(PACKAGES.get(name, name) for name in missing)}"
