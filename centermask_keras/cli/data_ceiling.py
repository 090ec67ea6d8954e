"""`centermask data ceiling`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from centermask_keras.backend import start_backend
from centermask_keras.cli.options import ConfigOption, JsonOption, Overrides
from centermask_keras.cli.output import progress_bar, write_json
from centermask_keras.config import load_config


def data_ceiling_command(
    config: ConfigOption,
    annotations: Annotated[Path | None, typer.Option(help="Annotations; default: its validation set.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of their images.")] = None,
    set_: Overrides = [],  # noqa: B006
    json_: JsonOption = None,
) -> None:
    """Measure the best mask AP that a configuration could reach on a dataset."""
    from centermask_keras.evaluation.validation_set import load_validation_set

    loaded = load_config(config, set_)
    dataset = load_validation_set(loaded, str(config), annotations, images)
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
