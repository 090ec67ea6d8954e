"""Losses of the masks: the assembled mask (Eq. 2) and the direct supervision of the saliency (Section 4.1)."""

from __future__ import annotations

from keras import ops

from centermask_keras.ops.attach_gradient import attach_gradient
from centermask_keras.ops.replicas import num_replicas
from centermask_keras.structures import Tensor


def mask_loss(
    local_shape: Tensor | None, saliency: Tensor | None, target: Tensor, valid: Tensor, num_objects: Tensor
) -> Tensor:
    """Compute the binary cross entropy of the assembled masks, from logits.

    Args:
        local_shape: float [B, N, M, M], logits of the first factor, or None in a model without it.
        saliency: float [B, N, M, M], logits of the second factor, or None in a model without it.
        target: float32 [B, N, M, M], coverage in [0, 1].
        valid: bool [B, N]; rows where False do not count and may hold any finite number.
        num_objects: float32 scalar, at least 1.

    Returns:
        float32 scalar: the mean over an object's cells, summed over objects, divided by `num_objects`.

    Raises:
        ValueError: neither factor is given.

    Source: Eq. 2 of the mask of Eq. 1.
    """
    logit = _mask_logit(local_shape, saliency)
    per_object = ops.mean(_binary_cross_entropy(logit, target), axis=(2, 3))  # [B, N]
    return ops.sum(ops.where(valid, per_object, 0.0)) / num_objects


def saliency_loss(logits: Tensor, target: Tensor, ignored: Tensor) -> Tensor:
    """Compute the binary cross entropy of the saliency map against the coverage of each class.

    Args:
        logits: float [B, h, w, C].
        target: uint8 [B, h, w, C], coverage 0..255.
        ignored: bool, broadcasts to [B, h, w, C]: True inside of ignored regions, which do not count.

    Returns:
        float32 scalar: the sum over classes, averaged over all cells of the batch, of which replicas hold equal parts.

    Source: Section 4.1, direct supervision of the class-specific saliency (Table 1f).
    """
    logits, target = ops.cast(logits, "float32"), ops.cast(target, "float32") / 255.0
    cells = ops.cast(ops.prod(ops.shape(logits)[:3]), "float32") * num_replicas()
    value = ops.sum(ops.where(ignored, 0.0, _binary_cross_entropy(logits, target))) / cells
    gradient = ops.where(ignored, 0.0, ops.sigmoid(logits) - target) / cells
    return attach_gradient(value, logits, gradient)


def _mask_logit(local_shape: Tensor | None, saliency: Tensor | None) -> Tensor:
    """Return the float32 logits of the assembled mask: of the product of both factors, or of the one there is."""
    factors = [ops.cast(factor, "float32") for factor in (local_shape, saliency) if factor is not None]
    if not factors:
        raise ValueError("expected local shape logits, saliency logits or both, received neither")
    return factors[0] if len(factors) == 1 else _product_logit(*factors)


def _product_logit(l: Tensor, g: Tensor) -> Tensor:
    """Return the logit of sigmoid(l) * sigmoid(g), which is -log(exp(-l) + exp(-g) + exp(-l - g)).

    Squashing this one logit loses no digits: log(1 - sigmoid(l) sigmoid(g)) as a sum of softplus terms would cancel.
    """
    # The largest exponent is taken out, so that nothing overflows. It cancels, and so does its gradient.
    largest = ops.stop_gradient(ops.maximum(ops.maximum(-l, -g), -l - g))
    total = ops.exp(-l - largest) + ops.exp(-g - largest) + ops.exp(-l - g - largest)
    return -largest - ops.log(total)


def _binary_cross_entropy(logit: Tensor, target: Tensor) -> Tensor:
    return ops.softplus(logit) - target * logit
