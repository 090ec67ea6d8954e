"""Pascal VOC segmentation: SegmentationObject has the number of each pixel's object, SegmentationClass its class.

0 is the background, 255 the border between objects, which belongs to none. Classes are those of VOC, or those of a
labelmap.txt (`name:r,g,b:...`), as CVAT writes one: its colours are those of the palette.
Source: the development kit of the VOC 2012 challenge.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from centermask_keras.convert.image_names import list_files
from centermask_keras.convert.open_files import read_mask_values
from centermask_keras.convert.outlines import encode_ids
from centermask_keras.convert.source import PARTS, Source, SourceObject
from centermask_keras.errors import ImageError

OBJECTS, CLASSES, BORDER = "SegmentationObject", "SegmentationClass", 255
VOC_CLASSES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep "
    "sofa train tvmonitor"
).split()


def recognises(path: Path) -> bool:
    """Say whether a folder, or one directly in it, is one of VOC."""
    return _find_root(path) is not None


def read(path: Path) -> Source:
    """Read a folder."""
    root = _find_root(path)
    source = Source(path, path)
    names = _read_label_map(root, source)
    source.class_names = list(names.values())
    part_of = _read_parts(root)
    image_of = {image.stem: image for image in source.finder.files if "Segmentation" not in image.parent.name}
    for file in list_files(root / OBJECTS, {".png"}):
        found = image_of.get(file.stem)
        if found is None:
            source.fault(file, "", f"an image called {file.stem} below {path}", "none")
            continue
        hw = source.read_size(found)
        if hw is None:
            continue
        try:
            ids = read_mask_values(file, hw)
            classes = read_mask_values(root / CLASSES / file.name, hw)
        except ImageError as error:
            source.fault(Path(error.path), "", error.expected, error.reason)
            continue
        ids[classes == BORDER] = 0
        ids[ids == BORDER] = 0
        source.add_image(found, hw, _name_objects(ids, classes, names, file, source), part_of.get(file.stem))
    return source


def _name_objects(
    ids: np.ndarray, classes: np.ndarray, names: dict[int, str], file: Path, source: Source
) -> list[SourceObject]:
    objects = []
    for value, rle in encode_ids(ids).items():
        number = int(np.bincount(classes[ids == value] & 0xFFFFFF).argmax())
        if number in names:
            objects.append(SourceObject(names[number], rle))
        else:
            source.fault(file, f"object {value}", "a class of VOC or of labelmap.txt", f"number {number}")
    return objects


def _find_root(path: Path) -> Path | None:
    if not path.is_dir():
        return None
    folders = [path, *(entry for entry in sorted(path.iterdir()) if entry.is_dir())]
    return next((folder for folder in folders if (folder / OBJECTS).is_dir() and (folder / CLASSES).is_dir()), None)


def _read_label_map(root: Path, source: Source) -> dict[int, str]:
    """Return the class of each number in SegmentationClass: the place in VOC's list, or of a colour."""
    names = dict(enumerate(VOC_CLASSES, 1))
    path = root / "labelmap.txt"
    if not path.is_file():
        return names
    names = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        name, _, rest = line.partition(":")
        if not line.strip() or line.startswith("#") or name == "background":
            continue
        try:
            red, green, blue = (int(text) for text in rest.split(":")[0].split(","))
        except ValueError:
            source.fault(path, f"line {number}", "name:r,g,b:...", line[:60])
            continue
        names[_palette_place(red, green, blue)] = name
        names[red + 256 * green + 65536 * blue] = name
    return names


def _palette_place(red: int, green: int, blue: int) -> int:
    """Return the place of a colour in VOC's palette, whose bits are spread over the three colours from the top."""
    place = 0
    for bit in range(8):
        three = [(colour >> (7 - bit)) & 1 for colour in (red, green, blue)]
        place |= (three[0] | three[1] << 1 | three[2] << 2) << 3 * bit
    return place


def _read_parts(root: Path) -> dict[str, str]:
    """Return the part of each image, by ImageSets/Segmentation."""
    part_of = {}
    for name, part in PARTS.items():
        path = root / "ImageSets" / "Segmentation" / f"{name}.txt"
        if path.is_file():
            part_of.update(dict.fromkeys(path.read_text(encoding="utf-8").split(), part))
    return part_of
