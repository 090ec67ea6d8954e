"""`centermask data split`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from centermask_keras.cli.options import JsonOption
from centermask_keras.cli.output import progress_bar, write_json


def data_split_command(
    annotations: Annotated[Path, typer.Option(help="A json of COCO or LVIS.")],
    out: Annotated[Path, typer.Option(help="Folder for train.json, val.json and test.json.")],
    val: Annotated[float, typer.Option(help="Share for validation.", min=0, max=1)],
    test: Annotated[float, typer.Option(help="Share for a test set.", min=0, max=1)] = 0.0,
    images: Annotated[Path | None, typer.Option(help="Folder of its images: near-duplicates stay together.")] = None,
    group: Annotated[
        str | None, typer.Option(help="Regular expression: names that agree in its first group stay together.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json_: JsonOption = None,
) -> None:
    """Split a dataset into train, val and test, balanced by class and size; images of one group stay together."""
    from centermask_keras.data.files.split import split_dataset

    with progress_bar("read") as advance:
        split = split_dataset(
            annotations, out, val=val, test=test, images=images, group=group, seed=seed, progress=advance
        )
    print(split)
    if images is None:
        print("near-duplicates by content were not looked for; --images FOLDER does that")
    print(f"written: {', '.join(str(out / f'{part}.json') for part in split.names)}")
    write_json(json_, asdict(split))
