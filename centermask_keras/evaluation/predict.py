"""Run a detector over a dataset, score it with the COCO measure and draw what it found."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from centermask_keras.config import Config
from centermask_keras.data.annotations import Annotations
from centermask_keras.data.images import read_image
from centermask_keras.data.pipeline import iterate_eval_batches
from centermask_keras.detectors import CenterMask
from centermask_keras.evaluation.coco import evaluate_coco
from centermask_keras.inference import Category, Predictor
from centermask_keras.visualize import draw_ground_truth, draw_instances, draw_side_by_side

Progress = Callable[[int, int], None]
"""Called with the images done and the images in all."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        figures: the COCO figures, `mask_ap` ... and `box_ap` ...; empty without ground truth (a test set).
        per_class: one dictionary per class with `name`, `mask_ap`, `box_ap`.
        results: COCO results, one per detection.
        seconds: `network`, `masks`, `scoring` and `total`.
    """

    figures: dict[str, float]
    per_class: list[dict[str, Any]]
    results: list[dict[str, Any]]
    seconds: dict[str, float]


def evaluate_model(
    detector: CenterMask, config: Config, annotations: Annotations, *, progress: Progress | None = None
) -> Evaluation:
    """Detect in every image of a dataset and score masks and boxes.

    Args:
        detector: the detector to judge.
        config: how images are read, and the mask threshold.
        annotations: the dataset; without annotations in its file (COCO test-dev) nothing is scored.
        progress: told about every batch.
    """
    begin = time.perf_counter()
    results, seconds = predict_dataset(detector, config, annotations, progress=progress)
    figures: dict[str, float] = {}
    per_class: list[dict[str, Any]] = []
    if annotations.has_annotations:
        scoring = time.perf_counter()
        figures, per_class = score(annotations, results, max_detections=config.model.max_detections)
        seconds["scoring"] = time.perf_counter() - scoring
    seconds["total"] = time.perf_counter() - begin
    return Evaluation(figures, per_class, results, seconds)


def predict_dataset(
    detector: CenterMask, config: Config, annotations: Annotations, *, progress: Progress | None = None
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Detect in every image of a dataset.

    Returns:
        COCO results with the dataset's image and category ids, and the seconds spent in `network` and `masks`.

    Raises:
        ImageError: a file that does not decode.
    """
    predictor = Predictor(detector, config, categories_of(annotations))
    seconds = {"network": 0.0, "masks": 0.0}
    results: list[dict[str, Any]] = []
    done = 0
    for batch in iterate_eval_batches(config, annotations):
        begin = time.perf_counter()
        detections = predictor.detect(batch["image"])
        between = time.perf_counter()
        for row, image_id in enumerate(batch["image_id"]):
            hw = tuple(int(side) for side in batch["image_hw"][row])
            found = predictor.to_objects(detections, row, batch["transform"][row], hw)
            results += found.to_coco(int(image_id))
        seconds["network"] += between - begin
        seconds["masks"] += time.perf_counter() - between
        done += len(batch["image_id"])
        if progress:
            progress(done, len(annotations))
    return results, seconds


def score(
    annotations: Annotations, results: list[dict[str, Any]], *, max_detections: int
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Score COCO results by mask and by box.

    Args:
        annotations: the dataset; its file is what the results are compared with.
        results: COCO results.
        max_detections: K of the model; the scorer counts that many per image, and never fewer than COCO's 100.

    Returns:
        The figures of both (`mask_ap` ..., `box_ap` ...) and one row per class.
    """
    limits = (1, 10, max(100, max_detections))
    figures: dict[str, float] = {}
    rows: dict[str, dict[str, Any]] = {}
    for iou_type in ("segm", "bbox"):
        scored = evaluate_coco(annotations.path, results, iou_type=iou_type, max_detections=limits)
        for row in scored.pop("per_class"):
            rows.setdefault(row["name"], {}).update(row)
        figures |= scored
    return figures, list(rows.values())


def categories_of(annotations: Annotations) -> list[Category]:
    """Return the categories of a dataset in the order of its classes."""
    rows = zip(annotations.category_ids, annotations.class_names, strict=True)
    return [Category(int(category_id), name) for category_id, name in rows]


def draw_examples(
    annotations: Annotations, results: list[dict[str, Any]], *, count: int, score_threshold: float = 0.3
) -> np.ndarray:
    """Draw the ground truth of the first images beside what was found in them.

    Args:
        annotations: the dataset.
        results: COCO results.
        count: images to draw, one below the other.
        score_threshold: objects that score less are left out.

    Returns:
        uint8 [height, width, 3], RGB.
    """
    class_of = {int(category_id): index for index, category_id in enumerate(annotations.category_ids)}
    rows = []
    for index in range(min(count, len(annotations))):
        image = read_image(annotations.image_path(index))
        image_id = int(annotations.image_ids[index])
        found = [row for row in results if row["image_id"] == image_id and row["score"] >= score_threshold]
        boxes = np.array([row["bbox"] for row in found], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        drawn = draw_instances(
            image,
            boxes=boxes,
            classes=np.array([class_of[row["category_id"]] for row in found], np.int32),
            masks=[row["segmentation"] for row in found],
            class_names=annotations.class_names,
            scores=np.array([row["score"] for row in found], np.float32),
        )
        truth = draw_ground_truth(image, annotations, index)
        rows.append(draw_side_by_side([truth, drawn], ["ground truth", "predictions"]))
    return _stack(rows)


def _stack(pictures: list[np.ndarray]) -> np.ndarray:
    width = max(picture.shape[1] for picture in pictures)
    padded = [np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in pictures]
    return np.concatenate(padded)
