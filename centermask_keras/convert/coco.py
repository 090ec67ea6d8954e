"""COCO json of any tool, or folders of it: Roboflow, CVAT, Label Studio, FiftyOne.

They differ in names and places of files, in what they leave out (`bbox`, `area`, `iscrowd`, sizes) and in the first id.
Source: https://cocodataset.org/#format-data and the export pages of the four tools.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from centermask_keras.convert.open_files import files_that_hold, first_that_holds
from centermask_keras.convert.source import BOXES, Source, SourceObject, find_part
from centermask_keras.data.files.coco_columns import open_document, read_categories
from centermask_keras.data.files.coco_json import (
    Faults,
    Table,
    is_flag,
    is_id,
    is_mask_or_none,
    is_side,
    is_text,
)
from centermask_keras.data.files.lvis_json import has_class_lists, read_class_lists
from centermask_keras.data.files.segmentations import check_masks
from centermask_keras.masks import SizeHW

LISTS = ('"images"', '"annotations"', '"categories"')


def recognises(path: Path) -> bool:
    """Say whether a file, or one of a folder, has the lists of a COCO json."""
    return first_that_holds(path, ".json", LISTS) is not None


def read(path: Path) -> Source:
    """Read a file, or all COCO files of a folder; of COCO's own folder those of the instances."""
    files = list(files_that_hold(path, ".json", LISTS))
    if path.is_file() and path.parent.name == "annotations":
        source = Source(path, path.parent.parent)
    else:
        source = Source(path, path if path.is_dir() else path.parent)
    instances = [file for file in files if file.name.startswith("instances_")]
    for file in instances or files:
        part = find_part(*file.relative_to(path).parts) if path.is_dir() else None
        _read_file(file, part, source)
    return source


def _read_file(file: Path, part: str | None, source: Source) -> None:
    document, faults = open_document(file, require_annotations=True)
    ids, names = read_categories(document["categories"], faults)
    name_of = dict(zip(ids.tolist(), names, strict=True))
    source.class_names += [name for name in names if name not in source.class_names]
    images, known_of = _read_images(document["images"], set(name_of), file, source, faults)
    objects = _read_objects(document["annotations"], images, name_of, source, faults)
    source.problems += faults.problems
    for image, lists in zip(images, known_of, strict=True):
        if image is not None:
            path, hw, number = image
            known = _known_classes(lists, name_of, objects[number])
            source.add_image(path, hw, objects[number], part, known)


def _read_images(
    records: list[Any], category_ids: set[int], file: Path, source: Source, faults: Faults
) -> tuple[list[tuple[Path, SizeHW, int] | None], list[tuple[list[int], list[int]] | None]]:
    """Return file, size and id of each image, None for those at fault; and its lists of classes, None without them."""
    table = Table(records, "images", faults)
    ids = table.ids().tolist()
    names = table.column("file_name", is_text, "a path relative to the images folder")
    sides = [
        table.column(key, lambda value: value is None or is_side(value), "a positive integer", default=None)
        for key in ("height", "width")
    ]
    found: list[tuple[Path, SizeHW, int] | None] = [None] * len(table)
    for row, (name, number, *hw) in enumerate(zip(names, ids, *sides, strict=True)):
        if table.keep[row] and (opened := source.open_image(name, file, table.place(row, ".file_name"), tuple(hw))):
            found[row] = (*opened, number)
    if not has_class_lists(records):
        return found, [None] * len(table)
    return found, list(zip(*read_class_lists(table, category_ids, lvis=False), strict=True))


def _read_objects(
    records: list[Any],
    images: list[tuple[Path, SizeHW, int] | None],
    name_of: dict[int, str],
    source: Source,
    faults: Faults,
) -> dict[int, list[SourceObject]]:
    """Return the objects by the id of their image; those of images at fault are no fault of their own."""
    table = Table(records, "annotations", faults)
    image_ids = table.column("image_id", is_id, "an integer", instead=-1)
    categories = table.column("category_id", is_id, "an integer", instead=-1)
    crowds = table.column("iscrowd", is_flag, "0 or 1", default=0, instead=0)
    masks = table.column("segmentation", is_mask_or_none, "polygons or an RLE", default=None)
    hw_of = {number: hw for _, hw, number in filter(None, images)}
    for row in range(len(table)):
        if table.keep[row] and categories[row] not in name_of:
            faults.add(table.place(row, ".category_id"), "the id of a category in this file", str(categories[row]))
        if table.keep[row] and image_ids[row] not in hw_of and None not in images:
            faults.add(table.place(row, ".image_id"), "the id of an image in this file", str(image_ids[row]))
    rows = [row for row in range(len(table)) if image_ids[row] in hw_of and categories[row] in name_of]
    found = check_masks(
        [masks[row] for row in rows],
        [list(hw_of[image_ids[row]]) for row in rows],
        lambda index, expected, received: faults.add(table.place(rows[index], ".segmentation"), expected, received),
    )
    objects: dict[int, list[SourceObject]] = {number: [] for number in hw_of}
    for row, mask in zip(rows, found, strict=True):
        name, kept = name_of[categories[row]], objects[image_ids[row]]
        if isinstance(mask, dict):
            kept.append(SourceObject(name, mask, bool(crowds[row])))
        elif mask:
            kept += [item._replace(crowd=bool(crowds[row])) for item in source.keep(name, mask)]
        elif not masks[row]:
            source.lost[BOXES if records[row].get("bbox") else "objects without an outline"] += 1
    return objects


def _known_classes(
    lists: tuple[list[int], list[int]] | None, name_of: dict[int, str], objects: list[SourceObject]
) -> frozenset[str] | None:
    """Return the classes of which all objects of an image are annotated, by its lists of absent and partial ones."""
    if lists is None:
        return None
    absent, partial = ({name_of[number] for number in numbers} for numbers in lists)
    return frozenset((absent | {item.name for item in objects}) - partial)
