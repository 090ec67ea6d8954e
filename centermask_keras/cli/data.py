"""The commands on datasets: `centermask data check`, `data ceiling`, `data shard`, `data make-shapes`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from centermask_keras.cli.shared import (
    ConfigOption,
    JsonOption,
    Overrides,
    load_dataset,
    progress_bar,
    start_backend,
    write_json,
)
from centermask_keras.config import load_config
from centermask_keras.errors import CenterMaskError

data_app = typer.Typer(no_args_is_help=True, help="Datasets: check, ceiling, shard, make-shapes.")


@data_app.command("check")
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
    from centermask_keras.data.check import check_dataset

    with progress_bar("check") as advance:
        report = check_dataset(annotations, images, out=out, progress=advance, **settings)
    print(report)
    write_json(json_, json.loads((out / "report.json").read_text(encoding="utf-8")))
    if report.problems:
        sys.exit(1)


@data_app.command("ceiling")
def data_ceiling_command(
    config: ConfigOption,
    annotations: Annotated[Path | None, typer.Option(help="Annotations; default: its validation set.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of their images.")] = None,
    set_: Overrides = [],  # noqa: B006
    json_: JsonOption = None,
) -> None:
    """Measure the best mask AP that a configuration could reach on a dataset."""
    loaded = load_config(config, set_)
    dataset = load_dataset(loaded, str(config), annotations, images)
    start_backend()
    from centermask_keras.evaluation.ceiling import measure_ceiling

    with progress_bar("ceiling") as advance:
        figures = measure_ceiling(loaded, dataset, progress=advance)
    print(
        f"best possible mask AP with this configuration: {figures['both']:.3f}   "
        f"shape alone {figures['local_shape']:.3f}   saliency alone {figures['saliency']:.3f}"
    )
    write_json(
        json_,
        {"mask_ap": figures["both"], "shape_alone": figures["local_shape"], "saliency_alone": figures["saliency"]},
    )


@data_app.command("shard")
def data_shard_command(
    annotations: Annotated[Path, typer.Option(help="A json of COCO or LVIS.")],
    images: Annotated[Path, typer.Option(help="Folder of its images.")],
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    json_: JsonOption = None,
) -> None:
    """Write a dataset as a few large files, for network storage; samples are those of the image files."""
    start_backend()
    from centermask_keras.data.annotations import load_annotations
    from centermask_keras.data.shard_writer import write_shards
    from centermask_keras.data.shards import ANNOTATIONS_NAME

    dataset = load_annotations(annotations, images, require_annotations=False)
    with progress_bar("shard") as advance:
        written = write_shards(dataset, out, progress=advance)
    print(
        f"{written.images:,} images, {written.image_bytes / 1e6:,.1f} MB   shards: {written.shards:,}   "
        f"with annotations and index: {written.total_bytes / 1e6:,.1f} MB   {out}\n"
        f"in a configuration: annotations {out / ANNOTATIONS_NAME}, images {out}"
    )
    write_json(json_, written.to_dict())


@data_app.command("make-shapes")
def data_make_shapes_command(
    out: Annotated[Path, typer.Option(help="Folder for the dataset.")],
    train: Annotated[int, typer.Option(help="Training images.", min=1)] = 2000,
    val: Annotated[int, typer.Option(help="Validation images.", min=1)] = 100,
    size: Annotated[int, typer.Option(help="Side of an image in pixels.", min=64)] = 128,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json_: JsonOption = None,
) -> None:
    """Generate a dataset of overlapping shapes: COCO json and images."""
    from centermask_keras.data.shapes import make_shapes

    statistics = make_shapes(out, train=train, val=val, hw=(size, size), seed=seed)
    print(json.dumps(statistics, indent=2))
    write_json(json_, statistics)
