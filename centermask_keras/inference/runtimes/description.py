"""What an exported file says about itself: how images are brought to it, and its classes. Enough to predict.

Stage: runtimes; written by `export/`. It travels inside of every file: in the `assets.extra` folder of a SavedModel, in
the archive at the end of a .tflite file, in the metadata of an .onnx file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from centermask_keras.errors import CenterMaskError, one_line
from centermask_keras.inference.objects import Category
from centermask_keras.inference_config import InferenceConfig

EXTRA = "assets.extra"
"""Folder of a SavedModel for files beside the graph, as TensorFlow Serving has it."""
FILE = "centermask.json"
"""Name of the description inside of an exported file."""
LABELS = "labels.txt"
"""Class names, one a line, beside it: other software looks for them there."""
FORMAT = 1
"""Of the description. It rises when files change in a way that older versions of this package would misread."""


@dataclass(frozen=True)
class Description:
    """What a predictor needs to know of a model.

    Attributes:
        config: how images are brought to the network and masks are cut.
        categories: names and dataset ids of the classes, in their order.
    """

    config: InferenceConfig
    categories: list[Category]

    def to_json(self) -> dict[str, Any]:
        """Return what `parse_description` reads back."""
        return {
            "format": FORMAT,
            "input": describe_input(self.config),
            "categories": [vars(category) for category in self.categories],
            "config": self.config.model_dump(mode="json"),
        }

    def text(self) -> str:
        """Return that as the text of `FILE`."""
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n"

    def labels(self) -> str:
        """Return the text of `LABELS`."""
        return "".join(f"{one_line(category.name)}\n" for category in self.categories)


def describe_input(config: InferenceConfig, batch: str = "batch") -> str:
    """Say what the network takes."""
    if config.eval.resize == "letterbox":
        height, width = config.data.input_hw
        sides = f"{height}, {width}, 3]"
    elif config.eval.resize == "turned":
        height, width = config.data.input_hw
        sides = f"height, width, 3], {height} x {width} or {width} x {height}"
    else:
        sides = f"height, width, 3], height and width multiples of {config.model.input_multiple}"
    return f"uint8 [{batch}, {sides}, RGB, 0..255; normalised inside of the graph"


def parse_description(text: str | bytes, source: str) -> Description:
    """Read a description.

    Args:
        text: its JSON.
        source: names the file in errors.

    Raises:
        CenterMaskError: not the description of an exported model, or that of a later version.
    """
    try:
        values = json.loads(text)
        version = int(values["format"])
        categories = [Category(int(row["id"]), str(row["name"])) for row in values["categories"]]
        # Through JSON: strict mode then takes a list for a tuple.
        config = InferenceConfig.model_validate_json(json.dumps(values["config"])) if version == FORMAT else None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        reason = _explain(error) if isinstance(error, ValidationError) else repr(error)
        raise CenterMaskError(f"{source}: expected the description of an exported model, received {reason}") from None
    if config is None:
        raise CenterMaskError(
            f"{source}: expected a description of format {FORMAT}, received {version}. Update centermask-keras"
        )
    if len(categories) != config.model.num_classes:
        raise CenterMaskError(f"{source}: expected {config.model.num_classes} categories, received {len(categories)}")
    return Description(config, categories)


def _explain(error: ValidationError) -> str:
    problem = error.errors()[0]
    return f"{'.'.join(map(str, ('config', *problem['loc'])))}: {problem['msg']}"


def missing_description(source: str) -> CenterMaskError:
    """Return the error for a file of the right format that was made by something else."""
    return CenterMaskError(f"{source}: expected a model that `centermask export` wrote, received one without {FILE}")
