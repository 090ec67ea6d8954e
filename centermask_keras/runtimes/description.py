"""What an exported file says about itself: configuration and classes, so that it is enough to predict.

Stage: runtimes; written by `export/`. It travels inside of every file: in the `assets.extra` folder of a SavedModel, in
the archive at the end of a .tflite file, in the metadata of an .onnx file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from centermask_keras.config import Config, parse_config
from centermask_keras.errors import CenterMaskError
from centermask_keras.objects import Category

EXTRA = "assets.extra"
"""Folder of a SavedModel for files beside the graph, as TensorFlow Serving has it."""
FILE = "centermask.json"
"""Name of the description inside of an exported file."""
LABELS = "labels.txt"
"""Class names, one a line, beside it: other software looks for them there."""
INPUT = "uint8 [batch, height, width, 3], RGB, 0..255; normalised inside of the graph"


@dataclass(frozen=True)
class Description:
    """What a predictor needs to know of a model.

    Attributes:
        config: the configuration; `eval` and `data.input_hw` say how images are brought to the network.
        categories: names and dataset ids of the classes, in their order.
    """

    config: Config
    categories: list[Category]

    def to_json(self) -> dict[str, Any]:
        """Return what `parse_description` reads back."""
        return {
            "input": INPUT,
            "categories": [vars(category) for category in self.categories],
            "config": json.loads(self.config.to_json()),
        }


def parse_description(text: str | bytes, source: str) -> Description:
    """Read a description.

    Args:
        text: its JSON.
        source: names the file in errors.

    Raises:
        CenterMaskError: not the description of an exported model.
    """
    try:
        values = json.loads(text)
        categories = [Category(int(row["id"]), str(row["name"])) for row in values["categories"]]
        config = json.dumps(values["config"])
    except (ValueError, KeyError, TypeError) as error:
        raise CenterMaskError(f"{source}: expected the description of an exported model, received {error!r}") from None
    return Description(parse_config(config, source=source), categories)


def missing_description(source: str) -> CenterMaskError:
    """Return the error for a file of the right format that was made by something else."""
    return CenterMaskError(f"{source}: expected a model that `centermask export` wrote, received one without {FILE}")
