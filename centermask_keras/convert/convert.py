"""Sources of any format -> one set of COCO json with its images. The whole folder appears at once, or not at all."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from centermask_keras.convert.formats import FORMATS, recognise
from centermask_keras.convert.source import BOXES, PARTS, Source, SourceImage
from centermask_keras.convert.write_coco import write_document
from centermask_keras.errors import CenterMaskError, DataError, Problem
from centermask_keras.files import PARTIAL

IMAGES = "images"
WHOLE = "annotations"


@dataclass
class Converted:
    """What `convert` wrote.

    Attributes:
        out: the folder.
        files: json file -> (images, objects).
        classes: class -> objects, in the order of the category ids.
        left_out: classes without objects, or not chosen.
        lost: for each source what could not be kept -> how often.
        crowds: objects that are marked as crowd regions.
        partial: whether images know only some of the classes.
        linked: images that are hard links; the others are copies.
        notes: sentences for the user, and the format of each source.
    """

    out: Path
    files: dict[str, tuple[int, int]] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    lost: dict[str, dict[str, int]] = field(default_factory=dict)
    crowds: int = 0
    partial: bool = False
    linked: int = 0
    notes: list[str] = field(default_factory=list)


def convert(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    copy: bool = False,
    merge: bool = False,
    classes: dict[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Converted:
    """Write files of other tools as COCO json, with their images in a folder beside it.

    Args:
        sources: files or folders; see `FORMATS`.
        out: folder to make; it holds `images` and `annotations.json`, or `train.json`, `val.json`, `test.json`.
        copy: copies of the images, instead of hard links where the disk allows them.
        merge: one file, whatever the parts of the sources.
        classes: class of the sources -> its name in the set; others are left out. None: all as they are.
        progress: called with (images done, images in all).

    Raises:
        DataError: with all faults of a source: file, place, expected, received.
        CenterMaskError: a source has boxes only; the folder is not empty, or lies in a source; no source has a class.
    """
    paths, out = [Path(source) for source in sources], Path(out)
    _check_out(paths, out)
    read = [_read(path) for path in paths]
    result = Converted(out)
    result.lost = {str(source.path): {key: count for key, count in source.lost.items() if count} for source in read}
    result.notes = [note for source in read for note in source.notes]
    read = [_choose(source, classes, read, result) for source in read]
    images = _merge(read, result)
    in_parts = not merge and any(image.part for image in images)
    files: dict[str, list[SourceImage]] = {}
    for image in images:
        files.setdefault((image.part or "train") if in_parts else WHOLE, []).append(image)
    if in_parts and not all(image.part for image in images):
        result.notes.append("images of a source without parts are in train.json")
    files = {name: files[name] for name in (WHOLE, *dict.fromkeys(PARTS.values())) if name in files}
    _write(files, result, copy, progress)
    return result


def parse_classes(text: str) -> dict[str, str]:
    """Return class -> new name of `a,b=a`: a stays, b becomes a, others are left out.

    Raises:
        CenterMaskError: an empty name, or a class that stands there twice.
    """
    chosen: dict[str, str] = {}
    for entry in text.split(","):
        name, equals, new = (part.strip() for part in entry.partition("="))
        if not name or (equals and not new) or name in chosen:
            raise CenterMaskError(f"--classes: expected names as in a,b=a, each once, received {text!r}")
        chosen[name] = new or name
    return chosen


def _check_out(paths: list[Path], out: Path) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise CenterMaskError(f"{out}: expected a new or an empty folder, received one with files. Name another --out")
    for path in paths:
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise CenterMaskError(f"{out}: expected a folder outside of {path}, whose images would be read again")


def _read(path: Path) -> Source:
    if not path.exists():
        raise DataError([Problem(str(path), "", "a file or folder of annotations", "no such file or folder")])
    name = recognise(path)
    if name is None:
        known = ", ".join(entry.title for entry in FORMATS.values())
        raise DataError([Problem(str(path), "", f"one of {known}", "something else")])
    source = FORMATS[name].read(path)
    if source.problems:
        raise DataError(source.problems)
    title, objects = FORMATS[name].title, sum(len(image.objects) for image in source.images)
    if not objects and source.lost[BOXES]:
        raise CenterMaskError(
            f"{path}: expected outlines or masks, received {source.lost[BOXES]:,} boxes only ({title}): they do not "
            "say which pixels an object covers. Draw or export outlines"
        )
    if not source.images:
        raise DataError([Problem(str(path), "", f"images ({title})", "none")])
    source.notes.insert(0, f"{path}: {title}, {len(source.images):,} images, {objects:,} objects")
    return source


def _choose(source: Source, classes: dict[str, str] | None, all_sources: list[Source], result: Converted) -> Source:
    """Return the source with the classes that are wanted, under their new names."""
    if classes is None:
        return source
    every = [name for one in all_sources for name in _classes_of(one)]
    if unknown := [name for name in classes if name not in every]:
        known = ", ".join(dict.fromkeys(every))
        raise CenterMaskError(f"--classes: expected classes of the sources ({known}), received {', '.join(unknown)}")
    result.left_out += [name for name in _classes_of(source) if name not in classes and name not in result.left_out]
    own = set(_classes_of(source))

    def known_as(known: frozenset[str]) -> frozenset[str]:
        """A merged class is known where all are that it is made of, as far as the source has them."""
        unknown = {new for name, new in classes.items() if name in own and name not in known}
        return frozenset(classes[name] for name in known if name in classes) - unknown

    images = []
    for image in source.images:
        kept = [item._replace(name=classes[item.name]) for item in image.objects if item.name in classes]
        known = None if image.known is None else known_as(image.known)
        images.append(replace(image, objects=kept, known=known))
    names = list(dict.fromkeys(classes[name] for name in _classes_of(source) if name in classes))
    return replace(source, images=images, class_names=names)


def _classes_of(source: Source) -> list[str]:
    """Return the classes of a source: those it lists, then others of its objects by name, whatever comes first."""
    found = {item.name for image in source.images for item in image.objects}
    return list(dict.fromkeys([*source.class_names, *sorted(found)]))


def _merge(sources: list[Source], result: Converted) -> list[SourceImage]:
    """Return all images under names of their own, and what is known of each if that is not all classes.

    A class has to have objects in a source to count as labelled there: lists of classes go from project to project. A
    source without any objects is one of backgrounds: all the classes that it lists are absent.
    """
    counts = Counter(item.name for source in sources for image in source.images for item in image.objects)
    listed = list(dict.fromkeys(name for source in sources for name in _classes_of(source)))
    result.classes = {name: counts[name] for name in listed if counts[name]}
    result.left_out += [name for name in listed if not counts[name] and name not in result.left_out]
    if not result.classes:
        raise CenterMaskError(f"{', '.join(str(source.path) for source in sources)}: expected objects, received none")
    every, images, taken = frozenset(result.classes), [], set()
    for number, source in enumerate(sources, 1):
        folder = os.path.commonpath([image.path.parent for image in source.images])
        with_objects = {item.name for image in source.images for item in image.objects}
        labelled = frozenset(with_objects or source.class_names or every) & every
        for image in source.images:
            known = labelled if image.known is None else image.known & every
            name = image.path.relative_to(folder).as_posix()
            name = name if name not in taken else f"{number}/{name}"
            taken.add(name)
            images.append(replace(image, name=name, known=known))
    result.partial = any(image.known != every for image in images)
    return images if result.partial else [replace(image, known=None) for image in images]


def _write(
    files: dict[str, list[SourceImage]], result: Converted, copy: bool, progress: Callable[[int, int], None] | None
) -> None:
    out = result.out.resolve()
    partial = out.with_name(PARTIAL.format(name=out.name))
    total, done = sum(map(len, files.values())), 0
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, images in files.items():
            for image in images:
                result.linked += place_image(image.path, partial / IMAGES / image.name, copy=copy)
                done += 1
                if progress is not None:
                    progress(done, total)
            objects, crowds = write_document(partial / f"{name}.json", images, list(result.classes))
            result.files[f"{name}.json"] = (len(images), objects)
            result.crowds += crowds
        with suppress(OSError):
            out.rmdir()
        os.replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def place_image(path: Path, target: Path, *, copy: bool) -> bool:
    """Put an image at another place: a hard link to the file itself, or a copy; say whether it is a link."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not copy:
        with suppress(OSError):  # another disk, or one without links
            os.link(os.path.realpath(path), target)
            return True
    shutil.copyfile(path, target)
    return False
