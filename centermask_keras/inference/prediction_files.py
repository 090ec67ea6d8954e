"""What a prediction of many images writes: a picture of each, predictions.json, and results.json for a scorer.

Stage: after the predictor, whatever runs the inference graph.
"""

from __future__ import annotations

import json
import os
import posixpath
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from centermask_keras.data.files.coco_columns import read_image_ids
from centermask_keras.errors import CenterMaskError, ImageError, one_line
from centermask_keras.inference.predictor import Predictor
from centermask_keras.outputs import save_picture

PREDICTIONS, RESULTS = "predictions.json", "results.json"


@dataclass(frozen=True)
class Written:
    """What a prediction came to.

    Attributes:
        images: images that were read.
        objects: objects found in them.
        seconds: time it took.
        unreadable: an error for each file that could not be read.
    """

    images: int
    objects: int
    seconds: float
    unreadable: list[ImageError]


def predict_files(
    predictor: Predictor,
    paths: list[Path],
    out: Path,
    *,
    score_threshold: float,
    ids: dict[Path, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Written:
    """Find the objects of image files; write a picture of each image and predictions.json into a folder.

    Args:
        predictor: what finds the objects.
        paths: the images.
        out: the folder, which exists.
        score_threshold: objects that score less are left out.
        ids: ids of the images in a dataset; with them COCO results of all images (results.json) are written as well.
        progress: called with the images done and the images in all.
    """
    pictures = picture_names(paths)
    rows: list[dict[str, Any]] = []
    unreadable: list[ImageError] = []
    begin = time.perf_counter()
    try:
        outcomes = predictor.predict_each(paths, score_threshold=score_threshold)
        for number, (path, outcome) in enumerate(zip(paths, outcomes, strict=True)):
            if isinstance(outcome, ImageError):
                unreadable.append(outcome)
            else:
                save_picture(outcome.draw(), out / pictures[path])
                image_id = ids[path] if ids else number
                rows.append({"file_name": str(path), "objects": outcome.to_coco(image_id)})
            if progress:
                progress(number + 1, len(paths))
    finally:  # what was found until then is not lost with the server
        _write_predictions(out, predictor, rows, as_results=ids is not None)
    found = sum(len(row["objects"]) for row in rows)
    return Written(len(rows), found, time.perf_counter() - begin, unreadable)


def output_files(out: Path, paths: list[Path]) -> list[Path]:
    """List the files that a prediction of images may write into a folder."""
    return [out / name for name in (*picture_names(paths).values(), PREDICTIONS, RESULTS)]


def read_ids(annotations: Path, paths: list[Path]) -> dict[Path, int]:
    """Find the images in an annotation file: by file name, or by the end of the path where names have folders.

    A name counts as it is written, links are not followed; names that differ only by their Unicode form, or by the
    slashes of Windows, are found where none is the same.

    Raises:
        CenterMaskError: an image that is not in it, or several times.
    """
    names = read_image_ids(annotations)
    found = {}
    rows = [(spell, _by_file_name(names, spell)) for spell in (_as_written, _as_meant)]
    for path in paths:
        matches: list[int] = []
        for spell, ids in rows:
            place = spell(os.path.abspath(path))
            matches = matches or [
                image_id
                for name, image_id in ids.get(posixpath.basename(place), ())
                if place == name or place.endswith(f"/{name}")
            ]
        if len(matches) != 1:
            name = one_line(str(path))
            raise CenterMaskError(f"{name}: expected one image of {annotations}, received {len(matches)} of this name")
        found[path] = matches[0]
    return found


def _by_file_name(names: list[tuple[str, int]], spell: Callable[[str], str]) -> dict[str, list[tuple[str, int]]]:
    """Return the names, respelled, and ids of images by the last parts of their names."""
    rows: dict[str, list[tuple[str, int]]] = {}
    for name, image_id in names:
        respelled = spell(name)
        rows.setdefault(posixpath.basename(respelled), []).append((respelled, image_id))
    return rows


def _as_written(name: str) -> str:
    """Tidy a name relative to a folder that is not known."""
    name = posixpath.normpath(name)
    while name.startswith("../"):
        name = name[3:]
    return name


def _as_meant(name: str) -> str:
    """Spell a name without the differences between systems."""
    return _as_written(unicodedata.normalize("NFC", name.replace("\\", "/")))


def picture_names(paths: list[Path]) -> dict[Path, str]:
    """Name a picture after each image; images of one name get a number as well."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in paths:
        name, number = f"{path.stem}.png", 2
        while name in taken:
            name, number = f"{path.stem}_{number}.png", number + 1
        taken.add(name)
        names[path] = name
    return names


def _write_predictions(out: Path, predictor: Predictor, rows: list[dict[str, Any]], *, as_results: bool) -> None:
    """Write `PREDICTIONS`, and `RESULTS` if the rows hold the ids of a dataset."""
    categories = [{"id": category.id, "name": category.name} for category in predictor.categories]
    (out / PREDICTIONS).write_text(json.dumps({"categories": categories, "images": rows}) + "\n")
    if as_results:
        (out / RESULTS).write_text(json.dumps([found for row in rows for found in row["objects"]]) + "\n")
