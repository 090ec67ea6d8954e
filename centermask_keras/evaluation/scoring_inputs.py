"""What an evaluation compares: annotations as ground truth, and COCO results -> rows that the scorers take.

Stage: evaluation. Every fault is listed with its place. Results are judged without images, so that nothing but the
ground truth's own ids and sizes is needed to score the results of any other system.
Deviations: annotations are numbered anew (the scorers take id 0 for "unmatched"). Of results with both a box and a
mask only the one that is scored counts; pycocotools takes the area for small, medium, large from the box.
Objects without a mask are left out of the mask figures, as training leaves them out; pycocotools fails on them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pycocotools import mask as coco_mask

from centermask_keras.data.files.annotations import Annotations, read_annotations
from centermask_keras.data.files.coco_json import Faults, Table, is_box, is_id, is_mask, quote
from centermask_keras.data.files.segmentations import MIN_POLYGON, Segmentation, check_masks
from centermask_keras.errors import DataError, Problem
from centermask_keras.masks import RLE, segmentation_to_rle

IouType = Literal["segm", "bbox", "boundary"]


@dataclass(frozen=True)
class Federation:
    """What a file of partial labels knows about its images and categories (data/files/lvis_json.py).

    Attributes:
        absent: by image id, the category ids that were searched for and not found.
        partial: by image id, the category ids whose objects are not all annotated.
        frequencies: by category id, `rare`, `common` or `frequent`; none where the file is not one of LVIS.
        synsets: by category id, likewise.
    """

    absent: dict[int, set[int]]
    partial: dict[int, set[int]]
    frequencies: dict[int, str]
    synsets: dict[int, str]

    @property
    def is_lvis(self) -> bool:
        """Whether the file is one of LVIS, and its own measure counts."""
        return bool(self.frequencies)


@dataclass(frozen=True)
class ScoringTruth:
    """What results are compared with.

    Attributes:
        image_hw: height and width by image id.
        class_names: name by category id, rising.
        objects: annotations as the scorers take them: `id`, `image_id`, `category_id`, `area`, `iscrowd` and
            `segmentation` (compressed RLE) or `bbox`.
        federation: of partial labels, None of others.
    """

    image_hw: dict[int, tuple[int, int]]
    class_names: dict[int, str]
    objects: list[dict[str, Any]]
    federation: Federation | None


def read_ground_truth(source: Annotations | str | Path, iou_type: IouType) -> ScoringTruth:
    """Take the ground truth from a dataset, or from a COCO or LVIS json with annotations.

    Args:
        source: a dataset, whatever it makes of crowd regions; or a file, of which only what is scored has to be sound.
        iou_type: what will be compared.

    Raises:
        DataError: all faults: file, place, expected, received.
    """
    problems: list[Problem] = []
    if not isinstance(source, Annotations):
        source, problems = read_annotations(source, needs=("bbox",) if iou_type == "bbox" else ("segmentation",))
    elif not source.has_annotations:
        problems = [Problem(str(source.path), "annotations", "a list of objects", "nothing")]
    problems = problems + source.file_objects.faults + (source.lvis.faults if source.lvis else [])
    if problems:
        raise DataError(problems)
    image_ids, category_ids = source.image_ids.tolist(), source.category_ids.tolist()
    image_hw = dict(zip(image_ids, map(tuple, source.image_hw.tolist()), strict=True))
    class_names = dict(zip(category_ids, source.class_names, strict=True))
    return ScoringTruth(image_hw, class_names, _number(list(_make_objects(source, iou_type))), _make_federation(source))


def _make_objects(annotations: Annotations, iou_type: IouType) -> Iterator[dict[str, Any]]:
    """Make the rows of all objects of a file."""
    objects = annotations.file_objects
    columns = (
        annotations.image_ids[objects.images].tolist(),
        annotations.category_ids[objects.classes].tolist(),
        objects.areas.tolist(),
        objects.crowd.astype(int).tolist(),
    )
    if iou_type == "bbox":
        key, shapes = "bbox", objects.xywh.tolist()
    else:
        sizes = map(tuple, annotations.image_hw[objects.images].tolist())
        masks = zip(objects.masks(), sizes, strict=True)
        key, shapes = "segmentation", (_to_rle(mask, hw) for mask, hw in masks)
    for image, category, area, crowd, shape in zip(*columns, shapes, strict=True):
        yield {"image_id": image, "category_id": category, key: shape, "area": area, "iscrowd": crowd}


def _make_federation(annotations: Annotations) -> Federation | None:
    facts, image_ids = annotations.lvis, annotations.image_ids.tolist()
    if annotations.class_lists is None:
        return None
    by_image = [dict(zip(image_ids, map(set, lists), strict=True)) for lists in annotations.class_lists]
    if facts is None:
        return Federation(*by_image, frequencies={}, synsets={})
    category_ids = annotations.category_ids.tolist()
    by_class = [dict(zip(category_ids, values, strict=True)) for values in (facts.frequencies, facts.synsets)]
    return Federation(*by_image, *by_class)


def read_results(
    results: list[dict[str, Any]] | str | Path, ground_truth: ScoringTruth, iou_type: IouType
) -> list[dict[str, Any]]:
    """Read and check COCO results, a list or a file; the rows are new ones, in the form of `ScoringTruth.objects`.

    Raises:
        DataError: all faults: file, place (`results[17].score`), expected, received.
    """
    path = Path("results") if isinstance(results, list) else Path(results)
    document = results if isinstance(results, list) else _load_list(path)
    faults = Faults(path)
    table = Table(document, "results", faults)
    rows = _read_rows(table, iou_type, ground_truth, faults)
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


def _read_rows(table: Table, iou_type: IouType, truth: ScoringTruth, faults: Faults) -> list[dict[str, Any]]:
    """Read what results say of an object, as the backends take it; note what is at fault."""

    def is_image(value: object) -> bool:
        return is_id(value) and value in truth.image_hw

    def is_category(value: object) -> bool:
        return is_id(value) and value in truth.class_names

    image_ids = table.column("image_id", is_image, "the id of an image in the ground truth")
    category_ids = table.column("category_id", is_category, "the id of a category in the ground truth")
    if iou_type == "bbox":
        key, shapes = "bbox", table.column("bbox", is_box, "[x, y, width, height], each of at most 1e6 pixels")
    else:
        key, shapes = "segmentation", _read_masks(table, [truth.image_hw.get(image) for image in image_ids], faults)
    columns = zip(image_ids, category_ids, shapes, strict=True)
    return [{"image_id": image, "category_id": category, key: shape} for image, category, shape in columns]


def _read_masks(table: Table, image_hw: list[tuple[int, int] | None], faults: Faults) -> list[RLE | None]:
    """Convert the segmentations; None for those at fault, of unknown images, and without a mask."""

    def note(row: int, expected: str, received: object) -> None:
        faults.add(table.place(row, ".segmentation"), expected, received)

    values = table.column("segmentation", is_mask, "polygons or an RLE")
    masks = [_as_in_json(value) if hw is not None else None for value, hw in zip(values, image_hw, strict=True)]
    found = check_masks(masks, [list(hw or ()) for hw in image_hw], note)
    return [_to_rle(mask, hw) for mask, hw in zip(found, image_hw, strict=True)]


def _as_in_json(mask: Any) -> Any:
    """Return a mask with its `counts` as text: in results that were made here, not read from a file, they are bytes."""
    if isinstance(mask, dict) and isinstance(mask.get("counts"), bytes):
        return {**mask, "counts": mask["counts"].decode("latin-1")}
    return mask


def _to_rle(mask: Segmentation | None, hw: tuple[int, int]) -> RLE | None:
    """Convert a mask without fault; None if it has none, or polygons that enclose nothing."""
    if isinstance(mask, dict):
        return mask
    return segmentation_to_rle(mask, hw) if any(len(part) >= MIN_POLYGON for part in mask or ()) else None


def _is_score(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _number(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out the rows without a mask and number the others from 1."""
    kept = [row for row in rows if row.get("segmentation", row.get("bbox")) is not None]
    for number, row in enumerate(kept, 1):
        row["id"] = number
    return kept
