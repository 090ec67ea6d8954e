"""From the tensors of a checkpoint to the variables of a detector, with an account of every one of both.

Stage: importers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from centermask_keras.detectors.base import CenterMask
from centermask_keras.errors import CenterMaskError
from centermask_keras.importers.kinds import COUNTER, Kind
from centermask_keras.importers.slots import find_slots
from centermask_keras.ops.image_normalization import IMAGE_MEAN, IMAGE_STD

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's pixels in 0..1, RGB, as DLA was trained with."""
SHOWN_NAMES = 5


@dataclass(frozen=True)
class ImportReport:
    """What became of every tensor.

    Attributes:
        mapped: tensor of the checkpoint -> variable of the detector.
        left_out: tensor of the checkpoint -> why the detector has no use for it.
        initial: variable of the detector -> why the checkpoint has nothing for it.
    """

    mapped: dict[str, str]
    left_out: dict[str, str]
    initial: dict[str, str]


def convert(
    tensors: Mapping[str, np.ndarray], detector: CenterMask, kind: Kind, *, source: str
) -> tuple[dict[str, np.ndarray], ImportReport]:
    """Convert a checkpoint for a detector, without changing the detector.

    Args:
        tensors: arrays in PyTorch's layout by their names.
        detector: a detector with a backbone of `kind.backbones`.
        kind: the table of names.
        source: what errors call the checkpoint.

    Returns:
        The new values of variables by name (see `find_slots`), colours folded in, and the report.

    Raises:
        CenterMaskError: a tensor that has no place, that is not there, of another shape or not finite.
    """
    slots = find_slots(detector)
    names = {key: rename(key, kind) for key in tensors}
    left_out = {key: reason for key in tensors if (reason := _reason_to_leave(key, kind))}
    mapped = {key: name for key, name in names.items() if key not in left_out}
    unknown = [key for key, name in mapped.items() if name not in slots]
    expected = f"the tensors of model.backbone {detector.config.backbone} as this configuration has it"
    if unknown:
        raise CenterMaskError(f"{source}: expected {expected}, received others: {_some(unknown)}")
    twice = [key for key, name in mapped.items() if list(mapped.values()).count(name) > 1]
    if twice:
        raise CenterMaskError(f"{source}: expected one tensor for each variable, received several: {_some(twice)}")
    absent = [name for name in slots if name not in mapped.values()]
    initial = {name: reason for name in absent if (reason := _first_match(name, kind.initial))}
    missing = [name for name in absent if name not in initial]
    if missing:
        raise CenterMaskError(f"{source}: expected {expected}, received none for: {_some(missing)}")
    values = {}
    for key, name in mapped.items():
        slot = slots[name]
        values[name] = _converted(tensors[key], slot.convert)
        if values[name] is None or values[name].shape != tuple(slot.variable.shape):
            raise CenterMaskError(
                f"{source}: {key}: expected a tensor for {list(slot.variable.shape)} of this configuration, "
                f"received {list(tensors[key].shape)} (PyTorch's order of axes)"
            )
        if not np.isfinite(values[name]).all():
            raise CenterMaskError(f"{source}: {key}: expected finite numbers, received NaN or infinity")
        if name.endswith("running_var") and (values[name] < 0).any():
            raise CenterMaskError(f"{source}: {key}: expected variances, received negative numbers")
    return fold_colors(values, kind), ImportReport(mapped, left_out, initial)


def assign(detector: CenterMask, values: Mapping[str, np.ndarray]) -> None:
    """Set the variables of a detector to converted values."""
    slots = find_slots(detector)
    for name, value in values.items():
        slots[name].variable.assign(value)


def rename(key: str, kind: Kind) -> str:
    """Return the name of the variable that a tensor belongs to."""
    for pattern, replacement in kind.renames:
        key = re.sub(rf"^{pattern}", replacement, key)
    return key.replace(".", "_")


def fold_colors(values: Mapping[str, np.ndarray], kind: Kind) -> dict[str, np.ndarray]:
    """Let the first convolution expect what our network gives it: RGB, normalised by the statistics of COCO.

    The order of the channels and the deviations go into its weights. The difference of the means, which it sees as a
    constant, goes into the moving average of the normalisation behind it. Where the kernel reaches beyond the image the
    constant is not there: that border differs, of 7 x 7 kernels the outermost 3 pixels, by 0.065 deviations of a colour
    at most for ImageNet.
    """
    kernel_name, mean_name = f"{kind.first[0]}_weight", f"{kind.first[1]}_running_mean"
    kernel = values[kernel_name]
    if kind.colors == "bgr_coco":
        return {**values, kernel_name: np.ascontiguousarray(kernel[:, :, ::-1])}
    scale = np.divide(IMAGE_STD, IMAGENET_STD)
    shift = np.subtract(IMAGE_MEAN, IMAGENET_MEAN) / IMAGENET_STD
    constant = np.einsum("abio,i->o", kernel.astype(np.float64), shift)
    return {
        **values,
        kernel_name: (kernel * scale[:, None]).astype(np.float32),
        mean_name: (values[mean_name] - constant).astype(np.float32),
    }


def _converted(values: np.ndarray, change) -> np.ndarray | None:
    try:
        return np.asarray(change(values), np.float32)
    except (ValueError, IndexError):  # another number of axes
        return None


def _reason_to_leave(key: str, kind: Kind) -> str | None:
    return COUNTER if key.endswith("num_batches_tracked") else _first_match(key, kind.left_out)


def _first_match(name: str, reasons: Sequence[tuple[str, str]]) -> str | None:
    return next((reason for pattern, reason in reasons if re.match(pattern, name)), None)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES:,} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more
