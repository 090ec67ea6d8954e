"""From a path to a `Predictor`: run folders, shipped models, exported files, fresh models.

A runtime is imported when a path asks for it, so that an exported file needs no other one.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from centermask_keras.config import Config, load_config
from centermask_keras.errors import CenterMaskError
from centermask_keras.inference.objects import Category
from centermask_keras.inference.predictor import Predictor
from centermask_keras.inference.runtimes import FILE_RUNTIMES
from centermask_keras.packages import install_hint
from centermask_keras.shipped import find_model

if TYPE_CHECKING:
    from centermask_keras.detectors import CenterMask
    from centermask_keras.inference.runtimes.keras import KerasPredictor

SAVED_MODEL = "saved_model.pb"
RUN_FILES = ("config.json", "model.weights.h5", "run.json")
"""What a model is loaded from in a run folder."""


def build(config: Config, categories: Iterable[Category] | None = None) -> KerasPredictor:
    """Build an untrained predictor.

    Args:
        config: the configuration.
        categories: names and ids of its classes; numbered names if not given.

    Raises:
        CenterMaskError: a forked process in which TensorFlow would hang (see `check_not_forked`).
    """
    from centermask_keras.detectors import build_detector
    from centermask_keras.inference.runtimes.keras import KerasPredictor, check_process

    check_process()  # before the weights are made
    if categories is None:
        categories = [Category(index, f"class {index}") for index in range(config.model.num_classes)]
    detector = build_detector(config.model, seed=config.train.seed, synchronized_norm=config.train.synchronized_norm)
    return KerasPredictor(detector, config, list(categories))


def load(path: str | Path, overrides: Iterable[str] = (), *, threads: int | None = None) -> Predictor:
    """Load a model in the runtime that it is made for.

    Args:
        path: the name of a shipped model (`nuclei`); a run folder (`config.json`, `model.weights.h5`, `run.json`); or
            what `centermask export` wrote: a SavedModel (`NAME/1`, or `NAME` for its highest version), a .tflite or an
            .onnx file.
        overrides: `a.b=v` changes to the configuration of a run folder (see `load_config`).
        threads: CPU threads of a .tflite or .onnx file, all if not given; TensorFlow has settings of its own.

    Raises:
        CenterMaskError: a file is missing or does not fit the others; the runtime is not installed; changes to what
            was exported.
    """
    path = find_model(path)
    overrides = [overrides] if isinstance(overrides, str) else list(overrides)
    runtime = find_runtime(path)
    if overrides and runtime != "keras":
        raise CenterMaskError(f"{path}: expected no changes to an exported model, received {overrides[0]}. Export anew")
    try:
        match runtime:
            case "keras":
                return _load_run(path, overrides)
            case "saved_model":
                from centermask_keras.inference.runtimes.saved_model import SavedModelPredictor

                return SavedModelPredictor(_newest_version(path) or path)
            case _:
                module = import_module(f"centermask_keras.inference.runtimes.{runtime}")
                return getattr(module, FILE_RUNTIMES[path.suffix])(path, threads)
    except ModuleNotFoundError as error:
        raise CenterMaskError(
            f"{path}: expected the package {error.name}, received none. {install_hint(error)}"
        ) from None


def find_runtime(path: Path) -> str:
    """Return what runs the model at a path: the name of a module of `runtimes/`, `keras` for everything else."""
    if path.suffix in FILE_RUNTIMES:
        if not path.is_file():
            raise CenterMaskError(f"{path}: expected a file, received none")
        return path.suffix[1:]
    is_saved_model = (path / SAVED_MODEL).is_file() or _newest_version(path)
    return "saved_model" if is_saved_model else "keras"


def _newest_version(folder: Path) -> Path | None:
    """Return the SavedModel of the highest number in a folder, as TensorFlow Serving chooses it."""
    versions = [file.parent for file in folder.glob(f"*/{SAVED_MODEL}") if file.parent.name.isdecimal()]
    return max(versions, key=lambda version: int(version.name), default=None)


def _load_run(folder: Path, overrides: Sequence[str]) -> KerasPredictor:
    check_run_folder(folder)
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
    for name in RUN_FILES:
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
