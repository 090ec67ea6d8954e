"""From a path to a `Predictor`: run folders, shipped models, fresh models.

Keras is imported where a model is built, not here.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from centermask_keras.config import Config, load_config
from centermask_keras.errors import CenterMaskError
from centermask_keras.objects import Category
from centermask_keras.predictor import Predictor

if TYPE_CHECKING:
    from centermask_keras.detectors import CenterMask
    from centermask_keras.runtimes.keras import KerasPredictor


def build(config: Config, categories: Iterable[Category] | None = None) -> KerasPredictor:
    """Build an untrained predictor.

    Args:
        config: the configuration.
        categories: names and ids of its classes; numbered names if not given.
    """
    from centermask_keras.detectors import build_detector
    from centermask_keras.runtimes.keras import KerasPredictor

    if categories is None:
        categories = [Category(index, f"class {index}") for index in range(config.model.num_classes)]
    return KerasPredictor(build_detector(config), config, list(categories))


def load(path: str | Path, overrides: Iterable[str] = ()) -> Predictor:
    """Load a run folder or a shipped model: `config.json`, `model.weights.h5`, `run.json`.

    Args:
        path: the folder.
        overrides: `a.b=v` changes to its configuration (see `load_config`).

    Raises:
        CenterMaskError: the folder or one of its files is missing or does not fit the others.
    """
    folder = Path(path)
    check_run_folder(folder)
    overrides = [overrides] if isinstance(overrides, str) else overrides
    source = folder / "config.json"
    config = load_config(source, overrides)
    try:
        rows = json.loads((folder / "run.json").read_text(encoding="utf-8"))["categories"]
        categories = [Category(int(row["id"]), str(row["name"])) for row in rows]
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise CenterMaskError(
            f"{folder / 'run.json'}: expected the categories of the run, received {error!r}"
        ) from None
    if len(categories) != config.model.num_classes:
        raise CenterMaskError(
            f"{folder / 'run.json'}: expected {config.model.num_classes} categories (model.num_classes of "
            f"{source}), received {len(categories)}"
        )
    predictor = build(config, categories)
    load_weights(predictor.detector, folder / "model.weights.h5")
    return predictor


def check_run_folder(folder: Path) -> None:
    """Check that a folder holds what a model is loaded from.

    Raises:
        CenterMaskError: names the first file that is missing.
    """
    for name in ("config.json", "model.weights.h5", "run.json"):
        if not (folder / name).is_file():
            hint = " Train first, or wait for the first validation." if folder.is_dir() else ""
            raise CenterMaskError(f"{folder}: expected a run folder with {name}, received none.{hint}")


def load_weights(detector: CenterMask, path: str | Path) -> None:
    """Load the weights of a detector of the same architecture.

    Raises:
        CenterMaskError: the file is missing, not of Keras, or of another architecture.
    """
    if not Path(path).is_file():
        raise CenterMaskError(f"{path}: expected a weights file (*.weights.h5), received none")
    try:
        with warnings.catch_warnings():  # Keras warns of every layer before it raises
            warnings.simplefilter("ignore")
            detector.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CenterMaskError(
            f"{path}: expected the weights of this configuration's model, received: {reason}"
        ) from None
