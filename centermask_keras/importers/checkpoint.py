"""Read a PyTorch checkpoint as NumPy arrays. The only module that imports PyTorch, and only when it is called."""

from __future__ import annotations

from pathlib import Path

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
    if not Path(path).is_file():
        raise CenterMaskError(f"{path}: expected a PyTorch checkpoint, received no such file")
    try:
        import torch
    except ImportError:
        raise CenterMaskError(
            "import: expected PyTorch to read the checkpoint, received none: pip install torch"
        ) from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch raises a dozen types for files that are cut, of another kind or unsafe
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CenterMaskError(f"{path}: expected a PyTorch checkpoint of tensors, received: {reason}") from None
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CenterMaskError(f"{path}: expected a dictionary of tensors, received another object")
    return {str(key).removeprefix(PARALLEL_PREFIX): value.detach().float().numpy() for key, value in state.items()}
