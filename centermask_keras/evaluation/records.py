"""The files of an evaluation: a COCO json with ground truth, and COCO results -> rows that the scorers take.

Stage: evaluation. Every fault is listed with its place. Results are judged without images, so that nothing but the
ground truth's own ids and sizes is needed to score the results of any other system.
Deviations: annotations are numbered anew (the scorers take id 0 for "unmatched"). Of results with both a box and a
mask only the one that is scored counts; pycocotools takes the area for small, medium, large from the box.
Objects without a mask are left out of the mask figures, as training leaves them out; pycocotools fails on them.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

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
from centermask_keras.data.lvis_json import is_lvis, read_class_lists, read_frequencies
from centermask_keras.data.segmentations import MIN_POLYGON, find_polygon_fault, find_rle_fault, rle_pixels
from centermask_keras.errors import DataError, Problem
from centermask_keras.masks import RLE, segmentation_to_rle

IouType = Literal["segm", "bbox", "boundary"]

CHECKED_TOGETHER = 10_000
"""Masks checked at once: enough to be fast, few enough not to fill the memory with their runs."""


@dataclass(frozen=True)
class Federation:
    """What an LVIS file knows about its images and categories (data/lvis_json.py).

    Attributes:
        absent: by image id, the category ids that were searched for and not found.
        partial: by image id, the category ids whose objects are not all annotated.
        frequencies: by category id, `rare`, `common` or `frequent`.
        synsets: by category id.
    """

    absent: dict[int, set[int]]
    partial: dict[int, set[int]]
    frequencies: dict[int, str]
    synsets: dict[int, str]


@dataclass(frozen=True)
class GroundTruth:
    """What results are compared with.

    Attributes:
        image_hw: height and width by image id.
        class_names: name by category id, rising.
        objects: annotations as the scorers take them: `id`, `image_id`, `category_id`, `area`, `iscrowd` and
            `segmentation` (compressed RLE) or `bbox`.
        federation: of an LVIS file, None of others.
    """

    image_hw: dict[int, tuple[int, int]]
    class_names: dict[int, str]
    objects: list[dict[str, Any]]
    federation: Federation | None


def read_ground_truth(path: Path, iou_type: IouType) -> GroundTruth:
    """Read and check a COCO or LVIS json with annotations.

    Raises:
        DataError: all faults: file, place, expected, received.
    """
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
    federation = None
    if is_lvis(document["images"]):
        lists = [
            dict(zip(image_ids, map(set, column), strict=True))
            for column in read_class_lists(images, set(category_ids))
        ]
        frequencies = dict(zip(category_ids, read_frequencies(categories), strict=True))
        synsets = dict(
            zip(
                category_ids,
                categories.column("synset", lambda value: type(value) is str, "a name", default=""),
                strict=True,
            )
        )
        federation = Federation(*lists, frequencies, synsets)
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
    return GroundTruth(image_hw, dict(sorted(class_names.items())), _number(rows), federation)


def read_results(
    results: list[dict[str, Any]] | str | Path, ground_truth: GroundTruth, iou_type: IouType
) -> list[dict[str, Any]]:
    """Read and check COCO results, a list or a file; the rows are new ones, in the form of `GroundTruth.objects`.

    Raises:
        DataError: all faults: file, place (`results[17].score`), expected, received.
    """
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
