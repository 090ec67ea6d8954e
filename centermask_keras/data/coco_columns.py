"""The lists of a COCO json file -> columns: ids resolved, objects ordered by image, what cannot be learned left out.

Stage: data. Called by data/annotations.py. A fault stops the loading later, with all the others; a dropped object does
not.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from centermask_keras.data.coco_json import (
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
from centermask_keras.data.lvis_json import is_lvis, name_files, read_class_lists
from centermask_keras.data.segmentations import (
    MIN_POLYGON,
    Segmentations,
    compress_rle,
    find_polygon_fault,
    find_rle_fault,
    rle_pixels,
)
from centermask_keras.errors import DataError, Problem
from centermask_keras.geometry.boxes import xywh_to_xyxy

Crowd = Literal["train", "ignore", "drop"]


@dataclass(frozen=True)
class Images:
    """The images without fault."""

    ids: np.ndarray  # int64 [I]
    file_names: list[str]
    hw: np.ndarray  # int32 [I, 2]
    named_ids: np.ndarray  # int64, also those of images at fault: objects that refer to them are no fault of their own
    class_lists: tuple[list[list[int]], list[list[int]]] | None  # of LVIS: category ids that are absent, and partial


class Drops:
    """Notes what is left out, by reason."""

    def __init__(self, file: Path, ids: np.ndarray, image_ids: np.ndarray):
        self.counts: Counter[str] = Counter()
        self.problems: list[Problem] = []
        self._file = str(file)
        self._ids = ids
        self._image_ids = image_ids

    def add(self, row: int, reason: str, expected: str, received: str) -> None:
        """Count one object, or one polygon of an object, under a reason."""
        self.counts[reason] += 1
        self.problems.append(Problem(self._file, self.place(row), expected, received))

    def place(self, row: int) -> str:
        """Return how messages call the annotation of a row."""
        return f"annotation {self._ids[row]} (image {self._image_ids[row]})"


def read_categories(records: list[Any], faults: Faults) -> tuple[np.ndarray, list[str]]:
    """Return category ids (int64 [C], rising) and the name of each."""
    table = Table(records, "categories", faults)
    ids = table.ids()
    rows = np.flatnonzero(table.keep)  # a category without a name stays: its objects are no fault of their own
    names = table.column("name", is_text, "a name", instead="")
    # By id and not by place: training and validation files may list the same categories in another order.
    rows = rows[np.argsort(ids[rows])]
    return ids[rows], [names[row] for row in rows]


def read_images(records: list[Any], category_ids: np.ndarray, faults: Faults) -> Images:
    """Return the images without fault, in file order."""
    federated = is_lvis(records)
    table = Table(name_files(records) if federated else records, "images", faults)
    ids = table.ids()
    named_ids = ids[table.keep]
    names = table.column("file_name", is_text, "a path relative to the images folder")
    heights = table.column("height", is_side, "a positive integer", instead=0)
    widths = table.column("width", is_side, "a positive integer", instead=0)
    lists = read_class_lists(table, set(category_ids.tolist())) if federated else None
    rows = np.flatnonzero(table.keep)
    hw = np.array([heights, widths], np.int32).T[rows]
    if lists:
        lists = tuple([column[row] for row in rows] for column in lists)
    return Images(ids[rows], [names[row] for row in rows], hw, named_ids, lists)


def read_image_ids(path: Path) -> list[tuple[str, int]]:
    """Return file name and id of every image of an annotation file; its annotations are not looked at.

    Raises:
        DataError: no such file, or faults in its images.
    """
    document, faults = read_json(path), Faults(path)
    check_lists(document, faults, require_annotations=False)
    if not faults.problems:
        category_ids, _ = read_categories(document["categories"], faults)
        images = read_images(document["images"], category_ids, faults)
    if faults.problems:
        raise DataError(faults.problems)
    return list(zip(images.file_names, images.ids.tolist(), strict=True))


def read_objects(
    records: list[Any], images: Images, category_ids: np.ndarray, crowd: Crowd, faults: Faults
) -> tuple[dict[str, Any], Drops]:
    """Return the columns of length O and `object_start`, by the names of `Annotations`, and what was left out."""
    table = Table(records, "annotations", faults)
    ids = table.ids()
    image_ids = np.array(table.column("image_id", is_id, "an integer", instead=-1), np.int64)
    categories = np.array(table.column("category_id", is_id, "an integer", instead=-1), np.int64)
    xywh = table.column("bbox", is_box, "[x, y, width, height], each of at most 1e6 pixels", instead=[0, 0, 0, 0])
    xywh = np.array(xywh, np.float64).reshape(-1, 4)
    table.column("area", is_area, "a number from 0 to 1e12")  # evaluation sorts objects into sizes by it
    is_crowd = np.array(table.column("iscrowd", is_flag, "0 or 1", default=0, instead=0), bool)
    masks = table.column("segmentation", is_mask_or_none, "polygons or an RLE", default=None)

    image_index, class_index = _lookup(images.ids, image_ids), _lookup(category_ids, categories)
    drops = Drops(faults.file, ids, image_ids)
    for row in np.flatnonzero(table.keep & ~np.isin(image_ids, images.named_ids)):
        faults.add(drops.place(row), "image_id of an image in this file", str(image_ids[row]))
    for row in np.flatnonzero(table.keep & (class_index < 0)):
        faults.add(drops.place(row), "category_id of a category in this file", str(categories[row]))

    rows = np.flatnonzero(table.keep & (image_index >= 0) & (class_index >= 0))
    rows = rows[np.argsort(image_index[rows], kind="stable")]
    if crowd == "drop":
        rows = _drop_crowd(rows, is_crowd, drops)
    rows = _drop_boxes(rows, xywh, images.hw[image_index[rows]], drops)
    rows, masks = _read_masks(rows, masks, images.hw[image_index[rows]], faults, drops)
    columns = {
        "object_start": np.searchsorted(image_index[rows], np.arange(len(images.ids) + 1)),
        "boxes": xywh_to_xyxy(xywh[rows]).astype(np.float32),
        "classes": class_index[rows].astype(np.int32),
        "crowd": is_crowd[rows] & (crowd == "ignore"),
        "annotation_ids": ids[rows],
        "segmentations": Segmentations(masks),
    }
    return columns, drops


def _drop_crowd(rows: np.ndarray, is_crowd: np.ndarray, drops: Drops) -> np.ndarray:
    for row in rows[is_crowd[rows]]:
        drops.add(row, "crowd region", "single objects (crowd policy drop)", "a crowd region")
    return rows[~is_crowd[rows]]


def _drop_boxes(rows: np.ndarray, xywh: np.ndarray, hw: np.ndarray, drops: Drops) -> np.ndarray:
    """Leave out boxes without area and boxes outside of the image; `hw` is that of each row."""
    x1, y1, x2, y2 = xywh_to_xyxy(xywh[rows]).astype(np.float32).T  # float32: the box that training sees
    height, width = hw.T
    flat = (x2 <= x1) | (y2 <= y1)
    outside = ~flat & ((x2 <= 0) | (y2 <= 0) | (x1 >= width) | (y1 >= height))
    for row in rows[flat]:
        drops.add(row, "box without area", "a bbox with width and height above 0", str(xywh[row].tolist()))
    for row, (image_height, image_width) in zip(rows[outside], hw[outside], strict=True):
        expected = f"a bbox in its image of width {image_width}, height {image_height}"
        drops.add(row, "box outside of the image", expected, str(xywh[row].tolist()))
    return rows[~(flat | outside)]


def _read_masks(
    rows: np.ndarray, masks: list[Any], hw: np.ndarray, faults: Faults, drops: Drops
) -> tuple[np.ndarray, list[Any]]:
    """Check the segmentations; return the rows that have one, and for each polygons or a compressed RLE.

    Args:
        rows: int64 [n], rows to look at.
        masks: one value of the json per row of the file.
        hw: int32 [n, 2], image size of each of `rows`.
    """
    found: dict[int, Any] = {}
    for row, image_hw in zip(rows.tolist(), hw.tolist(), strict=True):
        mask = masks[row]
        if not mask:
            drops.add(row, "object without a segmentation", "polygons or an RLE", quote(mask))
            continue
        fault = find_polygon_fault(mask) if type(mask) is list else find_rle_fault(mask, image_hw)
        if fault is not None:
            faults.add(f"{drops.place(row)}, segmentation", *fault)
            continue
        if type(mask) is list:
            found[row] = _drop_polygons(row, mask, drops)
        else:
            found[row] = compress_rle(mask)
    _check_rles(found, faults, drops)
    found = {row: mask for row, mask in found.items() if mask}
    return np.fromiter(found, np.int64, len(found)), list(found.values())


def _drop_polygons(row: int, polygons: list[list[float]], drops: Drops) -> list[list[float]]:
    """Leave out polygons of under 3 points; the other parts of the object stay."""
    for polygon in polygons:
        if len(polygon) < MIN_POLYGON:
            drops.add(row, "polygon of under 3 points", "a polygon of at least 3 points", f"{len(polygon) // 2} points")
    return [polygon for polygon in polygons if len(polygon) >= MIN_POLYGON]


def _check_rles(found: dict[int, Any], faults: Faults, drops: Drops) -> None:
    """Note the RLEs whose runs do not fill exactly their image, and take them out of `found`."""
    rows = [row for row, mask in found.items() if isinstance(mask, dict)]
    for row, pixels in zip(rows, rle_pixels([found[row]["counts"] for row in rows]).tolist(), strict=True):
        height, width = found[row]["size"]
        if pixels != height * width:
            del found[row]
            expected = f"RLE run lengths that add up to {height} * {width} = {height * width} pixels"
            received = f"{pixels} pixels" if pixels >= 0 else "a string that is no compressed RLE"
            faults.add(f"{drops.place(row)}, segmentation", expected, received)


def _lookup(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return int64: where each wanted id is in `ids` (which are unique), -1 if it is not there."""
    if len(ids) == 0:
        return np.full(len(wanted), -1)
    order = np.argsort(ids)
    index = order[np.searchsorted(ids, wanted, sorter=order).clip(max=len(ids) - 1)]
    return np.where(ids[index] == wanted, index, -1)
