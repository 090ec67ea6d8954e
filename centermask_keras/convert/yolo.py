"""YOLO segmentation: a text file of polygons beside each image; with a data.yaml, or bare folders.

A line is a class number and x y x y ... as shares of width and height; with four numbers it is a box. An image without
a text file is one without objects. `images` in the path of an image becomes `labels` in that of its text file.
Source: the documentation of Ultralytics on segmentation data sets.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from centermask_keras.convert.image_names import IMAGE_SUFFIXES, list_files, split_name
from centermask_keras.convert.open_files import FIRST_FILES
from centermask_keras.convert.source import BOXES, PARTS, Source, SourceObject, find_part
from centermask_keras.data.files.segmentations import COORDINATE_LIMIT
from centermask_keras.errors import DataError, Problem
from centermask_keras.masks import SizeHW

YAML = {".yaml", ".yml"}
CLASS_FILES = ("classes.txt", "obj.names", "labels.txt")
BOX_NUMBERS = 4
FEWEST_NUMBERS = 6  # a polygon of 3 points


def recognises(path: Path) -> bool:
    """Say whether a path is a data.yaml of YOLO, or a folder with one or with images and their text files."""
    if path.is_file():
        return path.suffix.lower() in YAML and b"names" in path.read_bytes()
    return _find_yaml(path) is not None or any(map(_is_label_file, islice(_text_files(path), FIRST_FILES)))


def read(path: Path) -> Source:
    """Read a data.yaml, a folder with one, or bare folders of images and text files."""
    yaml_file = path if path.is_file() else _find_yaml(path)
    source = Source(path, path if path.is_dir() else path.parent)
    if yaml_file is None:
        source.class_names, images = _read_class_file(source), _list_folders(source)
    else:
        document = load_yaml(yaml_file)
        source.class_names = _read_names(document.get("names"), yaml_file, source)
        images = _list_parts(document, yaml_file, source)
    named = bool(source.class_names)
    if not named:
        source.notes.append(f"no names of classes (data.yaml, {CLASS_FILES[0]}): they are called by their numbers")
    for image, part in images:
        label = label_file(image)
        hw = source.read_size(image)
        if hw is not None:
            lines = _read_lines(label, source) if label.is_file() else []
            objects = []
            for number, line in lines:
                objects += _read_line(line, number, label, hw, source, named)
            source.add_image(image, hw, objects, part)
    return source


def label_file(image: Path) -> Path:
    """Return where the text file of an image is: in `labels` instead of the last `images` of its path, or beside it."""
    parts = list(image.parent.parts)
    if "images" in parts:
        last = len(parts) - 1 - parts[::-1].index("images")
        elsewhere = Path(*parts[:last], "labels", *parts[last + 1 :], f"{image.stem}.txt")
        if elsewhere.is_file() or not image.with_suffix(".txt").is_file():
            return elsewhere
    return image.with_suffix(".txt")


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a yaml file whose top level is a mapping.

    Raises:
        DataError: not yaml, or something else.
    """
    import yaml  # only a data.yaml needs it

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error)
        raise DataError([Problem(str(path), place, "yaml", reason)]) from error
    if type(document) is not dict:
        raise DataError([Problem(str(path), "", "a mapping with names, train and val", type(document).__name__)])
    return document


def _find_yaml(folder: Path) -> Path | None:
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in YAML and path.is_file()]
    files = [path for path in files if b"names" in path.read_bytes()]
    return next((path for path in files if path.stem == "data"), files[0] if files else None)


def _text_files(folder: Path) -> list[Path]:
    return list_files(folder, {".txt"})


def _is_label_file(path: Path) -> bool:
    """Say whether a text file is one of YOLO: its first line that is not empty is a class and at least 4 numbers."""
    try:
        with path.open(encoding="utf-8") as file:
            first = next((line for line in file if line.strip()), "")
        number, *rest = first.split()
        return number.isdecimal() and len(rest) >= BOX_NUMBERS and all(0 <= abs(float(text)) < 2 for text in rest)
    except (OSError, ValueError):  # also UnicodeDecodeError
        return False


def _is_labelled(image: Path) -> bool:
    """Say whether an image belongs to the set: its text file, or the folder for it, is there."""
    label = label_file(image)
    return label.is_file() or (label.parent != image.parent and label.parent.is_dir())


def _read_class_file(source: Source) -> list[str]:
    files = [source.folder / name for name in CLASS_FILES if (source.folder / name).is_file()]
    files = [path for path in files if not _is_label_file(path)]
    return [line.strip() for line in files[0].read_text(encoding="utf-8").splitlines() if line.strip()] if files else []


def _read_names(names: Any, file: Path, source: Source) -> list[str]:
    """Return the names by number; those that a mapping leaves out are called by their numbers."""
    if type(names) is dict and names and all(type(key) is int and 0 <= key < 10_000 for key in names):
        return [str(names.get(number, number)) for number in range(max(names) + 1)]
    if type(names) is list and names:
        return [str(name) for name in names]
    source.fault(file, "names", "a list of names, or a mapping from number to name", str(names)[:100])
    return []


def _list_parts(document: dict[str, Any], file: Path, source: Source) -> list[tuple[Path, str | None]]:
    """List the images that train, val and test of a data.yaml name, with their part; some tools leave the three out."""
    roots = [file.parent.joinpath(*split_name(str(document.get("path") or ""))), file.parent]
    images: list[tuple[Path, str | None]] = []
    for key in PARTS:
        entries = document.get(key)
        for entry in entries if type(entries) is list else [entries] if entries else []:
            place = _find_entry(str(entry), roots)
            if place is None:
                source.notes.append(
                    f"{file.name}: {key} names {str(entry)!r}, which is not below {file.parent}: left out"
                )
                continue
            images += [(image, PARTS[key]) for image in _list_images(place, key, source)]
    images = images or _list_folders(source)
    if not images:
        source.fault(file, "train", f"a folder of images, or a list of them, below {file.parent}", "none")
    return images


def _list_folders(source: Source) -> list[tuple[Path, str | None]]:
    """List the images below the folder that have a text file, or a folder for it, with the part that folders tell."""
    images = [image for image in source.finder.files if _is_labelled(image)]
    return [(image, find_part(*image.relative_to(source.folder).parts[:-1])) for image in images]


def _find_entry(entry: str, roots: list[Path]) -> Path | None:
    """Find a folder or list; `..` is left out, as the files of Roboflow have it where it leads nowhere."""
    places = [root.joinpath(*split_name(entry)) for root in roots]
    return next((place for place in places if place.exists()), None)


def _list_images(place: Path, key: str, source: Source) -> list[Path]:
    if place.is_dir():
        return list_files(place, IMAGE_SUFFIXES)
    images = []
    for number, line in _read_lines(place, source):
        found = source.finder.find(line, place.parent)
        if isinstance(found, Path):
            images.append(found)
        else:
            source.fault(place, f"line {number}", f"an image of {key} below {source.folder}", found)
    return images


def _read_lines(file: Path, source: Source) -> list[tuple[int, str]]:
    """Return the lines that are not empty with their numbers."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        source.fault(file, "", "a text file", str(error))
        return []
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


def _read_line(line: str, number: int, file: Path, hw: SizeHW, source: Source, named: bool) -> list[SourceObject]:
    where = f"line {number}"
    try:
        first, *rest = line.split()
        index, shares = int(first), [float(text) for text in rest]
    except ValueError:
        source.fault(file, where, "a class number and x y x y ...", line[:60])
        return []
    if index < 0 or (named and index >= len(source.class_names)):
        source.fault(file, where, f"a class from 0 to {len(source.class_names) - 1}", str(index))
        return []
    if len(shares) == BOX_NUMBERS:
        source.lost[BOXES] += 1
        return []
    if len(shares) < FEWEST_NUMBERS or len(shares) % 2:
        source.fault(file, where, "x y of at least 3 points after the class", f"{len(shares)} numbers")
        return []
    polygon = [share * hw[1 - place % 2] for place, share in enumerate(shares)]
    if not all(abs(value) < COORDINATE_LIMIT for value in polygon):  # NaN is not below anything
        source.fault(file, where, "shares of width and height", line[:60])
        return []
    return source.keep(source.class_names[index] if named else str(index), [polygon])
