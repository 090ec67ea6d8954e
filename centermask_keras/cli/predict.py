"""`centermask predict`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from centermask_keras.backend import start_backend
from centermask_keras.cli.options import Ids, Inputs, Out, Overrides, Score
from centermask_keras.cli.output import print_left_out, progress_bar
from centermask_keras.inference.input_images import find_images
from centermask_keras.inference_config import SCORE_THRESHOLD
from centermask_keras.outputs import refuse_overwriting
from centermask_keras.shipped import find_model

if TYPE_CHECKING:
    from centermask_keras.inference.predictor import Predictor


def predict_command(
    inputs: Inputs,
    model: Annotated[
        Path, typer.Option("--model", "--run", help="Run folder, shipped model, SavedModel, .tflite, .onnx.")
    ],
    out: Out,
    score: Score = SCORE_THRESHOLD,
    annotations: Ids = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Find objects in images; writes a picture of each and predictions.json (COCO form, masks as RLE)."""
    paths, ids = open_inputs(inputs, out, annotations)
    from centermask_keras.inference.load import check_run_folder, find_runtime, load

    model = find_model(model)
    if find_runtime(model) == "keras":
        check_run_folder(model)
        start_backend()
    predict_and_print(load(model, set_), paths, out, score, ids)


def open_inputs(inputs: list[str], out: Path, annotations: Path | None) -> tuple[list[Path], dict[Path, int] | None]:
    """Find the images and, in a dataset, their ids; make the folder of the outputs. Nothing is written before.

    Raises:
        CenterMaskError: no image, an image that the dataset does not have, or an output that would replace an input.
    """
    from centermask_keras.inference.prediction_files import output_files, read_ids

    found = find_images(inputs)
    print_left_out(found.left_out)
    refuse_overwriting(output_files(out, found.paths), [*found.paths, *([annotations] if annotations else ())])
    ids = read_ids(annotations, found.paths) if annotations else None
    out.mkdir(parents=True, exist_ok=True)
    return found.paths, ids


def predict_and_print(
    predictor: Predictor, paths: list[Path], out: Path, score: float, ids: dict[Path, int] | None
) -> None:
    """Write what is found in images (see `predict_files`), print the counts; exit with 1 if files were unreadable."""
    from centermask_keras.inference.prediction_files import predict_files

    with progress_bar("predict") as advance:
        written = predict_files(predictor, paths, out, score_threshold=score, ids=ids, progress=advance)
    print(f"{written.objects:,} objects in {written.images:,} images in {written.seconds:.1f} s   {out}")
    for error in written.unreadable:
        print(f"error: {error}", file=sys.stderr)
    if written.unreadable:
        sys.exit(1)
