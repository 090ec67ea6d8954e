"""`centermask config`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from centermask_keras.cli.options import Overrides
from centermask_keras.config import Config, load_config, upgrade_file
from centermask_keras.errors import CenterMaskError


def config_command(
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of configurations.")] = False,
    show: Annotated[Path | None, typer.Option(help="Check a configuration and print it.")] = None,
    upgrade: Annotated[Path | None, typer.Option(help="Write a file of an earlier version anew, in its place.")] = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Print the schema of configurations or a checked configuration, or bring a file up to date."""
    if [schema, show is not None, upgrade is not None].count(True) != 1:
        raise CenterMaskError("expected one of --schema, --show FILE and --upgrade FILE")
    if set_ and show is None:
        raise CenterMaskError("--set: expected with --show FILE only")
    if schema:
        print(json.dumps(Config.model_json_schema(), indent=2))
    elif show is not None:
        print(load_config(show, set_).to_json(), end="")
    else:
        moved = upgrade_file(upgrade)
        print("\n".join([*moved, f"{upgrade}: written anew"]) if moved else f"{upgrade}: has today's form already")
