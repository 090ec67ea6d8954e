"""The COCO measure: results against ground truth -> 12 figures and one row per class.

Stage: evaluation. Reading, checking and the conversion of masks are the same for both backends: what they get to
compare is equal, so that their figures are.
Source: COCO detection evaluation, https://cocodataset.org/#detection-eval, as pycocotools computes it.
Deviations: annotations are numbered anew (the backends take id 0 for "unmatched"). Of results with both a box and a
mask only the one that is scored counts; pycocotools takes the area for small, medium, large from the box.
Objects without a mask are left out of the mask figures, as training leaves them out; pycocotools fails on them.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pycocotools import mask as coco_mask

from centermask_keras.data.coco_json import (
    Faults,
    Table,
    check_lists,
    is_area,
    is_box,
    is_flag,
    is_id,
    is_mask,
    is_mask_or_none,
    is_side,
    is_text,
    quote,
    read_json,
)
from centermask_keras.data.segmentations import MIN_POLYGON, find_polygon_fault, find_rle_fault, rle_pixels
from centermask_keras.errors import DataError, Problem
from centermask_keras.masks import RLE, rle_to_json, segmentation_to_rle

IouType = Literal["segm", "bbox"]
Backend = Literal["faster", "pycocotools"]

PREFIX = {"segm": "mask", "bbox": "box"}
AREAS = ("all", "small", "medium", "large")
"""The area ranges of both backends, in their order: any, below 32^2, 32^2 to 96^2, above 96^2 original pixels."""
CHECKED_TOGETHER = 10_000
"""Masks checked at once: enough to be fast, few enough not to fill the memory with their runs."""


@dataclass(frozen=True)
class _GroundTruth:
    image_hw: dict[int, tuple[int, int]]  # by image id
    class_names: dict[int, str]  # by category id
    objects: list[dict[str, Any]]  # as the backends take them


def evaluate_coco(
    annotations_path: str | Path,
    results: list[dict[str, Any]] | str | Path,
    *,
    iou_type: IouType = "segm",
    backend: Backend = "faster",
    max_detections: Sequence[int] = (1, 10, 100),
) -> dict[str, Any]:
    """Score COCO results.

    Args:
        annotations_path: COCO json with the ground truth. Crowd regions (`iscrowd`) are matched as COCO does.
        results: COCO results, or the json file that holds them: `image_id`, `category_id`, `score`, and
            `segmentation` (polygons or RLE) or `bbox` (xywh, original pixels). They are not changed.
        iou_type: score masks ("segm") or boxes ("bbox").
        backend: "pycocotools" is the reference; "faster" is faster-coco-eval, which gives the same figures.
        max_detections: counts of best results per image and class. All figures but the `ar` of the smaller counts
            take the largest.

    Returns:
        With the prefix `mask` or `box`: `mask_ap`, `mask_ap50`, `mask_ap75`, `mask_ap_small`, `_medium`, `_large`,
        `mask_ar1`, `mask_ar10`, `mask_ar100` (after `max_detections`), `mask_ar_small`, `_medium`, `_large`; -1 where
        there is no object to find. And `per_class`: in the order of the category ids, rows of `category_id`, `name`,
        `objects` (crowd regions not counted), `mask_ap`, `mask_ap50`, `mask_ap75`.

    Raises:
        DataError: faults in either file; each names file, place (`results[17].score`), expected and received.
        ValueError: an argument outside of its choices.
    """
    if iou_type not in PREFIX:
        raise ValueError(f"iou_type: expected segm or bbox, received {iou_type!r}")
    if not max_detections or min(max_detections) < 1:
        raise ValueError(f"max_detections: expected counts of at least 1, received {list(max_detections)}")
    ground_truth = _read_ground_truth(Path(annotations_path), iou_type)
    detections = _read_results(results, ground_truth, iou_type)
    limits = sorted(set(max_detections))
    precision, recall = _run_backend(backend, ground_truth, detections, iou_type, limits)
    evaluation = _summarize(precision, recall, limits, PREFIX[iou_type])
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


def _read_ground_truth(path: Path, iou_type: IouType) -> _GroundTruth:
    document = read_json(path)
    faults = Faults(path)
    check_lists(document, faults, require_annotations=True)
    if faults.problems:
        raise DataError(faults.problems)
    images = Table(document["images"], "images", faults)
    image_ids = images.ids().tolist()
    heights = images.column("height", is_side, "a positive integer")
    widths = images.column("width", is_side, "a positive integer")
    image_hw = dict(zip(image_ids, zip(heights, widths, strict=True), strict=True))
    categories = Table(document["categories"], "categories", faults)
    category_ids = categories.ids().tolist()
    class_names = dict(zip(category_ids, categories.column("name", is_text, "a name"), strict=True))
    if faults.problems:  # annotations that refer to these images and categories are no faults of their own
        raise DataError(faults.problems)
    table = Table(document["annotations"], "annotations", faults)
    rows = _read_rows(table, iou_type, image_hw, class_names, faults)
    areas = table.column("area", is_area, "a number from 0 to 1e12")
    crowd = table.column("iscrowd", is_flag, "0 or 1", default=0)
    if faults.problems:
        raise DataError(faults.problems)
    for row, area, is_crowd in zip(rows, areas, crowd, strict=True):
        row.update(area=area, iscrowd=int(is_crowd))
    return _GroundTruth(image_hw, dict(sorted(class_names.items())), _number(rows))


def _read_results(
    results: list[dict[str, Any]] | str | Path, ground_truth: _GroundTruth, iou_type: IouType
) -> list[dict[str, Any]]:
    path = Path("results") if isinstance(results, list) else Path(results)
    document = results if isinstance(results, list) else _load_list(path)
    faults = Faults(path)
    table = Table(document, "results", faults)
    rows = _read_rows(table, iou_type, ground_truth.image_hw, ground_truth.class_names, faults)
    scores = table.column("score", _is_score, "a finite number")
    if faults.problems:
        raise DataError(faults.problems)
    for row, score in zip(rows, scores, strict=True):
        row.update(score=score, iscrowd=0)
        row["area"] = row["bbox"][2] * row["bbox"][3] if iou_type == "bbox" else _mask_area(row["segmentation"])
    return _number(rows)


def _mask_area(rle: RLE | None) -> int:
    """Return the pixels of a mask; a result whose polygons hold nothing has none."""
    return 0 if rle is None else int(coco_mask.area(rle))


def _load_list(path: Path) -> list[Any]:
    try:
        document = json.loads(path.read_bytes())  # NaN passes here; the check of its column names the place
    except OSError as error:
        raise DataError([Problem(str(path), "", "a json file", error.strerror or str(error))]) from None
    except (ValueError, RecursionError) as error:
        raise DataError([Problem(str(path), "", "json", str(error))]) from None
    if type(document) is not list:
        received = f"an object with {', '.join(document)}" if type(document) is dict else quote(document)
        raise DataError([Problem(str(path), "", "a list of COCO results", received)])
    return document


def _read_rows(
    table: Table,
    iou_type: IouType,
    image_hw: dict[int, tuple[int, int]],
    class_names: dict[int, str],
    faults: Faults,
) -> list[dict[str, Any]]:
    """Read what annotations and results have in common, as the backends take it; note what is at fault."""

    def is_image(value: object) -> bool:
        return is_id(value) and value in image_hw

    def is_category(value: object) -> bool:
        return is_id(value) and value in class_names

    image_ids = table.column("image_id", is_image, "the id of an image in the ground truth")
    category_ids = table.column("category_id", is_category, "the id of a category in the ground truth")
    if iou_type == "bbox":
        key, shapes = "bbox", table.column("bbox", is_box, "[x, y, width, height], each of at most 1e6 pixels")
    else:
        key, shapes = "segmentation", _read_masks(table, [image_hw.get(image) for image in image_ids], faults)
    columns = zip(image_ids, category_ids, shapes, strict=True)
    return [{"image_id": image, "category_id": category, key: shape} for image, category, shape in columns]


def _read_masks(table: Table, image_hw: list[tuple[int, int] | None], faults: Faults) -> list[RLE | None]:
    """Convert the segmentations; None for those at fault, of unknown images, and annotations without one."""
    if table.name == "annotations":
        values = table.column("segmentation", is_mask_or_none, "polygons or an RLE", default=None)
    else:
        values = table.column("segmentation", is_mask, "polygons or an RLE")
    rles: list[RLE | None] = [None] * len(values)
    for row, (value, hw) in enumerate(zip(values, image_hw, strict=True)):
        if not value or hw is None:
            continue
        if isinstance(value, dict) and isinstance(value.get("counts"), bytes):  # made here, not read from a file
            value = {**value, "counts": value["counts"].decode("latin-1")}
        fault = find_polygon_fault(value) if isinstance(value, list) else find_rle_fault(value, list(hw))
        if fault:
            faults.add(table.place(row, ".segmentation"), *fault)
        elif isinstance(value, dict) or any(len(part) >= MIN_POLYGON for part in value):
            rles[row] = segmentation_to_rle(value, hw)
    _check_runs(rles, image_hw, table, faults)
    return rles


def _check_runs(rles: list[RLE | None], image_hw: list[tuple[int, int] | None], table: Table, faults: Faults) -> None:
    """Note the RLEs whose runs do not add up to their image: the COCO API may read beyond its memory, or never end."""
    found = [row for row, rle in enumerate(rles) if rle]
    for begin in range(0, len(found), CHECKED_TOGETHER):
        rows = found[begin : begin + CHECKED_TOGETHER]
        for row, pixels in zip(rows, rle_pixels([rles[row]["counts"] for row in rows]), strict=True):
            height, width = image_hw[row]
            if pixels != height * width:
                expected = f"RLE runs that add up to {height} * {width} = {height * width} pixels"
                faults.add(table.place(row, ".segmentation"), expected, f"{pixels}" if pixels >= 0 else "damaged ones")


def _is_score(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _number(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out the rows without a mask and number the others from 1."""
    kept = [row for row in rows if row.get("segmentation", row.get("bbox")) is not None]
    for number, row in enumerate(kept, 1):
        row["id"] = number
    return kept


def _run_backend(
    backend: Backend,
    ground_truth: _GroundTruth,
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
        evaluator = COCOeval(*datasets, iou_type)
        evaluator.params.maxDets = limits
        evaluator.evaluate()
        evaluator.accumulate()
    return np.asarray(evaluator.eval["precision"]), np.asarray(evaluator.eval["recall"])


def _summarize(precision: np.ndarray, recall: np.ndarray, limits: list[int], prefix: str) -> dict[str, Any]:
    figures = _precision_figures(precision, prefix)
    figures |= {f"{prefix}_ap_{area}": _mean(precision[..., AREAS.index(area), -1]) for area in AREAS[1:]}
    figures |= {f"{prefix}_ar{limit}": _mean(recall[..., 0, index]) for index, limit in enumerate(limits)}
    figures |= {f"{prefix}_ar_{area}": _mean(recall[..., AREAS.index(area), -1]) for area in AREAS[1:]}
    return figures


def _summarize_classes(precision: np.ndarray, ground_truth: _GroundTruth, prefix: str) -> list[dict[str, Any]]:
    counts = Counter(row["category_id"] for row in ground_truth.objects if not row["iscrowd"])
    return [
        {"category_id": category_id, "name": name, "objects": counts[category_id]}
        | _precision_figures(precision[:, :, [index]], prefix)
        for index, (category_id, name) in enumerate(ground_truth.class_names.items())
    ]


def _precision_figures(precision: np.ndarray, prefix: str) -> dict[str, float]:
    """Return AP over all overlaps, at 0.50 and at 0.75 (overlaps run from 0.50 to 0.95 by 0.05)."""
    largest = precision[..., 0, -1]
    return {f"{prefix}_ap": _mean(largest), f"{prefix}_ap50": _mean(largest[0]), f"{prefix}_ap75": _mean(largest[5])}


def _mean(values: np.ndarray) -> float:
    present = values[values > -1]
    return float(present.mean()) if present.size else -1.0
