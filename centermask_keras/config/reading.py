"""Configurations from files: complete ones, those that name a base and its changes, and those that a program wrote."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from centermask_keras.config.complete import Config
from centermask_keras.config.explain import ANNOTATION_KEYS, describe_document, explain
from centermask_keras.config.formats import find_late, find_moved, moved_to, upgrade
from centermask_keras.errors import ConfigError, shorten
from centermask_keras.files import write_file
from centermask_keras.shipped import configs, find_config

RUN_CONFIG, RUN_RECORD = "config.json", "run.json"
"""Files of a run folder: the configuration beside the record is a program's."""
FREE_SECTION = ["model", "loss_weights"]
"""The section that does not have to name all of its keys: changes may name more of them."""


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a configuration file and apply overrides.

    Args:
        path: a JSON file with every key of `Config`; or with the keys `base` (a complete file, by its path from this
            one or by a shipped name) and `changes` (from `"a.b"` to the value there); or the `config.json` of a run
            folder of this or any earlier version. Or the name of a shipped configuration (`dla34`).
        overrides: `"a.b=v"` strings; `v` is read as JSON and, if it is none, taken as text.

    Raises:
        ConfigError: `FILE: json.path: expected ..., received ...`, one line per mistake.
    """
    found = find_config(path)
    return _build(_read_values(found), str(path), overrides)


def load_stored_config(path: str | Path) -> Config:
    """Read the configuration that a program wrote in a run folder (see `load_config`)."""
    return _build(upgrade(_read_document(Path(path)), str(path)), str(path))


def parse_config(text: str, *, source: str, overrides: Iterable[str] = ()) -> Config:
    """Build a `Config` from JSON text; `source` names it in errors (see `load_config`). It cannot name a base."""
    values = _parse(text, source)
    return _build(upgrade(values, source) if "format" in values else _of_a_person(values, source), source, overrides)


def upgrade_file(path: str | Path) -> list[str]:
    """Write the configuration of a person, of an earlier form, anew.

    Returns:
        What has moved and what was added, a line per key; empty if the file is of today's form and stays.

    Raises:
        ConfigError: the file is no configuration, not complete in its own form, a program's (which is brought up to
            date whenever it is read), or has a key in its earlier and in its new place.
    """
    path = Path(path)
    values = _read_document(path)
    if _is_of_program(values, path):
        raise ConfigError(
            f"{path}: expected a file that somebody wrote, received a program's, which every command reads"
        )
    moved = find_moved(values)
    if "base" in values or not moved:
        load_config(path)
        return []
    if "loss_weights" in values and "loss_weights" in (values.get("model") or {}):
        raise ConfigError(f"{path}: expected one of loss_weights and model.loss_weights, received both. Delete one")
    text = _build(upgrade(values, str(path)), str(path)).to_json()
    write_file(path.parent, path.name, lambda partial: partial.write_text(text, encoding="utf-8"))
    added = [
        f"{key}: added, as {shorten(value)} does what was done without it" for key, value in find_late(values).items()
    ]
    return [*moved, *added]


def _read_values(path: Path) -> dict[str, Any]:
    """Return the values of today's form that a file stands for."""
    values = _read_document(path)
    if _is_of_program(values, path):
        return upgrade(values, str(path))
    return _resolve_base(values, path) if "base" in values else _of_a_person(values, str(path))


def _is_of_program(values: dict[str, Any], path: Path) -> bool:
    return "format" in values or (path.name == RUN_CONFIG and (path.parent / RUN_RECORD).is_file())


def _of_a_person(values: dict[str, Any], source: str) -> dict[str, Any]:
    """Return the values of a file that somebody wrote, if none of its keys has moved."""
    if moved := find_moved(values):
        lines = [f"{source}: {line}" for line in moved]
        raise ConfigError("\n".join([*lines, f"`centermask config --upgrade {source}` writes the file anew"]))
    return values


def _resolve_base(values: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the values of a base with the changes that the file at a path names."""
    base, changes = values["base"], values.get("changes")
    if set(values) != {"base", "changes"} or not isinstance(base, str) or not isinstance(changes, dict):
        raise ConfigError(
            f'{path}: expected {{"base": FILE, "changes": {{"a.b": value}}}} and no other key, received the keys '
            f"{shorten(', '.join(values))}"
        )
    base_path = _find_base(base, path)
    document = _read_document(base_path)
    if "base" in document:
        raise ConfigError(f"{path}: base: expected a complete file, received {shorten(base)}, which has a base itself")
    complete = _read_values(base_path)
    for key, value in changes.items():
        _set(complete, key, value, where=f"{path}: changes", source=str(base_path))
    return complete


def _find_base(base: str, path: Path) -> Path:
    """Return the file of a base: by its path from the file that names it, or a shipped one by its name."""
    beside, named = path.parent / base, configs()
    if os.path.isfile(beside):  # False as well where the name is too long to be a file's
        return beside
    if base not in named:
        raise ConfigError(
            f"{path}: base: expected a file by its path from this one, or the name of a shipped configuration, "
            f"received {shorten(base)}. Names of shipped configurations: {', '.join(named)}"
        )
    return named[base]


def _read_document(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{path}: expected a readable JSON configuration, received: {reason}") from None
    return _parse(text, str(path))


def _parse(text: str, source: str) -> dict[str, Any]:
    """Read JSON text that is a configuration, or names one and its changes."""
    try:
        document = json.loads(text, object_pairs_hook=lambda pairs: _unique(pairs, source))
    except RecursionError:
        raise ConfigError(f"{source}: expected JSON, received one that is nested too deeply") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise ConfigError(f"{source}: {where}: expected JSON, received: {error.msg}") from None
    except ValueError as error:  # an integer of more digits than Python reads
        raise ConfigError(f"{source}: expected JSON, received: {shorten(str(error))}") from None
    if (
        not isinstance(document, dict)
        or ANNOTATION_KEYS <= document.keys()
        or not document.keys() & {"base", *Config.model_fields}
    ):
        raise ConfigError(
            f"{source}: expected a configuration (an object with {', '.join(Config.model_fields)}), received "
            f"{describe_document(document)}"
        )
    return document


def _build(values: dict[str, Any], source: str, overrides: Iterable[str] = ()) -> Config:
    for override in overrides:
        _override(values, override, source)
    if moved := find_moved(values):  # inside of a section that changes or overrides gave as a whole
        raise ConfigError("\n".join(f"{source}: {line}" for line in moved))
    try:
        # Through JSON again: strict mode then takes a list for a tuple, and still no text for a number.
        return Config.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise ConfigError(explain(source, error.errors())) from None


def _unique(pairs: list[tuple[str, Any]], source: str) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        key = next(key for key in keys if keys.count(key) > 1)
        raise ConfigError(f"{source}: {shorten(key)}: expected each key once, received it {keys.count(key)} times")
    return dict(pairs)


def _override(values: dict[str, Any], override: str, source: str) -> None:
    path, equals, text = override.partition("=")
    where = f"--set {shorten(override)}"
    if not equals or not path:
        raise ConfigError(f"{where}: expected a.b=value")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    _set(values, path, value, where=where, source=source)


def _set(values: dict[str, Any], path: str, value: Any, *, where: str, source: str) -> None:
    """Put a value in the place of a path `a.b`, which the values of the source have."""
    if place := moved_to(path):
        raise ConfigError(f"{where}: {shorten(path)}: moved to {shorten(place)}")
    section: Any = values
    *parents, key = path.split(".")
    for parent in parents:
        section = section.get(parent) if isinstance(section, Mapping) else None
    if not isinstance(section, dict) or (key not in section and parents != FREE_SECTION):
        raise ConfigError(f"{where}: {shorten(path)}: expected a key of {source}; no such key")
    section[key] = value
