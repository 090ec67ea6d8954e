"""What a model server answers, checked before it is used: a server may hold any model.

Stage: extra. Filled by `rest` and `grpc`, read by `client`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from centermask_keras.errors import ServingError

MEBIBYTE = 2**20

OUTPUTS = {
    "boxes": (np.floating, ("B", "K", 4)),
    "scores": (np.floating, ("B", "K")),
    "classes": (np.integer, ("B", "K")),
    "valid": (np.bool_, ("B", "K")),
    "masks": (np.integer, ("B", "K", "M", "M")),
    "image_hw": (np.integer, ("B", 2)),
    "error": (np.object_, ("B",)),
}
"""Kind and shape of the outputs of the signature `serving_default`; equal letters are equal lengths."""


def check_reply(reply: Mapping[str, np.ndarray], count: int, url: str) -> dict[str, np.ndarray]:
    """Check the outputs for `count` images.

    Returns:
        The outputs of `OUTPUTS`, arrays.

    Raises:
        ServingError: an output is missing, or of another kind or shape.
    """
    lengths: dict[str | int, int] = {"B": count}
    for name, (kind, axes) in OUTPUTS.items():
        if name not in reply:
            raise ServingError(url, f"an output {name}", f"only {', '.join(sorted(reply)) or 'nothing'}")
        values = reply[name]
        expected = [lengths.get(axis, axis) for axis in axes]
        fits = values.ndim == len(axes) and all(
            isinstance(length, str) or length == found for length, found in zip(expected, values.shape, strict=True)
        )
        # An empty JSON list has no type of its own.
        if not fits or not (values.size == 0 or np.issubdtype(values.dtype, kind)):
            wanted = f"{name} of {kind.__name__} {expected}"
            raise ServingError(url, wanted, f"{values.dtype} {list(values.shape)}")
        lengths.update(zip(axes, values.shape, strict=True))
        if "M" in axes and values.shape[-1] != values.shape[-2]:
            raise ServingError(url, f"square {name}", f"{list(values.shape)}")
    return {name: reply[name] for name in OUTPUTS}
