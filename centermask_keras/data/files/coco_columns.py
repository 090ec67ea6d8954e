"""The lists of a COCO json file -> columns: ids resolved, objects ordered by image, what cannot be learned left out.

Stage: data. The one place that reads annotation files; data/files/annotations.py puts the columns together. A fault
stops the loading later, with all the others; an object that is left out does not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from centermask_keras.data.files.coco_json import (
    Faults,
    Table,
    check_lists,
    is_area,
    is_box,
    is_flag,
    is_id,
    is_mask_or_none,
    is_side,
    is_text,
    quote,
    read_json,
)
from centermask_keras.data.files.lvis_json import ClassLists, has_class_lists, is_lvis, name_files, read_class_lists
from centermask_keras.data.files.mask_measures import add_measures
from centermask_keras.data.files.segmentations import MIN_POLYGON, Segmentation, Segmentations, check_masks
from centermask_keras.errors import DataError, Problem
from centermask_keras.geometry.boxes import xywh_to_xyxy

FOR_SAMPLES = ("file_name", "id", "bbox", "segmentation")
"""What samples need of a file, and scoring not all of: `file_name` of images, the others of annotations."""


@dataclass(frozen=True)
class Images:
    """The images without fault."""

    ids: np.ndarray  # int64 [I]
    file_names: list[str]
    hw: np.ndarray  # int32 [I, 2]
    named_ids: np.ndarray  # int64, also those of images at fault: objects that refer to them are no fault of their own
    class_lists: ClassLists | None  # of partial labels


@dataclass(frozen=True, eq=False)
class FileObjects:
    """All S objects of a file as scoring compares them, whatever training makes of them.

    The objects of an image lie next to each other, in file order.

    Attributes:
        images: int32 [S], index of the image of each.
        classes: int32 [S].
        xywh: float64 [S, 4], the box as annotated.
        areas: float64 [S], as annotated.
        crowd: bool [S], as annotated.
        annotation_ids: int64 [S]; -1 where there is none.
        is_left_out: bool [S], objects from which nothing can be learned. The others are the rows of `Annotations`.
        segmentations: masks of the others, in their order.
        left_out: masks of those left out, in their order; no polygons where there is none.
        faults: what is at fault in them while nothing is learned from it; scoring stops at it.
    """

    images: np.ndarray
    classes: np.ndarray
    xywh: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    annotation_ids: np.ndarray
    is_left_out: np.ndarray
    segmentations: Segmentations
    left_out: Segmentations
    faults: list[Problem]

    def masks(self) -> Iterator[Segmentation]:
        """Give the mask of each object as it stands in the file."""
        kept, others = iter(range(len(self.segmentations))), iter(range(len(self.left_out)))
        for left_out in self.is_left_out:
            yield self.left_out.exact(next(others)) if left_out else self.segmentations.exact(next(kept))


@dataclass(frozen=True)
class LeftOut:
    """An object, or a polygon of one, from which nothing can be learned.

    Attributes:
        reason: what it is counted under.
        problem: its place, what was expected and what was received.
        crowd: whether it belongs to a crowd region.
    """

    reason: str
    problem: Problem
    crowd: bool


class Drops:
    """Notes what is left out."""

    def __init__(self, file: Path, ids: np.ndarray, image_ids: np.ndarray, is_crowd: np.ndarray):
        self.found: list[LeftOut] = []
        self._file = str(file)
        self._ids = ids
        self._image_ids = image_ids
        self._is_crowd = is_crowd

    def add(self, row: int, reason: str, expected: str, received: str) -> None:
        """Note one object, or one polygon of an object, under a reason."""
        problem = Problem(self._file, self.place(row), expected, received)
        self.found.append(LeftOut(reason, problem, bool(self._is_crowd[row])))

    def place(self, row: int) -> str:
        """Return how messages call the annotation of a row."""
        return name_annotation(self._ids[row], self._image_ids[row], row)


def name_annotation(annotation_id: int, image_id: int, row: int | None = None) -> str:
    """Return how messages call an annotation: by its id, or by its row in the file where it has none."""
    name = f"annotations[{row}]" if annotation_id == -1 and row is not None else f"annotation {annotation_id}"
    return f"{name} (image {image_id})"


def read_categories(records: list[Any], faults: Faults) -> tuple[np.ndarray, list[str]]:
    """Return category ids (int64 [C], rising) and the name of each."""
    table = Table(records, "categories", faults)
    ids = table.ids()
    rows = np.flatnonzero(table.keep)  # a category without a name stays: its objects are no fault of their own
    names = table.column("name", is_text, "a name", instead="")
    # By id and not by place: training and validation files may list the same categories in another order.
    rows = rows[np.argsort(ids[rows])]
    return ids[rows], [names[row] for row in rows]


def read_images(
    records: list[Any],
    category_ids: np.ndarray,
    faults: Faults,
    needs: Collection[str] = FOR_SAMPLES,
    *,
    lvis: bool = False,
) -> Images:
    """Return the images without fault, in file order; empty names if `file_name` is not needed; see `is_lvis`."""
    listed = has_class_lists(records)
    table = Table(name_files(records, lvis=lvis) if listed else records, "images", faults)
    ids = table.ids()
    named_ids = ids[table.keep]
    names = [""] * len(table)
    if "file_name" in needs:
        names = table.column("file_name", is_text, "a path relative to the images folder")
    heights = table.column("height", is_side, "a positive integer", instead=0)
    widths = table.column("width", is_side, "a positive integer", instead=0)
    lists = read_class_lists(table, set(category_ids.tolist()), lvis=lvis) if listed else None
    rows = np.flatnonzero(table.keep)
    hw = np.array([heights, widths], np.int32).T[rows]
    if lists:
        lists = ClassLists(*([column[row] for row in rows] for column in lists))
    return Images(ids[rows], [names[row] for row in rows], hw, named_ids, lists)


def open_document(path: Path, *, require_annotations: bool) -> tuple[dict[str, Any], Faults]:
    """Read a json file that has the lists of an annotation file, and begin to collect its faults.

    Raises:
        DataError: not json, or without one of its lists: what remains would only repeat that.
    """
    document, faults = read_json(path), Faults(path)
    check_lists(document, faults, require_annotations=require_annotations)
    if faults.problems:
        raise DataError(faults.problems)
    return document, faults


def read_class_names(path: Path) -> dict[int, str]:
    """Return the name of every category of an annotation file by its id, rising; nothing else in it is looked at.

    Raises:
        DataError: no such file, or faults in its categories.
    """
    document, faults = open_document(path, require_annotations=False)
    ids, names = read_categories(document["categories"], faults)
    if faults.problems:
        raise DataError(faults.problems)
    return dict(zip(ids.tolist(), names, strict=True))


def read_image_ids(path: Path) -> list[tuple[str, int]]:
    """Return file name and id of every image of an annotation file; its annotations are not looked at.

    Raises:
        DataError: no such file, or faults in its images.
    """
    document, faults = open_document(path, require_annotations=False)
    category_ids, _ = read_categories(document["categories"], faults)
    images = read_images(document["images"], category_ids, faults, lvis=is_lvis(document))
    if faults.problems:
        raise DataError(faults.problems)
    return list(zip(images.file_names, images.ids.tolist(), strict=True))


def read_objects(
    records: list[Any],
    images: Images,
    category_ids: np.ndarray,
    faults: Faults,
    needs: Collection[str] = FOR_SAMPLES,
) -> tuple[FileObjects, list[LeftOut]]:
    """Read the annotations.

    Args:
        records: the list of the json.
        images: the images, as `read_images` gives them.
        category_ids: int64 [C], from class to category id.
        faults: receives the faults.
        needs: which columns of `FOR_SAMPLES` are read; nothing is left out by the others.

    Returns:
        All objects; what of them nothing can be learned from.
    """
    records = add_measures(records, images.ids, images.hw)
    table = Table(records, "annotations", faults)
    ids = table.ids(required="id" in needs)
    image_ids = np.array(table.column("image_id", is_id, "an integer", instead=-1), np.int64)
    categories = np.array(table.column("category_id", is_id, "an integer", instead=-1), np.int64)
    xywh, masks = [[0, 0, 0, 0]] * len(table), [None] * len(table)
    if "bbox" in needs:
        xywh = table.column("bbox", is_box, "[x, y, width, height], each of at most 1e6 pixels", instead=[0, 0, 0, 0])
    xywh = np.array(xywh, np.float64).reshape(-1, 4)
    areas = np.array(table.column("area", is_area, "a number from 0 to 1e12", instead=0), np.float64)
    is_crowd = np.array(table.column("iscrowd", is_flag, "0 or 1", default=0, instead=0), bool)
    if "segmentation" in needs:
        masks = table.column("segmentation", is_mask_or_none, "polygons or an RLE", default=None)

    image_index, class_index = _lookup(images.ids, image_ids), _lookup(category_ids, categories)
    drops = Drops(faults.file, ids, image_ids, is_crowd)
    for row in np.flatnonzero(table.keep & ~np.isin(image_ids, images.named_ids)):
        faults.add(drops.place(row), "image_id of an image in this file", str(image_ids[row]))
    for row in np.flatnonzero(table.keep & (class_index < 0)):
        faults.add(drops.place(row), "category_id of a category in this file", str(categories[row]))

    rows = np.flatnonzero(table.keep & (image_index >= 0) & (class_index >= 0))
    rows = rows[np.argsort(image_index[rows], kind="stable")]
    hw, later = images.hw[image_index[rows]], Faults(faults.file)
    learned = _check_boxes(rows, xywh, hw, drops) if "bbox" in needs else np.ones(len(rows), bool)
    shapes: list[Any] = [None] * len(rows)
    for chosen, noted, counted in ((learned, faults, "segmentation" in needs), (~learned, later, False)):
        found = _read_masks(rows[chosen], masks, hw[chosen], noted, drops, counted=counted)
        for place, shape in zip(np.flatnonzero(chosen), found, strict=True):
            shapes[place] = shape
    if "segmentation" in needs:
        learned &= np.array([bool(shape) for shape in shapes], bool)
    objects = FileObjects(
        images=image_index[rows].astype(np.int32),
        classes=class_index[rows].astype(np.int32),
        xywh=xywh[rows],
        areas=areas[rows],
        crowd=is_crowd[rows],
        annotation_ids=ids[rows],
        is_left_out=~learned,
        segmentations=Segmentations([shape for shape, kept in zip(shapes, learned, strict=True) if kept]),
        left_out=Segmentations([shape for shape, kept in zip(shapes, learned, strict=True) if not kept]),
        faults=later.problems,
    )
    return objects, drops.found


def learned_columns(objects: FileObjects, images: int) -> dict[str, Any]:
    """Return the columns of length O and `object_start`, by the names of `Annotations`: all but what is left out."""
    rows = np.flatnonzero(~objects.is_left_out)
    return {
        "object_start": np.searchsorted(objects.images[rows], np.arange(images + 1)),
        "boxes": xywh_to_xyxy(objects.xywh[rows]).astype(np.float32),
        "classes": objects.classes[rows],
        "crowd": objects.crowd[rows],
        "annotation_ids": objects.annotation_ids[rows],
        "segmentations": objects.segmentations,
    }


def _check_boxes(rows: np.ndarray, xywh: np.ndarray, hw: np.ndarray, drops: Drops) -> np.ndarray:
    """Note boxes without area and boxes outside of the image; return bool [n], which of the rows have another one.

    `hw` is the size of the image of each of `rows`.
    """
    x1, y1, x2, y2 = xywh_to_xyxy(xywh[rows]).astype(np.float32).T  # float32: the box that training sees
    height, width = hw.T
    flat = (x2 <= x1) | (y2 <= y1)
    outside = ~flat & ((x2 <= 0) | (y2 <= 0) | (x1 >= width) | (y1 >= height))
    for row in rows[flat]:
        drops.add(row, "box without area", "a bbox with width and height above 0", str(xywh[row].tolist()))
    for row, (image_height, image_width) in zip(rows[outside], hw[outside], strict=True):
        expected = f"a bbox in its image of width {image_width}, height {image_height}"
        drops.add(row, "box outside of the image", expected, str(xywh[row].tolist()))
    return ~(flat | outside)


def _read_masks(
    rows: np.ndarray, masks: list[Any], hw: np.ndarray, faults: Faults, drops: Drops, *, counted: bool
) -> list[Any]:
    """Return polygons of at least 3 points, or a compressed RLE, for each of some rows; [] where there is none.

    Args:
        rows: int64 [n], rows of the file.
        masks: one value of the json per row of the file.
        hw: int32 [n, 2], size of the image of each of `rows`.
        faults: receives what is at fault.
        drops: names the rows, and receives what is left out if it is counted.
        counted: whether what is left out is counted.
    """

    def note(index: int, expected: str, received: object) -> None:
        faults.add(f"{drops.place(rows[index])}, segmentation", expected, received)

    values = [masks[row] for row in rows]
    found = check_masks(values, hw.tolist(), note)
    for index, (row, value, mask) in enumerate(zip(rows, values, found, strict=True)):
        if counted and not value:
            drops.add(row, "object without a segmentation", "polygons or an RLE", quote(value))
        if not isinstance(mask, dict):
            short = [polygon for polygon in mask or () if len(polygon) < MIN_POLYGON]
            for polygon in short if counted else ():
                received = f"{len(polygon) // 2} points"
                drops.add(row, "polygon of under 3 points", "a polygon of at least 3 points", received)
            found[index] = [polygon for polygon in mask or () if len(polygon) >= MIN_POLYGON]
    return found


def _lookup(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return int64: where each wanted id is in `ids` (which are unique), -1 if it is not there."""
    if len(ids) == 0:
        return np.full(len(wanted), -1)
    order = np.argsort(ids)
    index = order[np.searchsorted(ids, wanted, sorter=order).clip(max=len(ids) - 1)]
    return np.where(ids[index] == wanted, index, -1)
