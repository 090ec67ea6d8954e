"""`centermask train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from centermask_keras.cli.options import ConfigOption, JsonOption, Overrides
from centermask_keras.cli.output import console, write_json
from centermask_keras.config import load_config


def train_command(
    config: ConfigOption,
    run: Annotated[Path | None, typer.Option(help="Run folder; default runs/<configuration>.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Begin with a *.weights.h5 file, or with the best weights of a run folder.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew in a folder that holds a run.")] = False,
    processes: Annotated[
        int, typer.Option(min=0, help="Processes that make the batches, for hosts with many cores; 0: threads do.")
    ] = 0,
    set_: Overrides = [],  # noqa: B006 - the form that typer reads
    json_: JsonOption = None,
) -> None:
    """Train a model, or continue an interrupted run."""
    from centermask_keras.training.train import train

    result = train(
        load_config(config, set_),
        name=str(config),
        run_dir=run or Path("runs") / config.stem,
        weights=weights,
        overwrite=overwrite,
        processes=processes,
        console=console,
    )
    console.print(
        f"best mask AP {result.best_mask_ap:.3f} (epoch {result.best_epoch})   {result.run_dir}",
        highlight=False,
        soft_wrap=True,
    )
    write_json(json_, {"mask_ap": result.best_mask_ap, "epoch": result.best_epoch, "seconds": result.seconds})
