"""Non-maximum suppression with a fixed number of results.

Stage: kernels; used by decode/fcos.py.
Source: the greedy rule of Girshick et al. 2014 (arXiv 1311.2524), within each class.
"""

from __future__ import annotations

from keras import ops

from centermask_keras.structures import Tensor


def suppress_overlaps(
    boxes: Tensor, scores: Tensor, classes: Tensor, *, count: int, iou_threshold: float
) -> tuple[Tensor, Tensor]:
    """Pick the highest-scoring boxes, each of which takes out those of its class that overlap it too much.

    As many rounds as results, each over all boxes: no sorting, no lists of varying length, compiles everywhere. The
    rounds are unrolled: exported graphs hold no loop, which some runtimes do not take.

    Args:
        boxes: float32 [B, n, 4], xyxy.
        scores: float32 [B, n]; rows of 0 are never picked.
        classes: int32 [B, n].
        count: K.
        iou_threshold: boxes of one class that overlap by a higher intersection over union do not both stay.

    Returns:
        picks: int32 [B, K], rows of `boxes` by falling score; any row where there was no further one.
        picked_scores: float32 [B, K], falling; 0 where there was no further one.
    """
    batch, candidates = ops.shape(boxes)[:2]
    x1, y1, x2, y2 = ops.unstack(boxes, axis=-1)  # each [B, n]; short rounds count in an unrolled graph
    area, kinds = ops.relu(x2 - x1) * ops.relu(y2 - y1), ops.cast(classes, "float32")
    rows = ops.reshape(ops.stack([x1, y1, x2, y2, area, kinds], axis=-1), (-1, 6))
    starts = candidates * ops.arange(batch, dtype="int32")[:, None]
    numbers = starts + ops.arange(candidates, dtype="int32")  # [B, n]
    left, picks, picked_scores = scores, [], []
    for _ in range(count):
        score, best = ops.top_k(left, 1)  # [B, 1]; argmax of Keras looks at the bits of zeros, which TFLite cannot
        pick = ops.cast(best, "int32") + starts
        picks.append(pick - starts)
        picked_scores.append(score)
        west, north, east, south, size, kind = ops.split(ops.take(rows, pick[:, 0], axis=0), 6, axis=-1)
        width = ops.relu(ops.minimum(x2, east) - ops.maximum(x1, west))
        overlap = width * ops.relu(ops.minimum(y2, south) - ops.maximum(y1, north))
        gone = (kinds == kind) & (overlap > iou_threshold * (area + size - overlap))
        left = ops.where(gone | (numbers == pick), 0.0, left)
    return ops.concatenate(picks, axis=1), ops.concatenate(picked_scores, axis=1)
