"""Local maxima of the heatmap, the strongest first."""

from __future__ import annotations

import math

from keras import ops

from centermask_keras.structures import Tensor


def find_peaks(heatmap_logits: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Find the highest local maxima of a heatmap over all classes.

    A peak is a cell that no cell of its 3 x 3 neighbourhood, in the same class, exceeds. Peaks are found and ordered by
    logits, where scores near 1 still differ.

    Args:
        heatmap_logits: float [B, h, w, C].
        count: number of peaks per image (K). May exceed the number of peaks, even h * w * C.

    Returns:
        scores: float32 [B, K] in [0, 1], falling; 0 where there was no further peak.
        classes: int32 [B, K]; 0 where there was no further peak.
        cells: int32 [B, K], i * w + j; 0 where there was no further peak.

    Source: Section 3.4 (local maxima within a window), Section 3.5 (top scoring points, no other suppression).
    """
    logits = ops.cast(heatmap_logits, "float32")
    neighborhood = ops.max_pool(logits, 3, strides=1, padding="same")
    candidates = ops.where(logits == neighborhood, logits, -math.inf)
    batch, height, width, num_classes = ops.shape(logits)
    # Not -1: of an empty batch the other axis cannot be told.
    flat = ops.reshape(candidates, (batch, height * width * num_classes))
    if flat.shape[1] is None or flat.shape[1] < count:  # top_k needs at least `count` numbers
        flat = ops.pad(flat, [[0, 0], [0, count]], constant_values=-math.inf)
    peak_logits, indices = ops.top_k(flat, count)
    found = peak_logits > -math.inf
    indices = ops.where(found, ops.cast(indices, "int32"), 0)
    return ops.sigmoid(peak_logits), indices % num_classes, indices // num_classes
