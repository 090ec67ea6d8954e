"""Folders of labelme: a json beside each image.

A circle is its centre and a point on it, a mask the PNG of its box as base64. Shapes of one class and one `group_id`
are the parts of one object.
Source: the json files of labelme 4 and 5 and its documentation.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
from pathlib import Path
from typing import Any

from centermask_keras.convert.open_files import files_that_hold, first_that_holds, read_mask_values
from centermask_keras.convert.outlines import ellipse, encode_inside
from centermask_keras.convert.source import BOXES, Source, SourceObject, find_part, flatten_points, join_groups
from centermask_keras.data.files.coco_json import quote, read_json
from centermask_keras.errors import ImageError
from centermask_keras.masks import SizeHW

KEYS = ('"shapes"', '"imagePath"')
POLYGONS = {"polygon", "oriented_rectangle", "rotation"}
WITHOUT_AREA = {"point": "points", "points": "points", "line": "lines", "linestrip": "lines"}


def recognises(path: Path) -> bool:
    """Say whether a file, or one of a folder, is a json of labelme."""
    return first_that_holds(path, ".json", KEYS) is not None


def read(path: Path) -> Source:
    """Read a file, or all of a folder."""
    source = Source(path, path if path.is_dir() else path.parent)
    for file in files_that_hold(path, ".json", KEYS):
        document = read_json(file)
        hw = (document.get("imageHeight"), document.get("imageWidth"))
        name = document.get("imagePath")
        opened = source.open_image(name, file, "imagePath", hw)
        shapes = document.get("shapes")
        if type(shapes) is not list:
            source.fault(file, "shapes", "a list of objects", quote(shapes))
        elif opened is not None:
            rows = []
            for index, shape in enumerate(shapes):
                rows += _read_shape(shape, index, opened[1], file, source)
            part = find_part(*file.relative_to(source.folder).parts[:-1])
            source.add_image(*opened, join_groups(rows, opened[1]), part)
    labelled = {image.path for image in source.images}
    left = sum(image not in labelled for image in source.finder.files)
    if left and path.is_dir():
        source.notes.append(f"images without a json are left out: {left:,}")
    return source


def _read_shape(shape: Any, index: int, hw: SizeHW, file: Path, source: Source) -> list[tuple[object, SourceObject]]:
    """Return (group, object) of a shape; nothing of one that is lost or at fault."""
    where = f"shapes[{index}]"
    if type(shape) is not dict or type(shape.get("label")) is not str or not shape["label"].strip():
        source.fault(file, where, "an object with a label", quote(shape))
        return []
    kind = str(shape.get("shape_type") or "polygon")
    points = flatten_points(shape.get("points"))
    if points is None:
        source.fault(file, f"{where}.points", "a list of [x, y] in pixels", quote(shape.get("points")))
        return []
    if kind == "rectangle" or kind in WITHOUT_AREA:
        source.lost[WITHOUT_AREA.get(kind, BOXES)] += 1
        return []
    name, group = shape["label"].strip(), shape.get("group_id")
    if kind in POLYGONS:
        return [(group, item) for item in source.keep(name, [points])]
    if kind == "circle" and len(points) == 4:
        radius = math.dist(points[:2], points[2:])
        return [(group, item) for item in source.keep(name, [ellipse(*points[:2], radius, radius)])]
    if kind == "mask" and len(points) == 4:
        return _read_mask(shape, name, points, where, hw, file, source)
    source.fault(
        file, f"{where}.shape_type", "a shape of labelme with its points", f"{kind}, {len(points) // 2} points"
    )
    return []


def _read_mask(
    shape: dict[str, Any], name: str, points: list[float], where: str, hw: SizeHW, file: Path, source: Source
) -> list[tuple[object, SourceObject]]:
    left, top, right, bottom = (round(number) for number in points)
    try:
        content = base64.b64decode(shape.get("mask") or "", validate=True)
        bitmap = read_mask_values(io.BytesIO(content), (bottom - top + 1, right - left + 1)) > 0
    except (ImageError, TypeError, binascii.Error) as error:
        received = error.reason if isinstance(error, ImageError) else "something else"
        source.fault(file, f"{where}.mask", "a PNG in base64 of the size of its two points", received)
        return []
    return [(shape.get("group_id"), SourceObject(name, encode_inside(bitmap, left, top, hw)))]
