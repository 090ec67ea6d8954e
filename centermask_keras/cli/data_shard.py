"""`centermask data shard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from centermask_keras.backend import start_backend
from centermask_keras.cli.options import JsonOption
from centermask_keras.cli.output import check_json, progress_bar, write_json


def data_shard_command(
    annotations: Annotated[Path, typer.Option(help="A json of COCO or LVIS.")],
    images: Annotated[Path, typer.Option(help="Folder of its images.")],
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    json_: JsonOption = None,
) -> None:
    """Write a dataset as a few large files, for network storage; samples are those of the image files."""
    check_json(json_, annotations)
    start_backend()
    from centermask_keras.data.files.annotations import load_annotations
    from centermask_keras.data.files.shard_writer import write_shards
    from centermask_keras.data.files.shards import ANNOTATIONS_NAME

    dataset = load_annotations(annotations, images, require_annotations=False)
    with progress_bar("shard") as advance:
        written = write_shards(dataset, out, progress=advance)
    print(
        f"{written.images:,} images, {written.image_bytes / 1e6:,.1f} MB   shards: {written.shards:,}   "
        f"with annotations and index: {written.total_bytes / 1e6:,.1f} MB   {out}\n"
        f"in a configuration: annotations {out / ANNOTATIONS_NAME}, images {out}"
    )
    write_json(json_, written.to_dict())
