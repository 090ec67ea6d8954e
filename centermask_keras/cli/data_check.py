"""`centermask data check`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from centermask_keras.cli.options import JsonOption, Overrides
from centermask_keras.cli.output import check_json, progress_bar, write_json
from centermask_keras.config import load_config
from centermask_keras.errors import CenterMaskError, DataError


def data_check_command(
    config: Annotated[Path | None, typer.Option(help="Its validation set, input size and stride.")] = None,
    annotations: Annotated[Path | None, typer.Option(help="A COCO json.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of its images.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for report.json and pictures.")] = Path("check"),
    set_: Overrides = [],  # noqa: B006
    json_: JsonOption = None,
) -> None:
    """Decode every image and every mask of a dataset and list the problems."""
    if config is None and (annotations is None or images is None):
        raise CenterMaskError("expected --annotations FILE and --images DIR, or --config FILE")
    settings = {}
    if config is not None:
        loaded = load_config(config, set_)
        val = loaded.data.val
        annotations, images = annotations or Path(val.annotations), images or Path(val.images)
        settings = {"input_hw": loaded.data.input_hw, "stride": loaded.model.center_stride}
    check_json(json_, annotations, config)
    from centermask_keras.evaluation.data_check import check_dataset

    with progress_bar("check") as advance:
        report = check_dataset(annotations, images, out=out, progress=advance, **settings)
    if report.problems:
        from centermask_keras.convert.formats import explain_source

        if explained := explain_source(DataError(report.problems)):
            raise CenterMaskError(explained)
    print(report)
    write_json(json_, json.loads((out / "report.json").read_text(encoding="utf-8")))
    if report.problems:
        sys.exit(1)
