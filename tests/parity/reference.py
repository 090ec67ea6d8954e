"""What the scripts that run published networks in PyTorch share: weights by the rule, and the file of numbers."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from rule import make_tensor, summarize

COCO_MEAN, COCO_STD = (0.47026115, 0.44719302, 0.40789654), (0.27809835, 0.27408164, 0.28863828)
"""Of COCO's pixels in 0..1, RGB, as CenterNet and our networks are normalised."""


def set_weights(model: torch.nn.Module, network: str) -> None:
    """Give every tensor of a model the values of the rule."""
    state = {
        key: torch.from_numpy(make_tensor(network, key, tuple(value.shape))) if value.ndim else value
        for key, value in model.state_dict().items()
    }
    model.load_state_dict(state)
    model.eval()


def shapes_of(model: torch.nn.Module) -> dict[str, list[int]]:
    """Name the tensors of a checkpoint of a model, with their shapes."""
    return {key: list(value.shape) for key, value in model.state_dict().items()}


def write(
    path: Path,
    outputs: Mapping[str, Mapping[str, np.ndarray]],
    shapes: Mapping[str, Mapping[str, list[int]]],
    provenance: Mapping[str, object],
) -> None:
    """Write the numbers of outputs [B, h, w, C] by network and name, and say how each output is distributed."""
    rows = {}
    for network, tensors in outputs.items():
        for name, values in tensors.items():
            rows[f"{network}/{name}"] = summary = summarize(f"{network}/{name}", values)
            print(f"{network}/{name:32} {values.shape!s:22} deviation {summary[1]:8.4f} largest {summary[2]:8.3f}")
    # The sampled values to float32, in which they were computed.
    arrays = {key: row.astype(np.float32) for key, row in rows.items()}
    provenance = {**provenance, "torch": torch.__version__}
    np.savez_compressed(path, provenance=json.dumps(provenance), shapes=json.dumps(shapes), **arrays)
