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
        batch: of LVIS, with `known_classes` and `known_valid`.
        num_classes: C.

    Returns:
        bool [B, C].
    """
    listed = batch["known_classes"][..., None] == ops.arange(num_classes, dtype="int32")  # [B, L, C]
    return ~ops.any(listed & batch["known_valid"][..., None], axis=1)
