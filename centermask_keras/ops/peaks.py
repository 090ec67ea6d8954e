"""Local maxima of the heatmap, the strongest first."""

from __future__ import annotations

import math

from keras import ops

from centermask_keras.ops.top_k import top_k_of_map
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
    peak_logits, classes, cells = top_k_of_map(candidates, count)
    return ops.sigmoid(peak_logits), classes, cells
