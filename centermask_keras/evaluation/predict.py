"""Run a detector over a dataset and score what it found with the COCO measure."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from centermask_keras.data.feeding.pipeline import iterate_eval_batches
from centermask_keras.data.files.annotations import Annotations
from centermask_keras.errors import CenterMaskError
from centermask_keras.evaluation.coco import Backend, evaluate_coco, evaluate_coco_on_lvis
from centermask_keras.evaluation.lvis import check_coco_classes
from centermask_keras.evaluation.scoring_inputs import IouType
from centermask_keras.inference.objects import Category, categories_of, to_objects
from centermask_keras.inference.predictor import Predictor

Progress = Callable[[int, int], None]
"""Called with the images done and the images in all."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        figures: the COCO figures, `mask_ap` ..., `box_ap` ..., `boundary_ap` ..., those that were asked for; empty
            without ground truth (a test set).
        per_class: one dictionary per class with `name`, `mask_ap`, `box_ap`, `boundary_ap`.
        results: COCO results, one per detection.
        unreadable: the images that did not decode (`data.on_error` skip); their objects count as not found.
        seconds: `network`, `masks`, `scoring` and `total`.
    """

    figures: dict[str, float]
    per_class: list[dict[str, Any]]
    results: list[dict[str, Any]]
    unreadable: list[str]
    seconds: dict[str, float]


def evaluate_model(
    predictor: Predictor,
    annotations: Annotations,
    *,
    iou_types: Sequence[IouType] = ("segm", "bbox"),
    backend: Backend = "faster",
    from_coco: bool = False,
    max_detections: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Detect in every image of a dataset and score what was found.

    Args:
        predictor: the model to judge; its configuration says how images are read and masks are cut.
        annotations: the dataset; without annotations in its file (COCO test-dev) nothing is scored.
        iou_types: what is scored: masks, boxes, boundaries (see `evaluate_coco`).
        backend: the scorer (see `evaluate_coco`).
        from_coco: the model knows COCO's categories, the dataset is LVIS (see `evaluate_coco_on_lvis`). Results keep
            the model's category ids.
        max_detections: how many results count per image and class (see `evaluate_coco`).
        progress: told about every batch.

    Raises:
        CenterMaskError: the classes of the dataset are not those of the model, or with `from_coco` not COCO's.
        ImageError: a file that does not decode (`data.on_error` stop).
    """
    if from_coco:
        check_coco_classes((category.id, category.name) for category in predictor.categories)
    else:
        check_classes(predictor, annotations)
    categories = predictor.categories if from_coco else categories_of(annotations)
    seconds = {"network": 0.0, "masks": 0.0, "scoring": 0.0}
    begin = time.perf_counter()
    results, unreadable = _predict_dataset(predictor, annotations, categories, seconds, progress)
    figures: dict[str, float] = {}
    per_class: list[dict[str, Any]] = []
    if annotations.has_annotations:
        scoring = time.perf_counter()
        figures, per_class = score(
            annotations,
            results,
            iou_types=iou_types,
            max_detections=max_detections,
            backend=backend,
            from_coco=from_coco,
        )
        seconds["scoring"] = time.perf_counter() - scoring
    seconds["total"] = time.perf_counter() - begin
    return Evaluation(figures, per_class, results, unreadable, seconds)


def check_classes(predictor: Predictor, annotations: Annotations) -> None:
    """Hold a dataset to the classes of a model: the same names in the same order.

    Raises:
        CenterMaskError: the first difference.
    """
    ours, theirs = [category.name for category in predictor.categories], annotations.class_names
    if len(ours) != len(theirs):
        raise CenterMaskError(
            f"{annotations.path}: expected {len(ours)} categories (those of the model), received {len(theirs)}"
        )
    for index, (expected, received) in enumerate(zip(ours, theirs, strict=True)):
        if expected != received:
            raise CenterMaskError(
                f"{annotations.path}: category {index + 1}: expected {expected!r} (of the model), received {received!r}"
            )


def _predict_dataset(
    predictor: Predictor,
    annotations: Annotations,
    categories: Sequence[Category],
    seconds: dict[str, float],
    progress: Progress | None,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return COCO results with the ids of the categories and the unreadable files; add to the seconds."""
    threshold = predictor.config.eval.mask_threshold
    results: list[dict[str, Any]] = []
    unreadable: list[str] = []
    done = 0
    for batch in iterate_eval_batches(predictor.config, annotations):
        begin = time.perf_counter()
        detections = predictor.detect(batch["image"])
        between = time.perf_counter()
        for row, readable in enumerate(batch["readable"]):
            if not readable:
                unreadable.append(str(annotations.image_file(int(batch["index"][row]))))
                continue
            hw = tuple(int(side) for side in batch["image_hw"][row])
            found = to_objects(detections, row, batch["transform"][row], hw, categories, threshold)
            results += found.to_coco(int(batch["image_id"][row]))
        seconds["network"] += between - begin
        seconds["masks"] += time.perf_counter() - between
        done += len(batch["image"])
        if progress:
            progress(done, len(annotations))
    return results, unreadable


def score(
    annotations: Annotations,
    results: list[dict[str, Any]],
    *,
    iou_types: Sequence[IouType],
    max_detections: int | None = None,
    backend: Backend = "faster",
    from_coco: bool = False,
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Score COCO results by each of several measures.

    Args:
        annotations: the dataset that the results are compared with.
        results: COCO results.
        iou_types: the measures (see `evaluate_coco`).
        max_detections: how many results count per image and class (see `evaluate_coco`).
        backend: the scorer (see `evaluate_coco`).
        from_coco: the results have COCO's categories, the dataset is LVIS (see `evaluate_coco_on_lvis`).

    Returns:
        The figures of all (`mask_ap` ..., `box_ap` ..., `boundary_ap` ...) and one row per class.
    """
    figures: dict[str, float] = {}
    rows: dict[int, dict[str, Any]] = {}
    for iou_type in iou_types:
        if from_coco:
            scored = evaluate_coco_on_lvis(annotations, results, iou_type=iou_type, backend=backend)
        else:
            scored = evaluate_coco(
                annotations, results, iou_type=iou_type, max_detections=max_detections, backend=backend
            )
        for row in scored.pop("per_class"):
            rows.setdefault(row["category_id"], {}).update(row)
        figures |= scored
    return figures, list(rows.values())
