"""What every format is read into: images with objects, and what cannot be kept.

Stage: data, before training. The readers of this folder fill a `Source`; `convert.py` writes COCO json of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pycocotools import mask as coco_mask

from centermask_keras.convert.image_names import ImageFinder
from centermask_keras.data.files.images import image_header
from centermask_keras.data.files.segmentations import MIN_POLYGON, is_coordinates
from centermask_keras.errors import ImageError, Problem
from centermask_keras.masks import RLE, SizeHW, segmentation_to_rle

BOXES = "boxes without an outline"
PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What tools call the parts of a set -> the name here."""


class SourceObject(NamedTuple):
    """One object: class, mask as a COCO `segmentation` (polygons or a compressed RLE), whether it is a crowd region."""

    name: str
    segmentation: list[list[float]] | RLE
    crowd: bool = False


@dataclass(frozen=True)
class SourceImage:
    """One image and its objects.

    Attributes:
        path: the file.
        hw: height and width, as its header says.
        objects: in file order.
        part: train, val, test, or None where the source has no parts.
        known: the classes of which all objects are annotated in it; None: all classes of the source.
        name: its place in the set that is written, with forward slashes; `convert.py` gives it.
    """

    path: Path
    hw: SizeHW
    objects: list[SourceObject]
    part: str | None = None
    known: frozenset[str] | None = None
    name: str = ""


@dataclass
class Source:
    """What one source holds.

    Attributes:
        path: what the user named.
        folder: the images lie below it.
        images: with their objects.
        class_names: those that the source lists, in its order; classes of objects need not be among them.
        lost: what cannot be kept -> how often.
        notes: sentences for the user.
        problems: faults; with one of them nothing is written.
    """

    path: Path
    folder: Path
    images: list[SourceImage] = field(default_factory=list)
    class_names: list[str] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.finder = ImageFinder(self.folder)

    def fault(self, file: Path, where: str, expected: str, received: str) -> None:
        """Note a fault: where, what was expected, what was received."""
        self.problems.append(Problem(str(file), where, expected, received))

    def open_image(
        self, name: object, file: Path, where: str, hw: tuple[object, object] = (None, None)
    ) -> tuple[Path, SizeHW] | None:
        """Find an image that a file names and read its size; None where that is a fault, which is noted.

        Args:
            name: as it stands in the file.
            file: the file, beside which the search begins.
            where: place in it.
            hw: height and width as it says; None where it does not.
        """
        if type(name) is not str or not name.strip():
            self.fault(file, where, "the name of an image", repr(name))
            return None
        found = self.finder.find(name, file.parent)
        if isinstance(found, str):
            self.fault(file, where, f"an image below {self.folder}; give the folder that holds both", found)
            return None
        size = self.read_size(found)
        if size is None:
            return None
        stated = tuple(given if side is None else side for side, given in zip(hw, size, strict=True))
        if stated != size:
            received = f"width {stated[1]}, height {stated[0]}"
            self.fault(file, where, f"width {size[1]}, height {size[0]} as {found.name} has", received)
            return None
        return found, size

    def read_size(self, path: Path) -> SizeHW | None:
        """Return height and width of an image file by its header; None where that is a fault, which is noted."""
        try:
            return image_header(path)
        except ImageError as error:
            self.fault(path, "", error.expected, error.reason)
            return None

    def add_image(
        self,
        path: Path,
        hw: SizeHW,
        objects: Sequence[SourceObject],
        part: str | None = None,
        known: frozenset[str] | None = None,
    ) -> None:
        """Add an image."""
        self.images.append(SourceImage(path, hw, list(objects), part, known))

    def keep(self, name: object, polygons: list[list[float]]) -> list[SourceObject]:
        """Return the object of polygons, each x, y, x, y ...; none where they enclose nothing, which is counted."""
        whole = [polygon for polygon in polygons if len(polygon) >= MIN_POLYGON]
        self.lost["polygons of under 3 points"] += len(polygons) - len(whole)
        return [SourceObject(str(name), whole)] if whole else []


def find_part(*names: str) -> str | None:
    """Return the part of a set that names of folders or files tell; None if they tell none."""
    words = [word for name in names for word in re.findall("[a-z]+", name.lower())]
    return next((PARTS[word] for word in words if word in PARTS), None)


def flatten_points(points: object) -> list[float] | None:
    """Return [[x, y], ...] as x, y, x, y ...; None if it is something else, or holds what is no number of pixels."""
    if type(points) is not list or not all(type(point) is list and len(point) == 2 for point in points):
        return None
    flat = [number for point in points for number in point]
    return [float(number) for number in flat] if not flat or is_coordinates(flat) else None


def numbers_of(record: dict[str, Any], *keys: str) -> list[float] | None:
    """Return some values of a json object or of the attributes of xml as numbers of pixels; None if one is none."""
    try:
        numbers = [float(record[key]) for key in keys if type(record[key]) is not bool]
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return numbers if len(numbers) == len(keys) and is_coordinates(numbers) else None


def join_groups(rows: Sequence[tuple[object, SourceObject]], hw: SizeHW) -> list[SourceObject]:
    """Join the parts of objects: rows of (group, object) with equal class and group; None is no group."""
    groups: dict[object, list[SourceObject]] = {}
    for place, (group, item) in enumerate(rows):
        groups.setdefault(place if group is None else (str(group), item.name), []).append(item)
    return [items[0] if len(items) == 1 else _join(items, hw) for items in groups.values()]


def _join(items: list[SourceObject], hw: SizeHW) -> SourceObject:
    masks = [item.segmentation for item in items]
    if all(isinstance(mask, list) for mask in masks):
        return SourceObject(items[0].name, [polygon for mask in masks for polygon in mask])
    return SourceObject(items[0].name, coco_mask.merge([segmentation_to_rle(mask, hw) for mask in masks]))
