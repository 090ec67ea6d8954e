"""`centermask demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from centermask_keras.backend import start_backend
from centermask_keras.cli.options import JsonOption, Overrides
from centermask_keras.cli.output import console, write_json


def demo_command(
    run: Annotated[Path, typer.Option(help="Run folder; an earlier demo in it is replaced.")] = Path("runs/demo"),
    set_: Overrides = [],  # noqa: B006
    json_: JsonOption = None,
) -> None:
    """Generate shapes, train a small model, evaluate it and draw what it finds."""
    start_backend()
    from centermask_keras.demo.run import run_demo

    write_json(json_, run_demo(run_dir=run, overrides=tuple(set_), console=console))
