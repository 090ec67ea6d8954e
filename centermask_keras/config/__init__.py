"""The configuration: one complete JSON file per experiment, strict and typed.

Every key must be present and no other is allowed, so that a file says everything about an experiment and a misspelt
key is an error instead of a silent default.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from centermask_keras.config.sections import (
    LOSS_WEIGHTS,
    DataConfig,
    EvalConfig,
    LossWeights,
    ModelConfig,
    Section,
    TrainConfig,
)
from centermask_keras.errors import ConfigError


class Config(Section):
    """A complete configuration."""

    about: str = Field(description="One line for the reader")
    distribution: Literal["none", "mirrored", "multi_worker"] = Field(
        description="Train on one device; on all of this machine; or on those of several machines (TF_CONFIG or Slurm)"
    )
    model: ModelConfig = Field(description="The network and its inference graph")
    data: DataConfig = Field(description="What is read and how it becomes batches")
    train: TrainConfig = Field(description="The optimisation")
    loss_weights: LossWeights = Field(description="The weight of each loss in the sum")
    eval: EvalConfig = Field(description="How images are read outside of training, and how masks are cut")

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if not isinstance(self.loss_weights, LOSS_WEIGHTS[self.model.detector]):
            raise ValueError(
                f"loss_weights: expected the losses of model.detector {self.model.detector}, received "
                f"{', '.join(type(self.loss_weights).model_fields)}"
            )
        multiple = self.model.input_multiple
        if any(side % multiple for side in self.data.input_hw):
            raise ValueError(
                f"data.input_hw: expected multiples of {multiple} (model.backbone {self.model.backbone}), "
                f"received {list(self.data.input_hw)}"
            )
        if self.data.multi_scale_hw and self.model.detector == "centernet":
            raise ValueError(
                "data.multi_scale_hw: expected null with model.detector centernet (its maps have one size), received "
                f"{len(self.data.multi_scale_hw)} sizes"
            )
        for sides in self.data.multi_scale_hw or ():
            if any(side % multiple for side in sides):
                raise ValueError(
                    f"data.multi_scale_hw: expected multiples of {multiple} (model.backbone {self.model.backbone}), "
                    f"received {list(sides)}"
                )
        cells = self.grid_hw[0] * self.grid_hw[1]
        if self.model.detector == "centernet" and self.model.max_detections > cells:
            raise ValueError(
                f"model.max_detections: expected at most {cells} (the cells of data.input_hw), "
                f"received {self.model.max_detections}"
            )
        if self.model.saliency == "class_agnostic" and self.loss_weights.saliency != 0:
            raise ValueError(
                "loss_weights.saliency: expected 0 with model.saliency class_agnostic "
                f"(it has no direct supervision), received {self.loss_weights.saliency}"
            )
        if self.model.mask_factors == "local_shape" and self.loss_weights.saliency != 0:
            raise ValueError(
                "loss_weights.saliency: expected 0 with model.mask_factors local_shape "
                f"(it has no saliency), received {self.loss_weights.saliency}"
            )
        if self.eval.resize != "letterbox" and self.eval.batch_size != 1:
            raise ValueError(
                f"eval.batch_size: expected 1 with eval.resize {self.eval.resize} (images differ in size), "
                f"received {self.eval.batch_size}"
            )
        return self

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Height and width of the training feature map in cells."""
        height, width = self.data.input_hw
        return height // self.model.stride, width // self.model.stride

    def to_json(self) -> str:
        """Return the text that `parse_config` reads back to an equal configuration."""
        return self.model_dump_json(indent=2) + "\n"


def check_files(config: Config, source: str, splits: Iterable[str] = ("train", "val")) -> None:
    """Check that the files and folders which a configuration names are there.

    Raises:
        ConfigError: `SOURCE: data.train.annotations: expected a file, received ...`, one line per path.
    """
    lines = []
    for split in splits:
        dataset = getattr(config.data, split)
        if not Path(dataset.annotations).is_file():
            lines.append(f"{source}: data.{split}.annotations: expected a file, received {dataset.annotations}")
        if not Path(dataset.images).is_dir():
            lines.append(f"{source}: data.{split}.images: expected a folder, received {dataset.images}")
    if lines:
        raise ConfigError("\n".join(lines))


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a configuration file and apply overrides.

    Args:
        path: JSON file with every key of `Config`.
        overrides: `"a.b=v"` strings; `v` is read as JSON and, if it is none, taken as text.

    Raises:
        ConfigError: `FILE: json.path: expected ..., received ...`, one line per mistake.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{path}: expected a readable JSON configuration, received: {reason}") from None
    return parse_config(text, source=str(path), overrides=overrides)


def parse_config(text: str, *, source: str, overrides: Iterable[str] = ()) -> Config:
    """Build a `Config` from JSON text; `source` names it in errors (see `load_config`)."""
    try:
        values = json.loads(text, object_pairs_hook=lambda pairs: _unique(pairs, source))
    except RecursionError:
        raise ConfigError(f"{source}: expected JSON, received one that is nested too deeply") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise ConfigError(f"{source}: {where}: expected JSON, received: {error.msg}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: expected a JSON object, received {type(values).__name__}")
    for override in overrides:
        _override(values, override, source)
    try:
        # Through JSON again: strict mode then takes a list for a tuple, and still no text for a number.
        return Config.model_validate_json(json.dumps(values))
    except ValidationError as error:
        problems = _without_sequels(error.errors())
        raise ConfigError("\n".join(_explain(source, problem) for problem in problems)) from None


def _unique(pairs: list[tuple[str, Any]], source: str) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"{source}: {key}: expected each key once, received it {keys.count(key)} times")
    return dict(pairs)


def _override(values: dict[str, Any], override: str, source: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set {override}: expected a.b=value")
    section: Any = values
    *parents, key = path.split(".")
    for parent in parents:
        section = section.get(parent) if isinstance(section, Mapping) else None
    if not isinstance(section, dict) or key not in section:
        raise ConfigError(f"--set {override}: {path}: expected a key of {source}; no such key")
    try:
        section[key] = json.loads(text)
    except (ValueError, RecursionError):
        section[key] = text


def _explain(source: str, problem: Mapping[str, Any]) -> str:
    path = ".".join(str(part) for part in _without_tags(problem["loc"]))
    received = json.dumps(problem["input"]) if not isinstance(problem["input"], Mapping) else "an object"
    match problem["type"]:
        case "union_tag_not_found":
            return f"{source}: {path}.detector: expected this key, received none"
        case "union_tag_invalid":
            expected, received = problem["ctx"]["expected_tags"], json.dumps(problem["ctx"]["tag"])
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
        case "value_error":  # one of the validators above; its message already says expected and received
            message = str(problem["ctx"]["error"])
            return f"{source}: {path + '.' if path else ''}{message}"
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
    """Leave out of a place in the file the name of the detector by which the form of a section was chosen."""
    section, *inside = place or ("",)
    return (section, *inside[1:]) if section in ("model", "loss_weights") and inside else place
