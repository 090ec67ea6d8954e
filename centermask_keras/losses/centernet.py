"""Losses of the centre points: heatmap (Eq. 3), offset (Eq. 4), size (Eq. 5).

Deviations: Eq. 3 is misprinted; its negatives weigh (1 - Y)^beta with Y the target, as in CenterNet (arXiv 1904.07850,
Eq. 1), not one minus the prediction. No clamping of probabilities: their logarithms are taken from the logits.
"""

from __future__ import annotations

from keras import ops

from centermask_keras.ops.attach_gradient import attach_gradient
from centermask_keras.structures import Tensor

ALPHA = 2
"""Focusing exponent of the predicted probability (CenterNet). The other exponent, beta = 4, is two squares below."""


def heatmap_loss(logits: Tensor, heatmap: Tensor, ignored: Tensor, num_objects: Tensor) -> Tensor:
    """Compute the focal loss of the heatmap.

    Args:
        logits: float [B, h, w, C].
        heatmap: float32 [B, h, w, C] in [0, 1]; cells of exactly 1 are the positives.
        ignored: bool, broadcasts to [B, h, w, C]: True inside of ignored regions, whose negatives do not count.
        num_objects: float32 scalar, at least 1.

    Returns:
        float32 scalar, the sum over all cells and classes divided by `num_objects`.

    Source: Eq. 3 (see the deviation in the module's docstring).
    """
    logits = ops.cast(logits, "float32")
    score, complement = ops.sigmoid(logits), ops.sigmoid(-logits)  # the difference to 1 would lose what saturates
    log_score, log_complement = ops.log_sigmoid(logits), ops.log_sigmoid(-logits)
    positive = heatmap == 1.0
    penalty = ops.where(ignored, 0.0, ops.square(ops.square(1.0 - heatmap)))  # 0 at the positives
    # The squares are ALPHA = 2. The gradient is short, and keeps one map for the way back instead of a dozen.
    positive_weight, negative_weight = ops.where(positive, ops.square(complement), 0.0), penalty * ops.square(score)
    value = -ops.sum(positive_weight * log_score + negative_weight * log_complement) / num_objects
    gradient = positive_weight * (ALPHA * score * log_score - complement)
    gradient = gradient + negative_weight * (score - ALPHA * complement * log_complement)
    return attach_gradient(value, logits, gradient / num_objects)


def point_l1_loss(predicted: Tensor, target: Tensor, valid: Tensor, num_objects: Tensor) -> Tensor:
    """Compute the absolute error of offsets or sizes at the true centres.

    Args:
        predicted: float [B, N, 2], cells.
        target: float32 [B, N, 2], cells.
        valid: bool [B, N]; rows where False do not count, whatever they hold.
        num_objects: float32 scalar, at least 1.

    Returns:
        float32 scalar, the sum over both coordinates and all objects divided by `num_objects`.

    Source: Eq. 4 and 5.
    """
    error = ops.where(valid[..., None], ops.cast(predicted, "float32") - target, 0.0)
    return ops.sum(ops.abs(error)) / num_objects
