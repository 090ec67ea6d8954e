"""`centermask benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from centermask_keras.backend import start_backend
from centermask_keras.cli.options import JsonOption, Overrides
from centermask_keras.cli.output import write_json
from centermask_keras.config import load_config
from centermask_keras.errors import CenterMaskError
from centermask_keras.inference.input_images import find_images, own_images
from centermask_keras.shipped import find_config, find_model


def benchmark_command(
    run: Annotated[Path | None, typer.Option("--run", "--model", help="Run folder or name of a shipped model.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="A configuration, with random weights.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of images; default: those of its validation set.")] = None,
    batch_size: Annotated[int, typer.Option(help="The larger of the two batches; the other one is 1.", min=1)] = 8,
    repeats: Annotated[int, typer.Option(help="Timings of each stage; the median counts.", min=1)] = 7,
    set_: Overrides = [],  # noqa: B006
    json_: JsonOption = None,
) -> None:
    """Time the stages of prediction: read, network, decode, masks, paste; in float32 and bfloat16."""
    if (run is None) == (config is None):
        raise CenterMaskError("expected either --run DIR or --config FILE")
    start_backend()
    from centermask_keras.devices import describe_device
    from centermask_keras.evaluation.benchmark import benchmark_precisions, stage_table
    from centermask_keras.inference.load import check_run_folder

    model = find_config(config) if run is None else find_model(run)
    if run is not None:
        check_run_folder(model)
    source = model if run is None else model / "config.json"
    loaded = load_config(source, set_)
    paths = find_images([str(images)]).paths if images else own_images(source.parent, loaded)
    device = describe_device()
    print("   ".join(f"{name} {value}" for name, value in device.items()))
    rows = benchmark_precisions(model, paths, overrides=set_, batch_size=batch_size, repeats=repeats)
    height, width = loaded.data.input_hw
    print(f"input {height} x {width}, {loaded.model.max_detections} detections per image, all of them pasted")
    print(stage_table(rows))
    write_json(json_, {**device, "milliseconds_per_image": rows})
