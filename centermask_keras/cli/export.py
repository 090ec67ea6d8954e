"""`centermask export`."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from centermask_keras.backend import start_backend
from centermask_keras.cli.options import Overrides
from centermask_keras.cli.output import print_left_out
from centermask_keras.config import load_config
from centermask_keras.export.formats import FORMATS, THREADS
from centermask_keras.inference.input_images import find_images, own_images
from centermask_keras.shipped import find_model

Format = StrEnum("Format", {name: name for name in (*FORMATS, "all")})


def export_command(
    run: Annotated[Path, typer.Option("--run", "--model", help="Run folder or name of a shipped model.")],
    to: Annotated[Path, typer.Option(help="Folder for the files, which take its name.")],
    format_: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.all,
    images: Annotated[Path | None, typer.Option(help="Real images to calibrate and to check with.")] = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Write a model as SavedModel, TFLite or ONNX and prove each file against Keras."""
    from centermask_keras.inference.load import check_run_folder

    run = find_model(run)
    check_run_folder(run)
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(THREADS))  # read as TensorFlow starts
    start_backend()
    from centermask_keras.export.export import export_run, spread
    from centermask_keras.export.record import table_header, table_row

    loaded = load_config(run / "config.json", set_)
    if images is None:
        paths = own_images(run, loaded)
    else:
        found = find_images([str(images)])
        print_left_out(found.left_out)
        paths = found.paths
    formats = list(FORMATS) if format_ is Format.all else [format_.value]
    print(table_header())
    done = export_run(run, to, formats, paths, overrides=set_, progress=lambda row: print(table_row(row), flush=True))
    if "saved_model" in formats:
        from centermask_keras.export.saved_model import VERSION
        from centermask_keras.extra.serving.kit import WARM_UP_IMAGES, write_kit

        kit = write_kit(to, to / VERSION, spread(paths, WARM_UP_IMAGES))
        print(f"for TensorFlow Serving   {', '.join(str(path) for path in kit)}")
    if unmeasured := [row.path.name for row in done if row.parity is None]:
        print(
            "warning: the model finds nothing in the sample images, so that it was NOT MEASURED how far from Keras "
            f"these are: {', '.join(unmeasured)}. Train longer, or pass --images DIR with objects that it knows"
        )
    print(f"{'the others' if unmeasured else 'all'} within tolerance   {to / 'export.json'}")
