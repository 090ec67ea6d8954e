"""Mask assembly (Eq. 1): local shape and saliency of each object, brought to one grid over its box.

Called by the mask loss with true boxes and by inference with decoded ones, so that both see the same crops.
"""

from __future__ import annotations

import math

from keras import ops

from centermask_keras.ops.crop_and_resize import crop_and_resize, resize_square, select_channels
from centermask_keras.structures import Tensor


def assemble_masks(
    local_shape_logits: Tensor | None,
    saliency_logits: Tensor | None,
    boxes: Tensor,
    classes: Tensor,
    *,
    mask_size: int,
    stride: int,
) -> tuple[Tensor | None, Tensor | None]:
    """Resample the two factors of each object's mask to the same M x M grid over its box.

    Logits are resampled; squashing comes after (Section 3.3).

    Args:
        local_shape_logits: float [B, K, S * S], rows first, or None in a model without it.
        saliency_logits: float [B, h, w, C] (class-specific) or [B, h, w, 1] (class-agnostic), or None in a model
            without it.
        boxes: float32 [B, K, 4], xyxy, input pixels. Padded rows may hold any finite number.
        classes: int32 [B, K], in [0, C); not read if there is one saliency channel.
        mask_size: cells per side of the result (M).
        stride: input pixels per saliency cell.

    Returns:
        Logits of the local shape and of the saliency, each float32 [B, K, M, M], or None where the input is None.

    Raises:
        ValueError: the last axis of `local_shape_logits` is not a square; states what was received.

    Source: Section 3.1 to 3.3.
    """
    local_shape = saliency = None
    if local_shape_logits is not None:
        local_shape = resize_square(_to_square(local_shape_logits), mask_size)
    if saliency_logits is not None:
        if saliency_logits.shape[-1] == 1:
            maps = ops.transpose(saliency_logits, (0, 3, 1, 2))  # [B, 1, h, w]
        else:
            maps = select_channels(saliency_logits, classes)  # [B, K, h, w]
        saliency = crop_and_resize(maps, ops.cast(boxes, "float32") / stride, mask_size)
    return local_shape, saliency


def mask_probability(local_shape: Tensor | None, saliency: Tensor | None) -> Tensor:
    """Multiply the squashed factors of a mask.

    Args:
        local_shape: float32 [B, K, M, M], logits, or None in a model without it.
        saliency: float32 [B, K, M, M], logits, or None in a model without it.

    Returns:
        float32 [B, K, M, M] in [0, 1].

    Raises:
        ValueError: neither factor is given.

    Source: Eq. 1.
    """
    factors = [ops.sigmoid(ops.cast(factor, "float32")) for factor in (local_shape, saliency) if factor is not None]
    if not factors:
        raise ValueError("expected local shape logits, saliency logits or both, received neither")
    return factors[0] if len(factors) == 1 else factors[0] * factors[1]


def _to_square(vectors: Tensor) -> Tensor:
    """Reshape [B, K, S * S] to [B, K, S, S]."""
    length = vectors.shape[-1]
    side = math.isqrt(length)
    if side * side != length:
        raise ValueError(f"local_shape_logits: expected a square number (S * S) on the last axis, received {length}")
    batch, count = ops.shape(vectors)[:2]
    return ops.reshape(vectors, (batch, count, side, side))
