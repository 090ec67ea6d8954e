"""The COCO measure: results against ground truth -> 12 figures and one row per class, by mask, box or boundary.

Stage: evaluation. Reading, checking, the conversion of masks and their boundaries are the same for both backends: what
they get to compare is equal, so that their figures are.
Source: COCO detection evaluation, https://cocodataset.org/#detection-eval, as pycocotools computes it; Cheng et al.
2021, "Boundary IoU" (arXiv 2103.16562), Section 5, for boundary AP.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from centermask_keras.coco_categories import coco_categories
from centermask_keras.data.files.annotations import Annotations
from centermask_keras.data.files.lvis_json import FREQUENCIES
from centermask_keras.errors import CenterMaskError
from centermask_keras.evaluation.boundary import boundary_overlaps
from centermask_keras.evaluation.lvis import LVIS_DETECTIONS, federate, translate_coco
from centermask_keras.evaluation.scoring_inputs import IouType, ScoringTruth, read_ground_truth, read_results
from centermask_keras.masks import rle_to_json

Backend = Literal["faster", "pycocotools"]

PREFIX = {"segm": "mask", "bbox": "box", "boundary": "boundary"}
AREAS = ("all", "small", "medium", "large")
"""The area ranges of both backends, in their order: any, below 32^2, 32^2 to 96^2, above 96^2 original pixels."""
COCO_LIMITS = (1, 10, 100)
"""How many results per image and class COCO counts; all figures but the first two recalls take the last."""
CLASSES_TOGETHER = 100
"""Classes matched at once: backends keep something for each class and image, and LVIS has 24 million such pairs."""


def evaluate_coco(
    annotations: Annotations | str | Path,
    results: list[dict[str, Any]] | str | Path,
    *,
    iou_type: IouType = "segm",
    backend: Backend = "faster",
    max_detections: int | None = None,
) -> dict[str, Any]:
    """Score COCO results.

    Args:
        annotations: the dataset, or its COCO json, with the ground truth. Crowd regions (`iscrowd`) are matched as COCO
            does. By an LVIS json (data/files/lvis_json.py) results are scored as LVIS does.
        results: COCO results, or the json file that holds them: `image_id`, `category_id`, `score`, and
            `segmentation` (polygons or RLE) or `bbox` (xywh, original pixels). They are not changed.
        iou_type: score masks ("segm"), boxes ("bbox"), or masks with their boundaries ("boundary"): the overlap is the
            smaller one of those of the masks and of their inner boundaries.
        backend: "pycocotools" is the reference; "faster" is faster-coco-eval, which gives the same figures.
        max_detections: how many results count per image and class, the best ones; all of them if not given. LVIS has
            one count of its own: 300 per image, of all classes together.

    Returns:
        With the prefix `mask`, `box` or `boundary`: `mask_ap`, `mask_ap50`, `mask_ap75`, `mask_ap_small`, `_medium`,
        `_large`, `mask_ar1`, `mask_ar10`, `mask_ar100`, `mask_ar_small`, `_medium`, `_large`; -1 where there is no
        object to find. Where more than 100 results count, also `mask_ar` with their number, and COCO's figures, which
        take 100: `mask_at_100_ap`, `_ap50`, `_ap75`, `_ap_small`, `_ap_medium`, `_ap_large`. For LVIS also
        `mask_ap_rare`, `_common`, `_frequent`. And `per_class`: in the order of the category ids, rows of
        `category_id`, `name`, `objects` (crowd regions not counted), `mask_ap`, `mask_ap50`, `mask_ap75`.

    Raises:
        DataError: faults in either file; each names file, place (`results[17].score`), expected and received.
        ValueError: an argument outside of its choices.
    """
    if iou_type not in PREFIX:
        raise ValueError(f"iou_type: expected segm, bbox or boundary, received {iou_type!r}")
    if max_detections is not None and max_detections < 1:
        raise ValueError(f"max_detections: expected a count of at least 1, received {max_detections}")
    ground_truth = read_ground_truth(annotations, iou_type)
    detections = read_results(results, ground_truth, iou_type)
    return _evaluate(ground_truth, detections, iou_type, backend, _limits(detections, max_detections))


def evaluate_coco_on_lvis(
    annotations: Annotations | str | Path,
    results: list[dict[str, Any]] | str | Path,
    *,
    iou_type: IouType = "segm",
    backend: Backend = "faster",
) -> dict[str, Any]:
    """Score COCO results on the finer annotations of LVIS: the categories that both have, by the rules of LVIS.

    Args:
        annotations: the dataset, or its LVIS json, with the ground truth.
        results: as for `evaluate_coco`, with the category ids of COCO.
        iou_type, backend: as for `evaluate_coco`.

    Returns:
        As `evaluate_coco`; the categories that COCO lacks are left out.

    Raises:
        CenterMaskError: the file is not an LVIS json.
        DataError: as for `evaluate_coco`.

    Source: Section 4.3, Table 4.
    """
    ground_truth = read_ground_truth(annotations, iou_type)
    if ground_truth.federation is None or not ground_truth.federation.is_lvis:
        path = annotations.path if isinstance(annotations, Annotations) else annotations
        raise CenterMaskError(f"{path}: expected an LVIS json, received one without neg_category_ids and frequency")
    of_coco = replace(ground_truth, class_names=coco_categories())
    detections = read_results(results, of_coco, iou_type)
    return _evaluate(*translate_coco(ground_truth, detections), iou_type, backend, [LVIS_DETECTIONS])


def _limits(detections: list[dict[str, Any]], max_detections: int | None) -> list[int]:
    """Return how many results count per image and class: COCO's counts, and the one that is asked for."""
    if max_detections is None:
        in_images = Counter(row["image_id"] for row in detections)
        max_detections = max([COCO_LIMITS[-1], *in_images.values()])
    return [*(limit for limit in COCO_LIMITS if limit < max_detections), max_detections]


def _evaluate(
    ground_truth: ScoringTruth,
    detections: list[dict[str, Any]],
    iou_type: IouType,
    backend: Backend,
    limits: list[int],
) -> dict[str, Any]:
    if ground_truth.federation is not None:
        ground_truth, detections = federate(ground_truth, detections, iou_type)
        limits = [LVIS_DETECTIONS] if ground_truth.federation.is_lvis else limits
    blocks = [_run_backend(backend, *block, iou_type, limits) for block in _split_classes(ground_truth, detections)]
    precision = np.concatenate([precision for precision, _ in blocks], axis=2)
    recall = np.concatenate([recall for _, recall in blocks], axis=1)
    evaluation = _summarize(precision, recall, limits, PREFIX[iou_type])
    if COCO_LIMITS[-1] in limits[:-1]:
        at_coco = precision[..., : limits.index(COCO_LIMITS[-1]) + 1]
        evaluation |= _summarize_precision(at_coco, f"{PREFIX[iou_type]}_at_{COCO_LIMITS[-1]}")
    if ground_truth.federation is not None and ground_truth.federation.is_lvis:
        evaluation |= _summarize_frequencies(precision, ground_truth, PREFIX[iou_type])
    evaluation["per_class"] = _summarize_classes(precision, ground_truth, PREFIX[iou_type])
    return evaluation


def write_results(path: str | Path, results: list[dict[str, Any]]) -> None:
    """Write COCO results as json, the form that `evaluate_coco` reads and the COCO server takes.

    Args:
        path: file to write; its folder is made.
        results: COCO results of plain numbers; RLE `counts` may be bytes or text.
    """
    rows = [
        {**row, "segmentation": rle_to_json(row["segmentation"])} if "segmentation" in row else row for row in results
    ]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows), encoding="utf-8")


def _run_backend(
    backend: Backend,
    ground_truth: ScoringTruth,
    detections: list[dict[str, Any]],
    iou_type: IouType,
    limits: list[int],
) -> tuple[np.ndarray, np.ndarray]:
    """Match and accumulate.

    Returns:
        Precision [thresholds, recalls, classes, areas, limits] and recall [thresholds, classes, areas, limits]; -1
        where there is no object to find.
    """
    if backend == "faster":
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as COCOeval
    elif backend == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    else:
        raise ValueError(f"backend: expected faster or pycocotools, received {backend!r}")

    class BoundaryEvaluator(COCOeval):
        def computeIoU(self, image_id: int, category_id: int) -> Any:
            return overlaps.get((image_id, category_id), [])

    ground_truth, detections = _number(ground_truth, detections)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        datasets = []
        for rows in (ground_truth.objects, detections):
            dataset = COCO()
            dataset.dataset = {
                "images": [{"id": image, "height": h, "width": w} for image, (h, w) in ground_truth.image_hw.items()],
                "categories": [{"id": category, "name": name} for category, name in ground_truth.class_names.items()],
                "annotations": rows,
            }
            dataset.createIndex()
            datasets.append(dataset)
        if iou_type == "boundary":
            overlaps = boundary_overlaps(ground_truth.objects, detections, limit=limits[-1])
            evaluator = BoundaryEvaluator(*datasets, "segm")
        else:
            evaluator = COCOeval(*datasets, iou_type)
        evaluator.params.maxDets = limits
        evaluator.evaluate()
        evaluator.accumulate()
    return np.asarray(evaluator.eval["precision"]), np.asarray(evaluator.eval["recall"])


def _number(ground_truth: ScoringTruth, detections: list[dict[str, Any]]) -> tuple[ScoringTruth, list[dict[str, Any]]]:
    """Number images and categories from 1, in rising order of their ids, as backends keep ids in few bits."""
    images, categories = (
        {each: number for number, each in enumerate(sorted(ids), 1)}
        for ids in (ground_truth.image_hw, ground_truth.class_names)
    )
    objects, found = (
        [{**row, "image_id": images[row["image_id"]], "category_id": categories[row["category_id"]]} for row in rows]
        for rows in (ground_truth.objects, detections)
    )
    image_hw = {images[image]: hw for image, hw in ground_truth.image_hw.items()}
    class_names = {categories[category]: name for category, name in ground_truth.class_names.items()}
    return replace(ground_truth, image_hw=image_hw, class_names=class_names, objects=objects), found


def _split_classes(
    ground_truth: ScoringTruth, detections: list[dict[str, Any]]
) -> Iterator[tuple[ScoringTruth, list[dict[str, Any]]]]:
    """Give the classes in blocks, each with its rows and the images that these are in."""
    categories = list(ground_truth.class_names)
    for begin in range(0, len(categories), CLASSES_TOGETHER):
        names = {
            category: ground_truth.class_names[category] for category in categories[begin : begin + CLASSES_TOGETHER]
        }
        objects, found = (
            [row for row in rows if row["category_id"] in names] for rows in (ground_truth.objects, detections)
        )
        # Both backends want to see an image, even if there is nothing in it.
        images = {row["image_id"] for row in (*objects, *found)} or {next(iter(ground_truth.image_hw))}
        image_hw = {image: hw for image, hw in ground_truth.image_hw.items() if image in images}
        yield replace(ground_truth, image_hw=image_hw, class_names=names, objects=objects), found


def _summarize(precision: np.ndarray, recall: np.ndarray, limits: list[int], prefix: str) -> dict[str, Any]:
    figures = _summarize_precision(precision, prefix)
    figures |= {f"{prefix}_ar{limit}": _mean(recall[..., 0, index]) for index, limit in enumerate(limits)}
    figures |= {f"{prefix}_ar_{area}": _mean(recall[..., AREAS.index(area), -1]) for area in AREAS[1:]}
    return figures


def _summarize_precision(precision: np.ndarray, prefix: str) -> dict[str, float]:
    areas = {f"{prefix}_ap_{area}": _mean(precision[..., AREAS.index(area), -1]) for area in AREAS[1:]}
    return _precision_figures(precision, prefix) | areas


def _summarize_classes(precision: np.ndarray, ground_truth: ScoringTruth, prefix: str) -> list[dict[str, Any]]:
    counts = Counter(row["category_id"] for row in ground_truth.objects if not row["iscrowd"])
    return [
        {"category_id": category_id, "name": name, "objects": counts[category_id]}
        | _precision_figures(precision[:, :, [index]], prefix)
        for index, (category_id, name) in enumerate(ground_truth.class_names.items())
    ]


def _summarize_frequencies(precision: np.ndarray, ground_truth: ScoringTruth, prefix: str) -> dict[str, float]:
    """Return AP over the rare, the common and the frequent classes."""
    frequency = np.array([ground_truth.federation.frequencies[category] for category in ground_truth.class_names])
    return {f"{prefix}_ap_{name}": _mean(precision[:, :, frequency == name, 0, -1]) for name in FREQUENCIES.values()}


def _precision_figures(precision: np.ndarray, prefix: str) -> dict[str, float]:
    """Return AP over all overlaps, at 0.50 and at 0.75 (overlaps run from 0.50 to 0.95 by 0.05)."""
    largest = precision[..., 0, -1]
    return {f"{prefix}_ap": _mean(largest), f"{prefix}_ap50": _mean(largest[0]), f"{prefix}_ap75": _mean(largest[5])}


def _mean(values: np.ndarray) -> float:
    present = values[values > -1]
    return float(present.mean()) if present.size else -1.0
