"""Proof of an export: the written file, in its own runtime, against Keras on real images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from centermask_keras.errors import CenterMaskError
from centermask_keras.predictor import SCORE_THRESHOLD, Predictor
from centermask_keras.structures import Detections

SAME_BOX = 0.5
"""IoU of two boxes, of one class, that are the same object."""


@dataclass(frozen=True)
class Tolerance:
    """What a precision may differ by.

    Attributes:
        boxes: input pixels.
        scores: of 1.
        mask_iou: at least this.
        lost: share of the objects that may have no counterpart.
        worst: boxes, scores and masks are judged by the worst object, or by the mean of all.
    """

    boxes: float
    scores: float
    mask_iou: float
    lost: float
    worst: bool


# The lower precisions are held to what shows that they work; what they cost in AP is measured, not guessed from this.
TOLERANCES = {
    "fp32": Tolerance(boxes=0.05, scores=1e-4, mask_iou=0.999, lost=0.0, worst=True),
    "fp16": Tolerance(boxes=0.1, scores=5e-3, mask_iou=0.99, lost=0.02, worst=False),
    "dynamic": Tolerance(boxes=3.0, scores=0.08, mask_iou=0.9, lost=0.2, worst=False),
    "int8": Tolerance(boxes=3.0, scores=0.08, mask_iou=0.9, lost=0.2, worst=False),
}


@dataclass(frozen=True)
class Parity:
    """How far an exported file is from Keras.

    Attributes:
        boxes: per object of the reference with a counterpart, the largest difference of an edge, input pixels.
        scores: the same for scores.
        mask_iou: the same for masks, cut at the threshold, on their grids.
        lost: objects on either side without a counterpart on the other.
        milliseconds: per image, the median.
    """

    boxes: np.ndarray
    scores: np.ndarray
    mask_iou: np.ndarray
    lost: int
    milliseconds: float

    def faults(self, tolerance: Tolerance) -> list[str]:
        """Say what is out of tolerance."""
        over, under = (np.max, np.min) if tolerance.worst else (np.mean, np.mean)
        boxes, scores, mask_iou = over(self.boxes), over(self.scores), under(self.mask_iou)
        allowed = tolerance.lost * len(self.boxes)
        faults = []
        if boxes > tolerance.boxes:
            faults.append(f"boxes: expected within {tolerance.boxes} px, received {boxes:.3g}")
        if scores > tolerance.scores:
            faults.append(f"scores: expected within {tolerance.scores}, received {scores:.2g}")
        if mask_iou < tolerance.mask_iou:
            faults.append(f"mask IoU: expected at least {tolerance.mask_iou}, received {mask_iou:.4f}")
        if self.lost > allowed:
            faults.append(f"objects without a counterpart: expected at most {allowed:.1f}, received {self.lost}")
        return faults


def compare(
    reference: Predictor, other: Predictor, canvases: Sequence[np.ndarray], score_threshold: float = SCORE_THRESHOLD
) -> Parity:
    """Run two predictors on prepared images, one by one, and hold their objects against each other.

    Args:
        reference: what is right.
        other: what is compared.
        canvases: uint8 [H, W, 3] each.
        score_threshold: objects of the reference and of the other one from this score on need a counterpart; the
            counterpart may score less.

    Raises:
        CenterMaskError: no object in any image: nothing could be compared.
    """
    threshold = reference.config.eval.mask_threshold
    pairs: list[tuple[float, float, float]] = []
    seconds: list[float] = []
    lost = 0
    for canvas in canvases:
        expected = reference.detect(canvas[None])
        other.detect(canvas[None])  # the first run of a size prepares
        begin = time.perf_counter()
        received = other.detect(canvas[None])
        seconds.append(time.perf_counter() - begin)
        expected, received = _rows(expected), _rows(received)
        found, missing = _match(expected, received, score_threshold)
        _, surplus = _match(received, expected, score_threshold)
        lost += missing + surplus
        pairs += [_differ(expected, i, received, j, threshold) for i, j in found]
    if not pairs:
        raise CenterMaskError(
            f"expected objects that score {score_threshold} or more in the sample images, received none: nothing could "
            "be compared. Pass --images with a folder of images that the model knows"
        )
    boxes, scores, mask_iou = (np.array(column) for column in zip(*pairs, strict=True))
    return Parity(boxes, scores, mask_iou, lost, 1e3 * float(np.median(seconds)))


def _rows(detections: Detections) -> Detections:
    """Take the valid rows of the only image."""
    valid = np.asarray(detections["valid"][0], bool)
    return {name: np.asarray(value[0])[valid] for name, value in detections.items()}


def _match(expected: Detections, received: Detections, score_threshold: float) -> tuple[list[tuple[int, int]], int]:
    """Pair each object from the threshold on with the one of its class whose box is most alike: pairs, and the rest."""
    pairs, left = [], 0
    for i in np.flatnonzero(expected["scores"] >= score_threshold):
        same_class = received["classes"] == expected["classes"][i]
        iou = np.where(same_class, _box_iou(expected["boxes"][i], received["boxes"]), 0.0)
        if iou.size and iou.max() >= SAME_BOX:
            # Of several on one spot the one with the nearest score.
            alike = iou - 0.1 * np.abs(received["scores"] - expected["scores"][i])
            pairs.append((int(i), int(alike.argmax())))
        else:
            left += 1
    return pairs, left


def _box_iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    return shared / (np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) - shared)


def _differ(a: Detections, i: int, b: Detections, j: int, threshold: float) -> tuple[float, float, float]:
    """Return the largest difference of an edge, the difference of the scores, and the IoU of the masks."""
    first, second = a["masks"][i] > threshold, b["masks"][j] > threshold
    union = (first | second).sum()
    iou = (first & second).sum() / union if union else 1.0
    return float(np.abs(a["boxes"][i] - b["boxes"][j]).max()), float(abs(a["scores"][i] - b["scores"][j])), float(iou)
