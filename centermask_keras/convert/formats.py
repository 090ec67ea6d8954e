"""The table of formats, and what a path is: the one place that recognises files of other tools."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from centermask_keras.convert import (
    coco,
    cvat,
    id_maps,
    label_studio,
    labelme,
    object_masks,
    via,
    voc,
    yolo,
)
from centermask_keras.convert.source import Source
from centermask_keras.errors import CenterMaskError, DataError


class Format(NamedTuple):
    """A format: what messages call it, whether a path is of it, and how it is read."""

    title: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path], Source]


FORMATS = {
    "coco": Format("COCO json", coco.recognises, coco.read),
    "labelme": Format("labelme", labelme.recognises, labelme.read),
    "via": Format("VIA json", via.recognises, via.read),
    "label_studio": Format("Label Studio json", label_studio.recognises, label_studio.read),
    "cvat": Format("CVAT xml", cvat.recognises, cvat.read),
    "voc": Format("Pascal VOC segmentation", voc.recognises, voc.read),
    "yolo": Format("YOLO segmentation", yolo.recognises, yolo.read),
    "object_masks": Format("one mask PNG per object", object_masks.recognises, object_masks.read),
    "id_maps": Format("instance-id PNGs", id_maps.recognises, id_maps.read),
}
"""In the order in which they are tried: the plainer the signs of a format, the earlier."""

MOST_FILES = 4
"""So many files with faults are looked at: those of a training and a validation set come first."""


def recognise(path: Path) -> str | None:
    """Return the name of a path's format in `FORMATS`; None if it is none of them, or not there."""
    if not path.exists():
        return None
    return next((name for name, entry in FORMATS.items() if entry.recognises(path)), None)


def explain_source(error: CenterMaskError) -> str | None:
    """Say what was given instead of a COCO json, and which command makes one of it.

    Args:
        error: what a command failed with.

    Returns:
        One line; None if the error is about something else.
    """
    files = dict.fromkeys(problem.file for problem in error.problems) if isinstance(error, DataError) else {}
    with suppress(OSError):  # a folder that cannot be read: the error says so itself
        for path in map(Path, list(files)[:MOST_FILES]):
            name = recognise(path)
            if name and not (name == "coco" and path.is_file()):  # a COCO json at fault has its own list of problems
                return _describe(path, name)
    return None


def _describe(path: Path, name: str) -> str:
    shown = f"'{path}'" if " " in str(path) else str(path)
    what = f"a folder of {FORMATS[name].title}" if path.is_dir() else FORMATS[name].title
    return f"{path}: expected a COCO json, received {what}. Type: centermask data convert {shown} --out DIR"
