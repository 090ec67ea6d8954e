"""`centermask config`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from centermask_keras.cli.options import Overrides
from centermask_keras.config import Config, load_config
from centermask_keras.errors import CenterMaskError


def config_command(
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of configurations.")] = False,
    show: Annotated[Path | None, typer.Option(help="Check a configuration and print it.")] = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Print the schema of configurations, or a checked configuration."""
    if schema == (show is not None):
        raise CenterMaskError("expected either --schema or --show FILE")
    print(json.dumps(Config.model_json_schema(), indent=2) if schema else load_config(show, set_).to_json(), end="")
    if schema:
        print()
