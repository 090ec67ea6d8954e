"""FCOS training targets: which object each location answers for, its box, its centerness.

Stage: targets (training only). Inverse: decode/fcos.py.
Source: Tian et al. 2019, "FCOS" (arXiv 1904.01355), Section 3, with the centre sampling of its later release.
Deviations: the centre of the sampling is the box centre, not the centre of mass of the mask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from keras import ops

from centermask_keras.geometry.locations import STRIDES, encode_distances, make_locations, strides_of
from centermask_keras.structures import FcosTargets, Tensor

SIZE_RANGES = ((-1.0, 64.0), (64.0, 128.0), (128.0, 256.0), (256.0, 512.0), (512.0, math.inf))
"""Input pixels: a level answers for objects whose farthest side from the location is in its range, both ends closed."""
CENTER_RADIUS = 1.5
"""Strides: only locations as near to the box centre as this, along both axes, are positive."""


def encode_fcos(boxes: Tensor, classes: Tensor, valid: Tensor, *, levels_hw: Sequence[tuple]) -> FcosTargets:
    """Assign the objects of a batch to locations.

    A location within the box and within the square of `CENTER_RADIUS` around its centre (both open), whose level fits
    the object, is positive. Where several objects meet, the one of the smallest box counts; of equal ones, the first.

    Args:
        boxes: float [B, N, 4], xyxy, input pixels. Padded rows may hold any finite number.
        classes: int32 [B, N], in [0, C). Padded rows may hold any integer.
        valid: bool [B, N], False for padded rows.
        levels_hw: height and width of P3 to P7, in cells.

    Returns:
        `FcosTargets`.
    """
    boxes = ops.where(valid[..., None], ops.cast(boxes, "float32"), 0.0)
    classes = ops.where(valid, ops.cast(classes, "int32"), 0)
    centers, level = make_locations(levels_hw)
    # Level by level: the largest tensors, one number for every pair of location and object, stay as small as can be.
    chosen, positive, start = [], [], 0
    for index, (height, width) in enumerate(levels_hw):
        end = start + height * width
        row = _assign_level(boxes, valid, centers[start:end], index)
        chosen.append(row[0])
        positive.append(row[1])
        start = end
    objects, positive = ops.concatenate(chosen, axis=1), ops.concatenate(positive, axis=1)  # [B, T]
    objects = ops.where(positive, objects, 0)
    distances = encode_distances(ops.take_along_axis(boxes, objects[..., None], axis=1), centers)
    distances = ops.where(positive[..., None], distances / strides_of(level)[:, None], 0.0)
    return {
        "objects": objects,
        "positive": positive,
        "classes": ops.take_along_axis(classes, objects, axis=1),
        "distances": distances,
        "centerness": ops.where(positive, centerness_of(distances), 0.0),
    }


def centerness_of(distances: Tensor) -> Tensor:
    """Return how central points are in their boxes: float32 [...], 1 at the centre, 0 on the border.

    Args:
        distances: float32 [..., 4], left, top, right, bottom, at least 0.

    Source: arXiv 1904.01355, Eq. 3.
    """
    opposite = ops.concatenate([distances[..., 2:], distances[..., :2]], axis=-1)
    smaller, larger = ops.minimum(distances, opposite)[..., :2], ops.maximum(distances, opposite)[..., :2]
    ratio = smaller / ops.where(larger > 0, larger, 1.0)
    return ops.sqrt(ops.prod(ratio, axis=-1))


def _assign_level(boxes: Tensor, valid: Tensor, centers: Tensor, index: int) -> tuple[Tensor, Tensor]:
    """Return the object int32 [B, t] of each location of one level, and whether there is one: bool [B, t]."""
    distances = encode_distances(boxes[:, None], centers[:, None])  # [B, t, N, 4]
    middle = (boxes[..., :2] + boxes[..., 2:])[:, None] / 2
    from_middle = ops.max(ops.abs(centers[:, None] - middle), axis=-1)
    least, most = SIZE_RANGES[index]
    farthest = ops.max(distances, axis=-1)
    suits = (ops.min(distances, axis=-1) > 0) & (from_middle < CENTER_RADIUS * STRIDES[index])
    suits = suits & (farthest >= least) & (farthest <= most) & valid[:, None]
    sides = boxes[..., 2:] - boxes[..., :2]
    area = ops.where(suits, (sides[..., 0] * sides[..., 1])[:, None], math.inf)  # [B, t, N]
    return ops.cast(ops.argmin(area, axis=-1), "int32"), ops.any(suits, axis=-1)
