"""Dense class maps from the few planes of the classes present.

Stage: targets (training only). Used for the saliency target and for the regions to ignore.
"""

from __future__ import annotations

from keras import ops

from centermask_keras.structures import Tensor


def class_planes_to_map(planes: Tensor, plane_classes: Tensor, plane_valid: Tensor, num_classes: int) -> Tensor:
    """Put each plane into the channel of its class.

    Args:
        planes: uint8 [B, P, h, w], coverage 0..255. Padded planes may hold anything.
        plane_classes: int32 [B, P], in [0, C); the valid ones of an image differ.
        plane_valid: bool [B, P].
        num_classes: C.

    Returns:
        uint8 [B, h, w, C], coverage 0..255; 0 in channels without a plane.
    """
    batch, count, height, width = ops.shape(planes)
    # Whole numbers up to 255 survive any precision a device may multiply in, bfloat16 included.
    flat = ops.reshape(ops.cast(planes, "bfloat16"), (batch, count, -1))  # [B, P, h * w]
    channels = ops.one_hot(plane_classes, num_classes, dtype="bfloat16")  # [B, P, C]
    channels = ops.where(plane_valid[..., None], channels, ops.zeros((), "bfloat16"))
    dense = ops.cast(ops.matmul(ops.transpose(flat, (0, 2, 1)), channels), "uint8")  # [B, h * w, C]
    return ops.reshape(dense, (batch, height, width, num_classes))
