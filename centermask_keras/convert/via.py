"""The json of the VGG Image Annotator, version 2: a project, or its exported annotations; version 1 as well.

Source: the files and the documentation of VIA 2. The angle of an ellipse is in radians.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

from centermask_keras.convert.open_files import files_that_hold, first_that_holds
from centermask_keras.convert.outlines import ellipse
from centermask_keras.convert.source import BOXES, Source, SourceObject, find_part, numbers_of
from centermask_keras.data.files.coco_json import quote, read_json
from centermask_keras.data.files.segmentations import is_coordinates

KEYS = ('"filename"', '"regions"')
WITHOUT_AREA = {"point": "points", "polyline": "lines"}
CLASS_NAMES = ("class", "label", "name", "type", "category", "object", "species")
"""What the attribute of the class is called, where there are several."""
ONLY_CLASS = "object"


def recognises(path: Path) -> bool:
    """Say whether a file, or one of a folder, is a json of VIA."""
    return first_that_holds(path, ".json", KEYS) is not None


def read(path: Path) -> Source:
    """Read a file, or all of a folder: VIA writes one for each folder of images."""
    source = Source(path, path if path.is_dir() else path.parent)
    for file in files_that_hold(path, ".json", KEYS):
        _read_file(file, find_part(*file.relative_to(source.folder).parts) if path.is_dir() else None, source)
    return source


def _read_file(file: Path, part: str | None, source: Source) -> None:
    document = read_json(file)
    entries = document.get("_via_img_metadata", document)
    if type(entries) is not dict:
        source.fault(file, "_via_img_metadata", "an object", quote(entries))
        return
    key = _class_attribute(entries, file, source)
    for name, entry in entries.items():
        where = f"[{quote(name)}]"
        if type(entry) is not dict:
            source.fault(file, where, "an object with filename and regions", quote(entry))
            continue
        regions = entry.get("regions") or []
        regions = list(regions.values()) if type(regions) is dict else regions  # version 1 numbers them
        opened = source.open_image(entry.get("filename"), file, f"{where}.filename")
        if type(regions) is not list:
            source.fault(file, f"{where}.regions", "a list", quote(regions))
        elif opened is not None:
            objects = [
                item
                for index, region in enumerate(regions)
                for item in _read_region(region, key, f"{where}.regions[{index}]", file, source)
            ]
            source.add_image(*opened, objects, part)


def _class_attribute(entries: dict[str, Any], file: Path, source: Source) -> str | None:
    """Return the attribute of regions that holds their class; None if regions have no attributes."""
    counts: Counter[str] = Counter()
    for entry in entries.values():
        regions = entry.get("regions") if type(entry) is dict else None
        for region in regions.values() if type(regions) is dict else regions if type(regions) is list else ():
            attributes = region.get("region_attributes") if type(region) is dict else None
            counts.update(key for key, value in attributes.items() if value) if type(attributes) is dict else None
    if not counts:
        return None
    named = [key for wanted in CLASS_NAMES for key in counts if key.lower() == wanted]
    chosen = (named or [key for key, _ in counts.most_common()])[0]
    if len(counts) > 1:
        source.notes.append(f"{file.name}: the class is the attribute {chosen!r}, not {sorted({*counts} - {chosen})}")
    return chosen


def _read_region(region: Any, key: str | None, where: str, file: Path, source: Source) -> list[SourceObject]:
    shape = region.get("shape_attributes") if type(region) is dict else None
    kind = shape.get("name") if type(shape) is dict else None
    if type(kind) is not str:
        source.fault(file, where, "an object with shape_attributes and their name", quote(region))
        return []
    if kind == "rect" or kind in WITHOUT_AREA:
        source.lost[WITHOUT_AREA.get(kind, BOXES)] += 1
        return []
    name = _class_of(region.get("region_attributes"), key)
    if not name:
        source.lost[f"outlines without the attribute {key!r}"] += 1
        return []
    polygon = _outline(kind, shape)
    if polygon is None:
        source.fault(file, f"{where}.shape_attributes", "a shape of VIA with its numbers of pixels", quote(shape))
        return []
    return source.keep(name, [polygon])


def _class_of(attributes: Any, key: str | None) -> str | None:
    """Return the class: text, or the box that is ticked where it may be several."""
    if key is None:
        return ONLY_CLASS
    value = attributes.get(key) if type(attributes) is dict else None
    if type(value) is dict:
        value = next((name for name, ticked in value.items() if ticked), None)
    return str(value).strip() if value else None


def _outline(kind: str, shape: dict[str, Any]) -> list[float] | None:
    if kind == "polygon":
        x, y = shape.get("all_points_x"), shape.get("all_points_y")
        if type(x) is not list or type(y) is not list or len(x) != len(y) or (x and not is_coordinates([*x, *y])):
            return None
        return [float(number) for point in zip(x, y, strict=True) for number in point]
    if kind == "circle":
        numbers = numbers_of(shape, "cx", "cy", "r")
        return numbers and ellipse(*numbers, numbers[2])
    if kind == "ellipse":
        numbers = numbers_of({"theta": 0, **shape}, "cx", "cy", "rx", "ry", "theta")
        return numbers and ellipse(*numbers[:4], math.degrees(numbers[4]))
    return None
