"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[Path, typer.Option("--config", help="A configuration: a file, or the name of a shipped one.")]
Overrides = Annotated[list[str], typer.Option("--set", help="Change a key: a.b=value. Repeatable.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the figures here.")]

Inputs = Annotated[list[str], typer.Argument(help="Images: files, folders, globs.")]
Out = Annotated[Path, typer.Option(help="Folder for pictures and predictions.json.")]
Score = Annotated[float, typer.Option(help="Leave out objects that score less.", min=0, max=1)]
Ids = Annotated[Path | None, typer.Option("--annotations", help="Write results.json too, with its image ids.")]
