"""Read a PyTorch checkpoint as NumPy arrays. The only module that imports PyTorch, and only when it is called."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from centermask_keras.errors import CenterMaskError

PARALLEL_PREFIX = "module."
"""What PyTorch's data parallel wrapper puts before every name."""


def read_checkpoint(path: str | Path) -> dict[str, np.ndarray]:
    """Read the tensors of a checkpoint by their names, without executing anything that the file may hold.

    Args:
        path: a file of `torch.save`: a dictionary of tensors, or one with such a dictionary under `state_dict`.

    Raises:
        CenterMaskError: PyTorch is not installed, or the file is not such a checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        received = "a folder" if path.is_dir() else "no such file"
        raise CenterMaskError(f"{path}: expected a PyTorch checkpoint, received {received}")
    try:
        import torch
    except ImportError:
        raise CenterMaskError(
            "import: expected PyTorch to read the checkpoint, received none: pip install torch"
        ) from None
    _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old protocols: nothing that a user can act on
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch raises a dozen types for files that are cut, of another kind or unsafe
        raise CenterMaskError(f"{path}: expected a PyTorch checkpoint of tensors, received: {_reason(error)}") from None
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CenterMaskError(f"{path}: expected a dictionary of tensors, received another object")
    tensors: dict[str, np.ndarray] = {}
    for key, value in state.items():
        name = str(key).removeprefix(PARALLEL_PREFIX)
        if name in tensors:
            raise CenterMaskError(f"{path}: {name}: expected one tensor of this name, received two")
        tensors[name] = _to_numpy(value, f"{path}: {name}")
    return tensors


def _check_archive(path: Path) -> None:
    """Look for damage in a checkpoint that is an archive (all of the last years are): PyTorch does not."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError) as error:
        raise CenterMaskError(f"{path}: expected a whole PyTorch checkpoint, received: {error}") from None
    if damaged:
        raise CenterMaskError(f"{path}: expected a whole PyTorch checkpoint, received damage in {damaged}")


def _reason(error: Exception) -> str:
    """Say in a line why PyTorch does not read a file, without its advice to execute it."""
    if "weights_only" in str(error):
        return "something else, which was not executed. Save model.state_dict() to a file of its own"
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _to_numpy(value: Any, where: str) -> np.ndarray:
    """Return a tensor as float32."""
    kinds = {"complex": value.is_complex(), "quantised": value.is_quantized, "one without values": value.is_meta}
    kinds["sparse"] = str(value.layout) != "torch.strided"
    for received, is_so in kinds.items():
        if is_so:
            raise CenterMaskError(f"{where}: expected a dense tensor of numbers, received {received}")
    return value.detach().float().numpy()
