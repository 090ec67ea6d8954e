"""Which classes may be trained as absent: all of them, or of LVIS those that the annotators looked for.

Stage: targets (training only).
Source: Gupta et al. 2019, "LVIS" (arXiv 1908.03195), Section 3: what is neither annotated nor listed is unknown.
"""

from __future__ import annotations

from keras import ops

from centermask_keras.structures import GroundTruth, Tensor


def find_unknown_classes(batch: GroundTruth, num_classes: int) -> Tensor:
    """Say of which classes an image may show objects that are not annotated.

    Args:
        batch: with `known_classes` and `known_valid`, or without both, if all classes are known.
        num_classes: C.

    Returns:
        bool [B, C], or [1, C] if all are known.
    """
    if "known_classes" not in batch:
        return ops.zeros((1, num_classes), "bool")
    listed = batch["known_classes"][..., None] == ops.arange(num_classes, dtype="int32")  # [B, L, C]
    return ~ops.any(listed & batch["known_valid"][..., None], axis=1)
