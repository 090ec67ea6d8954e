"""Commands that find objects in images: with a model at hand, or with one behind a model server."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from centermask_keras.cli.shared import Overrides, find_images, progress_bar, start_backend
from centermask_keras.errors import CenterMaskError, ImageError

if TYPE_CHECKING:
    from centermask_keras.predictor import Predictor

Inputs = Annotated[list[str], typer.Argument(help="Images: files, folders, globs.")]
Out = Annotated[Path, typer.Option(help="Folder for pictures and predictions.json.")]
Score = Annotated[float, typer.Option(help="Leave out objects that score less.", min=0, max=1)]
Ids = Annotated[Path | None, typer.Option("--annotations", help="Write results.json too, with its image ids.")]


def predict_command(
    inputs: Inputs,
    model: Annotated[Path, typer.Option("--model", "--run", help="Run folder, SavedModel folder, .tflite or .onnx.")],
    out: Out,
    score: Score = 0.3,
    annotations: Ids = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Find objects in images; writes a picture of each and predictions.json (COCO form, masks as RLE)."""
    paths = find_images(inputs)
    out.mkdir(parents=True, exist_ok=True)
    from centermask_keras.inference import check_run_folder, find_runtime, load

    if find_runtime(model) == "keras":
        check_run_folder(model)
        start_backend()
    ids = read_ids(annotations, paths) if annotations else None
    find_and_write(load(model, set_), paths, out, score, ids)


def client_command(
    inputs: Inputs,
    url: Annotated[str, typer.Option(help="http://HOST:8501/v1/models/NAME or grpc://HOST:8500/NAME.")],
    out: Out,
    score: Score = 0.3,
    annotations: Ids = None,
    batch_size: Annotated[int, typer.Option(help="Images in one request.", min=1)] = 1,
    deadline: Annotated[float, typer.Option(help="Seconds to wait for an answer.", min=0.001)] = 60.0,
) -> None:
    """Find objects in images through a model server; writes what `predict` writes."""
    paths = find_images(inputs)
    out.mkdir(parents=True, exist_ok=True)
    from centermask_keras.serving.client import ServedPredictor, connect

    ids = read_ids(annotations, paths) if annotations else None
    find_and_write(ServedPredictor(connect(url, deadline=deadline), batch_size=batch_size), paths, out, score, ids)


def find_and_write(
    predictor: Predictor, paths: list[Path], out: Path, score: float, ids: dict[Path, int] | None = None
) -> None:
    """Write a picture of each image and predictions.json into a folder; exit with 1 if files could not be read.

    With the ids of the images in a dataset, COCO results of all of them (results.json) as well.
    """
    pictures = picture_names(paths)
    rows: list[dict[str, Any]] = []
    unreadable: list[ImageError] = []
    begin = time.perf_counter()
    try:
        with progress_bar("predict") as advance:
            outcomes = predictor.predict_each(paths, score_threshold=score)
            for number, (path, outcome) in enumerate(zip(paths, outcomes, strict=True)):
                if isinstance(outcome, ImageError):
                    unreadable.append(outcome)
                else:
                    outcome.draw().save(out / pictures[path])
                    image_id = ids[path] if ids else number
                    rows.append({"file_name": str(path), "objects": outcome.to_coco(image_id)})
                advance(number + 1, len(paths))
    finally:  # what was found until then is not lost with the server
        write_predictions(out, predictor, rows, as_results=ids is not None)
    found = sum(len(row["objects"]) for row in rows)
    print(f"{found:,} objects in {len(rows):,} images in {time.perf_counter() - begin:.1f} s   {out}")
    for error in unreadable:
        print(f"error: {error}", file=sys.stderr)
    if unreadable:
        sys.exit(1)


def write_predictions(out: Path, predictor: Predictor, rows: list[dict[str, Any]], *, as_results: bool) -> None:
    """Write predictions.json, and results.json if the rows hold the ids of a dataset."""
    categories = [{"id": category.id, "name": category.name} for category in predictor.categories]
    (out / "predictions.json").write_text(json.dumps({"categories": categories, "images": rows}) + "\n")
    if as_results:
        (out / "results.json").write_text(json.dumps([found for row in rows for found in row["objects"]]) + "\n")


def read_ids(annotations: Path, paths: list[Path]) -> dict[Path, int]:
    """Find the images in an annotation file: by file name, or by the end of the path where names have folders.

    Raises:
        CenterMaskError: an image that is not in it, or several times.
    """
    from centermask_keras.data.coco_columns import read_image_ids

    rows: dict[str, list[tuple[str, int]]] = {}
    for name, image_id in read_image_ids(annotations):
        rows.setdefault(PurePosixPath(name).name, []).append((name, image_id))
    found = {}
    for path in paths:
        place = path.resolve().as_posix()
        matches = [image_id for name, image_id in rows.get(path.name, ()) if place.endswith(f"/{name}")]
        if len(matches) != 1:
            raise CenterMaskError(f"{path}: expected one image of {annotations}, received {len(matches)} of this name")
        found[path] = matches[0]
    return found


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
