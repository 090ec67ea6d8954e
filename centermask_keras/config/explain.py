"""What is wrong with a configuration, in lines: `FILE: json.path: expected ..., received ...`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from centermask_keras.errors import shorten

ANNOTATION_KEYS = {"images", "annotations", "categories"}


def describe_document(document: object) -> str:
    """Say what a json document is that is no configuration."""
    if isinstance(document, dict) and ANNOTATION_KEYS & document.keys():
        return f"an annotation file (it has {', '.join(sorted(ANNOTATION_KEYS & document.keys()))})"
    if isinstance(document, dict):
        return f"an object with the keys {shorten(', '.join(document))}" if document else "an empty object"
    if isinstance(document, list):
        return f"a list of {len(document)} entries"
    return shorten(document)


def explain(source: str, problems: Sequence[Mapping[str, Any]]) -> str:
    """Return a line for each problem that pydantic found."""
    return "\n".join(_explain(source, problem) for problem in _without_sequels(problems))


def _explain(source: str, problem: Mapping[str, Any]) -> str:
    path = shorten(".".join(str(part) for part in _without_tags(problem["loc"])))
    value = problem["input"]
    received = "an object" if isinstance(value, Mapping) else shorten(json.dumps(value))
    match problem["type"]:
        case "union_tag_not_found":
            return f"{source}: {path}.detector: expected this key, received none"
        case "union_tag_invalid":
            expected, received = problem["ctx"]["expected_tags"], shorten(json.dumps(problem["ctx"]["tag"]))
            return f"{source}: {path}.detector: expected one of {expected}, received {received}"
        case "missing" if isinstance(problem["loc"][-1], int):
            return f"{source}: {path}: expected an entry, received none in {received}"
        case "missing":
            return f"{source}: {path}: expected this key, received none"
        case "extra_forbidden":
            return f"{source}: {path}: unknown key (received {received}); expected only the keys of `config --schema`"
        case "too_short":
            count = problem["ctx"]["min_length"]
            return f"{source}: {path}: expected at least {count} entries, received {problem['ctx']['actual_length']}"
        case "too_long":
            count = problem["ctx"]["max_length"]
            return f"{source}: {path}: expected at most {count} entries, received {received}"
        case "tuple_type":
            return f"{source}: {path}: expected a list, received {received}"
        case "value_error":  # of a validator of ours; its message already says expected and received
            message = str(problem["ctx"]["error"])
            joint = "" if not path else ": " if message.startswith("expected") else "."
            return f"{source}: {path}{joint}{message}"
        case _:
            expected = problem["msg"].removeprefix("Input should be ")
            return f"{source}: {path}: expected {expected}, received {received}"


def _without_sequels(problems: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Leave out that a list is too short where its entries are faulty: only sound ones were counted."""
    places = [problem["loc"] for problem in problems]
    return [
        problem
        for problem, place in zip(problems, places, strict=True)
        if problem["type"] != "too_short" or not any(p[: len(place)] == place != p for p in places)
    ]


def _without_tags(place: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Leave out of a place in the file the name of the detector by which the form of its section was chosen."""
    section, *inside = place or ("",)
    return (section, *inside[1:]) if section == "model" and inside else place
