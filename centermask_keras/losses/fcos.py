"""Losses of FCOS: classes (focal), boxes (generalised IoU), centerness.

Source: Tian et al. 2019, "FCOS" (arXiv 1904.01355), Section 3; Lin et al. 2017 (arXiv 1708.02002), Eq. 5; Rezatofighi
et al. 2019 (arXiv 1902.09630), Algorithm 1.
Deviations: IoU without the 1 that the release adds to intersection and union.
"""

from __future__ import annotations

from keras import ops

from centermask_keras.ops.replicas import sum_over_replicas
from centermask_keras.structures import Tensor

ALPHA = 0.25
"""Weight of the positives; the negatives weigh 1 - ALPHA. The focusing exponent is 2, a square below."""
LEAST_AREA = 1e-6
"""Square cells: keeps the division finite where predicted and true box, or both, are empty."""


def focal_loss(logits: Tensor, classes: Tensor, positive: Tensor, ignored: Tensor, num_positives: Tensor) -> Tensor:
    """Compute the focal loss of the classes over all locations.

    Args:
        logits: float [B, T, C].
        classes: int32 [B, T], in [0, C); read where positive.
        positive: bool [B, T].
        ignored: bool, broadcasts to [B, T, C]: negatives there do not count.
        num_positives: float32 scalar, at least 1.

    Returns:
        float32 scalar, the sum divided by `num_positives`.
    """
    logits = ops.cast(logits, "float32")
    target = ops.one_hot(classes, logits.shape[-1], dtype="float32") * ops.cast(positive, "float32")[..., None]
    positives = -ALPHA * ops.square(ops.sigmoid(-logits)) * ops.log_sigmoid(logits)
    negatives = -(1 - ALPHA) * ops.square(ops.sigmoid(logits)) * ops.log_sigmoid(-logits)
    total = ops.sum(target * positives + (1.0 - target) * ops.where(ignored, 0.0, negatives))
    return total / num_positives


def giou_loss(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Compute 1 - GIoU of boxes that share a point, averaged by weight.

    Args:
        predicted: float [B, T, 4], left, top, right, bottom from the location, at least 0, strides.
        target: float32 [B, T, 4], likewise.
        weight: float32 [B, T], at least 0; rows of weight 0 do not count and may hold any finite number.

    Returns:
        float32 scalar; 0 if all weights are. Under a strategy the part of this replica in that of the whole batch.
    """
    predicted = ops.cast(predicted, "float32")
    intersection = _area(ops.minimum(predicted, target))
    hull = _area(ops.maximum(predicted, target))
    union = _area(predicted) + _area(target) - intersection
    giou = intersection / (union + LEAST_AREA) - (hull - union) / (hull + LEAST_AREA)
    total = sum_over_replicas(ops.sum(weight))
    return ops.sum(weight * (1.0 - giou)) / ops.where(total > 0, total, 1.0)


def centerness_loss(logits: Tensor, target: Tensor, positive: Tensor, num_positives: Tensor) -> Tensor:
    """Compute the binary cross entropy of the centerness at the positive locations.

    Args:
        logits: float [B, T].
        target: float32 [B, T] in [0, 1].
        positive: bool [B, T].
        num_positives: float32 scalar, at least 1.

    Returns:
        float32 scalar, the sum divided by `num_positives`.
    """
    logits = ops.cast(logits, "float32")
    return ops.sum(ops.where(positive, ops.softplus(logits) - target * logits, 0.0)) / num_positives


def _area(distances: Tensor) -> Tensor:
    """Return the area [...] of the boxes with distances [..., 4] from a point inside."""
    sides = distances[..., :2] + distances[..., 2:]
    return sides[..., 0] * sides[..., 1]
