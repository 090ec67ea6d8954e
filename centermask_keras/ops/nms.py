"""Non-maximum suppression with a fixed number of results."""

from __future__ import annotations

from keras import ops

from centermask_keras.structures import Tensor


def suppress_overlaps(
    boxes: Tensor, scores: Tensor, classes: Tensor, *, count: int, iou_threshold: float
) -> tuple[Tensor, Tensor]:
    """Pick the highest-scoring boxes, each of which takes out those of its class that overlap it too much.

    As many rounds as results, each over all boxes: no sorting, no lists of varying length, compiles everywhere.

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
    batch = ops.shape(boxes)[0]
    rounds = ops.arange(count, dtype="int32")
    area = _area(boxes)

    def pick_one(index: Tensor, state: tuple) -> tuple:
        left, picks, picked_scores = state
        best = ops.cast(ops.argmax(left, axis=-1), "int32")[:, None]  # [B, 1]
        score = ops.take_along_axis(left, best, axis=1)
        box = ops.take_along_axis(boxes, best[..., None], axis=1)  # [B, 1, 4]
        overlap = _area(
            ops.concatenate([ops.maximum(boxes[..., :2], box[..., :2]), ops.minimum(boxes[..., 2:], box[..., 2:])], -1)
        )
        union = area + ops.take_along_axis(area, best, axis=1) - overlap
        same = classes == ops.take_along_axis(classes, best, axis=1)
        gone = (same & (overlap > iou_threshold * union)) | (ops.arange(ops.shape(left)[1], dtype="int32") == best)
        here = rounds == index
        return (
            ops.where(gone, 0.0, left),
            ops.where(here, best, picks),
            ops.where(here, score, picked_scores),
        )

    state = (scores, ops.zeros((batch, count), "int32"), ops.zeros((batch, count), "float32"))
    _, picks, picked_scores = ops.fori_loop(0, count, pick_one, state)
    return picks, picked_scores


def _area(boxes: Tensor) -> Tensor:
    """Return the area [...] of boxes [..., 4]; 0 of those whose sides are the wrong way round."""
    sides = ops.relu(boxes[..., 2:] - boxes[..., :2])
    return sides[..., 0] * sides[..., 1]
