"""FCOS decoding: classes, boxes and centerness of all locations -> boxes, scores, classes, and where each was found.

Stage: decode. Inverse: targets/fcos.py.
Source: Tian et al. 2019, "FCOS" (arXiv 1904.01355), Section 3, with the constants of its release.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from keras import ops

from centermask_keras.geometry.locations import STRIDES, decode_distances, make_locations
from centermask_keras.ops.nms import suppress_overlaps
from centermask_keras.ops.top_k import top_k_of_map
from centermask_keras.structures import Tensor

MOST_PER_LEVEL = 1000
"""Candidates of each level that enter the suppression, the highest scores first."""
IOU_THRESHOLD = 0.6
"""Boxes of one class that overlap by more than this do not both stay."""


def decode_fcos(
    class_logits: Sequence[Tensor],
    distances: Sequence[Tensor],
    centerness_logits: Sequence[Tensor],
    *,
    num_detections: int,
    least_score: float,
) -> dict[str, Tensor]:
    """Decode all locations of each image into boxes and keep the best that do not overlap.

    Args:
        class_logits: P3 to P7, each float [B, h, w, C]; `B, h, w` may be dynamic.
        distances: each float [B, h, w, 4], left, top, right, bottom from the location, in strides.
        centerness_logits: each float [B, h, w, 1].
        num_detections: K.
        least_score: classes less probable than this at a location are not looked at.

    Returns:
        boxes: float32 [B, K, 4], xyxy, input pixels, not clipped to the input.
        scores: float32 [B, K] in [0, 1], falling: the root of class probability times centerness.
        classes: int32 [B, K].
        valid: bool [B, K].
        locations: int32 [B, K], the number of the location (geometry/locations.py).
    """
    levels_hw = [tuple(ops.shape(level)[1:3]) for level in class_logits]
    centers, _ = make_locations(levels_hw)
    found: dict[str, list[Tensor]] = {"scores": [], "classes": [], "locations": [], "boxes": []}
    start = 0
    for index, (height, width) in enumerate(levels_hw):
        scores, classes, cells = _best_of_level(class_logits[index], centerness_logits[index], least_score)
        sides = ops.reshape(ops.cast(distances[index], "float32"), (ops.shape(scores)[0], height * width, 4))
        sides = ops.take_along_axis(sides, cells[..., None], axis=1) * STRIDES[index]
        boxes = decode_distances(sides, ops.take(centers, cells + start, axis=0))
        found["boxes"].append(boxes)
        # Boxes of no area overlap nothing, and would each take the place of an object.
        found["scores"].append(ops.where(ops.all(boxes[..., 2:] > boxes[..., :2], axis=-1), scores, 0.0))
        found["classes"].append(classes)
        found["locations"].append(cells + start)
        start = start + height * width
    joined = {name: ops.concatenate(values, axis=1) for name, values in found.items()}
    picks, scores = suppress_overlaps(
        joined["boxes"], joined["scores"], joined["classes"], count=num_detections, iou_threshold=IOU_THRESHOLD
    )
    return {
        "boxes": ops.take_along_axis(joined["boxes"], picks[..., None], axis=1),
        "scores": scores,
        "classes": ops.take_along_axis(joined["classes"], picks, axis=1),
        "valid": scores > 0,
        "locations": ops.take_along_axis(joined["locations"], picks, axis=1),
    }


def _best_of_level(
    class_logits: Tensor, centerness_logits: Tensor, least_score: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return scores float32, classes int32 and cells int32, each [B, n], of the best candidates of a level."""
    class_logits = ops.cast(class_logits, "float32")
    likely = class_logits > math.log(least_score / (1 - least_score))
    # By the logarithm, whose differences survive near a probability of 1.
    log_scores = (ops.log_sigmoid(class_logits) + ops.log_sigmoid(ops.cast(centerness_logits, "float32"))) / 2
    best, classes, cells = top_k_of_map(ops.where(likely, log_scores, -math.inf), MOST_PER_LEVEL)
    return ops.exp(best), classes, cells
