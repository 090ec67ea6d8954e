"""`centermask data make-shapes`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from centermask_keras.cli.options import JsonOption
from centermask_keras.cli.output import write_json


def data_make_shapes_command(
    out: Annotated[Path, typer.Option(help="Folder for the dataset.")],
    train: Annotated[int, typer.Option(help="Training images.", min=1)] = 2000,
    val: Annotated[int, typer.Option(help="Validation images.", min=1)] = 100,
    size: Annotated[int, typer.Option(help="Side of an image in pixels.", min=64)] = 128,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json_: JsonOption = None,
) -> None:
    """Generate a dataset of overlapping shapes: COCO json and images."""
    from centermask_keras.demo.shapes import make_shapes

    statistics = make_shapes(out, train=train, val=val, hw=(size, size), seed=seed)
    print(json.dumps(statistics, indent=2))
    write_json(json_, statistics)
