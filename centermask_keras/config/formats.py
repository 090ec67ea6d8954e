"""Earlier forms of a configuration: files that a program wrote are brought up to date as they are read.

A run folder that was trained once opens in every later version: its `config.json` holds the number of its form, and
each form is one step below from the next. Files that people write have no number. They hold today's keys, and an
earlier key is an error that names its new place.
"""

from __future__ import annotations

import json
from typing import Any

from centermask_keras.config.complete import Config
from centermask_keras.errors import ConfigError, shorten

FORMAT = 2
"""The form that is written. Without a number a file of a program is of form 1."""

MOVED = {
    "loss_weights": "model.loss_weights",
    "data.processes": "the option --processes of `centermask train`, as it belongs to a host",
}
"""From the place of a key in earlier forms to where its value is said today."""

LATE_KEYS_OF_FORMAT_1 = {
    "distribution": "none",
    "model.normalization": "dataset",
    "data.multi_scale_hw": None,
    "data.augmentation.flip_vertical": 0.0,
    "data.augmentation.invert": 0.0,
    "train.steps_per_epoch": None,
    "train.optimizer": "adam",
    "train.l2": 0.0,
    "train.warmup_steps": 0,
    "train.synchronized_norm": False,
    "train.patience": None,
    "train.save": {"every": 1, "unit": "epochs"},
}
"""Keys that came while there was no number yet, with the values that do what was done before they came."""

LATE_KEYS_OF_FCOS = {"model.least_score": 0.05}
"""The same for keys that only this detector has."""


def to_stored_json(config: Config) -> str:
    """Return the text of a program's file: the complete configuration, after the number of its form."""
    return json.dumps({"format": FORMAT, **json.loads(config.to_json())}, indent=2, ensure_ascii=False) + "\n"


def upgrade(values: dict[str, Any], source: str) -> dict[str, Any]:
    """Bring the values of a program's file, of any form so far, to today's form; the number goes.

    Raises:
        ConfigError: the number is none, or of a later version.
    """
    values = json.loads(json.dumps(values))  # what the caller holds stays as it is
    number = values.pop("format", 1)
    if type(number) is not int or number < 1:
        raise ConfigError(f"{source}: format: expected a number from 1 to {FORMAT}, received {shorten(number)}")
    if number > FORMAT:
        raise ConfigError(
            f"{source}: format: expected at most {FORMAT}, received {shorten(number)}: a later version of "
            "centermask-keras wrote this file. Update the package"
        )
    for step in STEPS[number - 1 :]:
        step(values)
    return values


def moved_to(path: str) -> str | None:
    """Return where the key of an earlier form at a path `a.b` is said today; None if it has not moved."""
    for old, place in MOVED.items():
        if path == old or path.startswith(f"{old}."):
            return place if " " in place else place + path.removeprefix(old)  # a sentence is no path
    return None


def find_moved(values: dict[str, Any]) -> list[str]:
    """Return a line for each key of earlier forms: its path, its value and its new place."""
    lines = []
    for path, place in MOVED.items():
        section, _, key = path.rpartition(".")
        holder = values.get(section) if section else values
        if isinstance(holder, dict) and key in holder:
            value = "" if isinstance(holder[key], dict) else f" (received {shorten(holder[key])})"
            lines.append(f"{path}: moved to {place}{value}")
    return lines


def find_late(values: dict[str, Any]) -> dict[str, Any]:
    """Return the keys that values of form 1 do not have, from their paths to what was done without them."""
    late = dict(LATE_KEYS_OF_FORMAT_1)
    if isinstance(values.get("model"), dict) and values["model"].get("detector") == "fcos":
        late |= LATE_KEYS_OF_FCOS
    return {
        path: value
        for path, value in late.items()
        if isinstance(section := _section_of(values, path), dict) and path.rpartition(".")[2] not in section
    }


def _section_of(values: dict[str, Any], path: str) -> Any:
    section: Any = values
    for parent in path.split(".")[:-1]:
        section = section.get(parent) if isinstance(section, dict) else None
    return section


def _to_format_2(values: dict[str, Any]) -> None:
    """The losses became a part of the model, those that are off are not named; a host's processes left the file."""
    for path, value in find_late(values).items():
        _section_of(values, path)[path.rpartition(".")[2]] = value
    if isinstance(values.get("data"), dict):
        values["data"].pop("processes", None)
    weights = values.pop("loss_weights", None)
    if isinstance(weights, dict) and isinstance(values.get("model"), dict):
        if weights.get("saliency") == 0:  # of the others, 0 was and is a loss that is reported
            del weights["saliency"]
        values["model"]["loss_weights"] = weights


STEPS = (_to_format_2,)
