"""Proof of an export: the written file, in its own runtime, against Keras on real images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from centermask_keras.errors import CenterMaskError
from centermask_keras.inference.predictor import Predictor
from centermask_keras.inference_config import SCORE_THRESHOLD
from centermask_keras.structures import Detections

LAST_DIGITS = 1e-4
"""What runtimes may differ by in scores and mask probabilities. A model that was hardly trained has many of these at
the limits where something is decided, which says nothing about a file."""
SAME_BOX = 0.5
"""IoU of two boxes that are the same object."""


@dataclass(frozen=True)
class Tolerance:
    """What a precision may differ by.

    Attributes:
        boxes: input pixels.
        scores: of 1.
        mask_iou: at least this.
        lost: share of the objects that may have no counterpart, or one of another class.
        worst: boxes, scores and masks are judged by the worst object, or by the mean of all.
    """

    boxes: float
    scores: float
    mask_iou: float
    lost: float
    worst: bool


# Of the lower precisions about what was measured on the shipped model of nuclei: 2,141 objects of the 43 images that
# chose its checkpoint; all of them, and the worst of 2,000 drawings of 16 images, as many as an export looks at.
#             boxes px          scores              mask IoU           lost
#   fp16      0.001 and 0.002   8e-5 and 9e-5       0.9999 and 0.9999  none
#   dynamic   0.094 and 0.127   0.0034 and 0.0044   0.9943 and 0.9925  0.001 and 0.005
#   int8      0.328 and 0.433   0.0122 and 0.0154   0.9792 and 0.9719  0.015 and 0.038
TOLERANCES = {
    "fp32": Tolerance(boxes=0.05, scores=1e-4, mask_iou=0.999, lost=0.0, worst=True),
    "fp16": Tolerance(boxes=0.15, scores=1e-3, mask_iou=0.997, lost=0.02, worst=False),
    "dynamic": Tolerance(boxes=0.5, scores=0.01, mask_iou=0.98, lost=0.05, worst=False),
    "int8": Tolerance(boxes=0.45, scores=0.016, mask_iou=0.97, lost=0.05, worst=False),
}


@dataclass(frozen=True)
class Parity:
    """How far an exported file is from Keras.

    Attributes:
        boxes: per pair of objects of one class, the largest difference of an edge, input pixels.
        scores: the same for scores.
        mask_iou: the same for masks, cut at the threshold, on their grids.
        objects: objects of the reference.
        other_class: objects of the reference whose counterpart is of another class.
        lost: objects on either side without a counterpart on the other.
        not_finite: valid objects of the file with a box, score or mask that is not finite.
        milliseconds: per image, the median.
    """

    boxes: np.ndarray
    scores: np.ndarray
    mask_iou: np.ndarray
    objects: int
    other_class: int
    lost: int
    not_finite: int
    milliseconds: float

    def figures(self, *, worst: bool) -> tuple[float, float, float]:
        """Return boxes, scores and mask IoU of the worst pair, or the means; NaN where there is no pair."""
        if not len(self.boxes):
            return (float("nan"),) * 3
        over, under = (np.max, np.min) if worst else (np.mean, np.mean)
        return float(over(self.boxes)), float(over(self.scores)), float(under(self.mask_iou))

    def faults(self, tolerance: Tolerance) -> list[str]:
        """Say what is out of tolerance."""
        faults = []
        if self.not_finite:
            faults.append(f"expected finite numbers, received {self.not_finite} objects with others")
        if not len(self.boxes):
            return [*faults, f"expected the {self.objects} objects that Keras finds, received none of them"]
        boxes, scores, mask_iou = self.figures(worst=tolerance.worst)
        # Asked for what is right, not for what is wrong: NaN is neither above nor below anything.
        if not boxes <= tolerance.boxes:
            faults.append(f"boxes: expected within {tolerance.boxes} px, received {boxes:.3g}")
        if not scores <= tolerance.scores:
            faults.append(f"scores: expected within {tolerance.scores}, received {scores:.2g}")
        if not mask_iou >= tolerance.mask_iou:
            faults.append(f"mask IoU: expected at least {tolerance.mask_iou}, received {mask_iou:.4f}")
        allowed = tolerance.lost * self.objects
        if self.other_class > allowed:
            faults.append(f"classes: expected at most {allowed:.1f} others, received {self.other_class}")
        if self.lost > allowed:
            faults.append(f"objects without a counterpart: expected at most {allowed:.1f}, received {self.lost}")
        return faults


def find_rows(predictor: Predictor, canvases: Sequence[np.ndarray]) -> list[Detections]:
    """Run a predictor on prepared images uint8 [H, W, 3], one by one: the valid rows of each."""
    return [_rows(predictor.detect(canvas[None])) for canvas in canvases]


def finds_objects(rows: Sequence[Detections]) -> bool:
    """Return whether a predictor finds an object that scores `SCORE_THRESHOLD` or more in any image."""
    return any((found["scores"] >= SCORE_THRESHOLD).any() for found in rows)


def find_thresholds(reference: Sequence[Detections]) -> list[float]:
    """Return from which score on the objects of each image are compared.

    Of a model that finds nothing, one that was hardly trained, all rows but the last: which one that is may be decided
    by the last digits.
    """
    if finds_objects(reference):
        return [SCORE_THRESHOLD] * len(reference)
    return [float(rows["scores"].min(initial=1.0)) + LAST_DIGITS for rows in reference]


def compare(
    reference: Sequence[Detections],
    other: Predictor,
    canvases: Sequence[np.ndarray],
    thresholds: Sequence[float] | None = None,
) -> Parity:
    """Run a predictor on prepared images, one by one, and compare its objects with those of another one.

    Args:
        reference: what is right, for each image (see `find_rows`).
        other: what is compared.
        canvases: uint8 [H, W, 3] each.
        thresholds: for each image: objects of the reference and of the other one from this score on need a
            counterpart; the counterpart may score less. By default those of `find_thresholds`.

    Raises:
        CenterMaskError: the reference has no object to compare in any image.
    """
    thresholds = find_thresholds(reference) if thresholds is None else thresholds
    threshold = other.config.eval.mask_threshold
    undecided = 0.0 if finds_objects(reference) else LAST_DIGITS
    differences: list[tuple[float, float, float]] = []
    seconds: list[float] = []
    objects = other_class = lost = not_finite = 0
    prepared = None
    for expected, canvas, score_threshold in zip(reference, canvases, thresholds, strict=True):
        if canvas.shape != prepared:
            other.detect(canvas[None])  # the first run of a size prepares
            prepared = canvas.shape
        begin = time.perf_counter()
        received = other.detect(canvas[None])
        seconds.append(time.perf_counter() - begin)
        received = _rows(received)
        not_finite += _count_not_finite(received)
        pairs, missing = match(expected, received, score_threshold)
        _, surplus = match(received, expected, score_threshold)
        objects += len(pairs) + missing
        lost += missing + surplus
        alike = [(i, j) for i, j in pairs if expected["classes"][i] == received["classes"][j]]
        other_class += len(pairs) - len(alike)
        differences += [_differ(expected, i, received, j, threshold, undecided) for i, j in alike]
    if not objects:
        raise CenterMaskError(
            "expected objects in the sample images, received none: nothing could be compared. Pass --images with a "
            "folder of images that the model knows"
        )
    boxes, scores, mask_iou = np.array(differences, float).reshape(-1, 3).T
    milliseconds = 1e3 * float(np.median(seconds))
    return Parity(boxes, scores, mask_iou, objects, other_class, lost, not_finite, milliseconds)


def _rows(detections: Detections) -> Detections:
    """Take the valid rows of the only image."""
    valid = np.asarray(detections["valid"][0], bool)
    return {name: np.asarray(value[0])[valid] for name, value in detections.items()}


def _count_not_finite(rows: Detections) -> int:
    finite = np.isfinite(rows["scores"])
    finite &= np.isfinite(rows["boxes"]).all(axis=1) & np.isfinite(rows["masks"]).all(axis=(1, 2))
    return int((~finite).sum())


def match(expected: Detections, received: Detections, score_threshold: float) -> tuple[list[tuple[int, int]], int]:
    """Pair each object from the threshold on with one whose box is alike, of its class if there is one.

    Args:
        expected, received: rows of one image, by falling score.
        score_threshold: objects of `expected` that score less are left out.

    Returns:
        Rows of both that belong together, each in one pair at most; how many found none.
    """
    pairs, left = [], 0
    free = np.ones(len(received["scores"]), bool)
    for i in np.flatnonzero(expected["scores"] >= score_threshold):
        iou = np.nan_to_num(_box_iou(expected["boxes"][i], received["boxes"]))
        # Of several on one spot the one of the same class, then the one with the nearest score.
        apart = np.nan_to_num(np.abs(received["scores"] - expected["scores"][i]), nan=1.0)
        alike = iou - 0.1 * apart + (received["classes"] == expected["classes"][i])
        alike = np.where(free & (iou >= SAME_BOX), alike, -np.inf)
        if alike.size and np.isfinite(alike.max()):
            j = int(alike.argmax())
            free[j] = False
            pairs.append((int(i), j))
        else:
            left += 1
    return pairs, left


def _box_iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    with np.errstate(invalid="ignore"):  # boxes that are not finite, or without area: NaN
        return shared / (np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) - shared)


def _differ(
    a: Detections, i: int, b: Detections, j: int, threshold: float, undecided: float
) -> tuple[float, float, float]:
    """Return the largest difference of an edge, the difference of the scores, and the IoU of the masks.

    Cells of `a` nearer to the threshold than `undecided` do not count.
    """
    counted = ~(np.abs(a["masks"][i] - threshold) < undecided)  # cells that are not finite count
    first, second = counted & (a["masks"][i] > threshold), counted & (b["masks"][j] > threshold)
    union = (first | second).sum()
    iou = (first & second).sum() / union if union else 1.0
    return float(np.abs(a["boxes"][i] - b["boxes"][j]).max()), float(abs(a["scores"][i] - b["scores"][j])), float(iou)
