"""CVAT's own xml, version 1.1 for images: polygons, masks, ellipses, turned boxes.

Shapes of one class and one group are the parts of one object, as in CVAT's COCO export. A mask is given by runs of 0
and 1 in turn along the rows of its box.
Source: CVAT's description of its xml format.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from centermask_keras.convert.open_files import files_that_hold, first_that_holds, load_xml
from centermask_keras.convert.outlines import ellipse, encode_inside, rotated_box
from centermask_keras.convert.source import BOXES, Source, SourceObject, find_part, join_groups, numbers_of
from centermask_keras.data.files.segmentations import is_coordinates
from centermask_keras.masks import SizeHW

MARKS = ("<annotations", "<image")
VIDEO_MARKS = ("<annotations", "<track")
WITHOUT_AREA = {"points": "points", "polyline": "lines", "cuboid": "cuboids", "skeleton": "skeletons", "tag": "tags"}
NUMBERS = "numbers of pixels as CVAT writes them"


def recognises(path: Path) -> bool:
    """Say whether a file, or one of a folder, is an xml of CVAT."""
    return any(first_that_holds(path, ".xml", marks) is not None for marks in (MARKS, VIDEO_MARKS))


def read(path: Path) -> Source:
    """Read a file, or all of a folder."""
    source = Source(path, path if path.is_dir() else path.parent)
    for file in files_that_hold(path, ".xml", MARKS[:1]):
        root = load_xml(file)
        if root.find("track") is not None:
            source.fault(file, "track", "annotations of images; export as 'CVAT for images 1.1'", "tracks of a video")
        names = [element.text or "" for element in root.iterfind("./meta//labels/label/name")]
        source.class_names += [name for name in names if name.strip() and name not in source.class_names]
        for index, image in enumerate(root.iterfind("image")):
            _read_image(image, f"image[{index}]", file, source)
    return source


def _read_image(image: Element, where: str, file: Path, source: Source) -> None:
    sides = [int(text) if (text := image.get(side, "")).isdecimal() else None for side in ("height", "width")]
    opened = source.open_image(image.get("name"), file, f"{where} name", tuple(sides))
    if opened is None:
        return
    rows = []
    for index, shape in enumerate(image):
        place = f"{where} {shape.tag}[{index}] ({image.get('name')})"
        rows += [(shape.get("group_id"), item) for item in _read_shape(shape, place, opened[1], file, source)]
    folders = file.relative_to(source.folder).parts[:-1]
    source.add_image(*opened, join_groups(rows, opened[1]), find_part(image.get("subset", ""), *folders))


def _read_shape(shape: Element, where: str, hw: SizeHW, file: Path, source: Source) -> list[SourceObject]:
    kind, name = shape.tag, shape.get("label", "").strip()
    numbers = {"rotation": "0", **shape.attrib}
    if kind in WITHOUT_AREA:
        source.lost[WITHOUT_AREA[kind]] += 1
        return []
    if not name:
        source.fault(file, where, "a label", "none")
        return []
    if kind == "box":
        corners = numbers_of(numbers, "xtl", "ytl", "xbr", "ybr", "rotation")
        if corners is not None and corners[4] == 0:
            source.lost[BOXES] += 1
            return []
        polygon = corners and _turned_box(*corners)
    elif kind == "ellipse":
        axes = numbers_of(numbers, "cx", "cy", "rx", "ry", "rotation")
        polygon = axes and ellipse(*axes)
    elif kind == "polygon":
        polygon = _read_points(shape.get("points", ""))
    elif kind == "mask":
        mask = _read_mask(shape, hw)
        if mask is not None:
            return [SourceObject(name, mask)]
        polygon = None
    else:
        source.lost[f"shapes of the kind {kind!r}"] += 1
        return []
    if polygon is None:
        source.fault(file, where, NUMBERS, str(shape.attrib)[:200])
        return []
    return source.keep(name, [polygon])


def _turned_box(left: float, top: float, right: float, bottom: float, degrees: float) -> list[float]:
    return rotated_box(left, top, right - left, bottom - top, degrees, pivot="center")


def _read_points(text: str) -> list[float] | None:
    try:
        numbers = [float(number) for point in text.split(";") if point for number in _pair(point)]
    except ValueError:
        return None
    return numbers if numbers and is_coordinates(numbers) else None


def _pair(point: str) -> tuple[str, str]:
    x, y = point.split(",")  # ValueError: not two
    return x, y


def _read_mask(shape: Element, hw: SizeHW) -> dict[str, object] | None:
    try:
        left, top, width, height = (int(shape.get(key, "")) for key in ("left", "top", "width", "height"))
        runs = np.array([int(run) for run in shape.get("rle", "").split(",")], np.int64)
    except (ValueError, OverflowError):
        return None
    box_fits = 0 < width <= hw[1] + 1 and 0 < height <= hw[0] + 1 and abs(left) <= hw[1] and abs(top) <= hw[0]
    if not box_fits or (runs < 0).any() or runs.sum() != width * height:
        return None
    bits = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return encode_inside(bits.reshape(height, width), left, top, hw)
