"""`centermask import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from centermask_keras.backend import start_backend
from centermask_keras.cli.options import ConfigOption, Overrides
from centermask_keras.config import load_config
from centermask_keras.importers.kinds import KINDS

CheckpointKind = Literal[tuple(KINDS)]


def import_command(
    file: Annotated[Path, typer.Argument(help="A PyTorch checkpoint (*.pth).")],
    kind: Annotated[CheckpointKind, typer.Option("--from", help="What the checkpoint is of.")],
    config: ConfigOption,
    run: Annotated[Path, typer.Option(help="Run folder to make.")],
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Make a run folder of published PyTorch weights; names every tensor. Needs PyTorch (pip install torch)."""
    loaded = load_config(config, set_)
    start_backend()
    from centermask_keras.importers.run import format_report, import_weights

    report = import_weights(file, kind=kind, config=loaded, name=str(config), run_dir=run)
    print(f"{format_report(report)}   {run}")
