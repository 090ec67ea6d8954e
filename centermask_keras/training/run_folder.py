"""The run folder: what a training writes, and how an interrupted one continues.

Stage: training. Every file is replaced in one step (written beside, then renamed), so that a process killed at any
moment leaves the old or the new file, never half of one.
"""

import csv
import io
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import keras
import numpy as np

from centermask_keras.config import Config
from centermask_keras.errors import CenterMaskError, ConfigError

CONFIG = "config.json"
BEST_WEIGHTS = "model.weights.h5"
LAST_WEIGHTS = "last.weights.h5"
STATE = "state.npz"
METRICS = "metrics.csv"
RECORD = "run.json"
TENSORBOARD = "tensorboard"
NAN_BATCH = "nan_batch_step_{step}.npz"
PARTIAL = "partial.{name}"  # a prefix, because Keras insists on the ending of a weights file
MADE_BY_A_RUN = (
    *(CONFIG, BEST_WEIGHTS, LAST_WEIGHTS, STATE, METRICS, RECORD),
    *(f"{TENSORBOARD}/events.out.*", NAN_BATCH.format(step="*"), PARTIAL.format(name="*")),
)
START_ANEW = "Pass another --run, or --overwrite to start anew"


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        epoch: epochs completed.
        step: batches completed.
        best_mask_ap: highest validation mask AP; None before the first validation.
        best_epoch: its epoch, counted from 1; 0 before the first validation.
        seconds: time spent in completed epochs, validation included.
    """

    epoch: int = 0
    step: int = 0
    best_mask_ap: float | None = None
    best_epoch: int = 0
    seconds: float = 0.0


class RunFolder:
    """The files of one run.

    Args:
        path: the folder; made if it is not there.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)

    @property
    def tensorboard(self) -> Path:
        return self.path / TENSORBOARD

    def save_weights(self, model: keras.Model, name: str) -> None:
        """Write the weights of a model that was never compiled: Keras would add the optimizer of a compiled one."""
        partial = self.path / PARTIAL.format(name=name)
        model.save_weights(partial)
        os.replace(partial, self.path / name)

    def save_state(self, progress: Progress, variables: dict[str, list[keras.Variable]]) -> None:
        """Write everything that training needs to continue.

        Args:
            progress: how far the run has come.
            variables: named groups; within a group the order tells the variables apart.
        """
        arrays = {
            f"{group}/{index}": keras.ops.convert_to_numpy(variable)
            for group, members in variables.items()
            for index, variable in enumerate(members)
        }
        self._write(STATE, lambda file: np.savez(file, progress=json.dumps(asdict(progress)), **arrays))

    def load_state(self, variables: dict[str, list[keras.Variable]]) -> Progress:
        """Set the variables to what `save_state` wrote and return the progress; a fresh one if nothing was written.

        Raises:
            CenterMaskError: the file is unreadable or holds other variables.
        """
        path = self.path / STATE
        if not path.exists():
            return Progress()
        try:
            with np.load(path) as state:
                stored = {key: state[key] for key in state.files}
            progress = Progress(**json.loads(str(stored.pop("progress"))))
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise CenterMaskError(f"{path}: expected the state of a run, received: {error}. Pass --overwrite") from None
        expected = {f"{group}/{index}": v for group, members in variables.items() for index, v in enumerate(members)}
        shapes = {key: tuple(variable.shape) for key, variable in expected.items()}
        if shapes != {key: array.shape for key, array in stored.items()}:
            raise CenterMaskError(
                f"{path}: expected the {len(expected)} variables of this configuration's model and optimizer, "
                f"received {len(stored)} variables of other shapes. Pass --overwrite to start anew"
            )
        for key, variable in expected.items():
            variable.assign(stored[key])
        return progress

    def read_metrics(self) -> list[dict[str, str]]:
        """Return the rows of `metrics.csv`, none if there is no file."""
        path = self.path / METRICS
        if not path.exists():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Add an epoch; rows of this or a later epoch, left by a run that was killed, go."""
        rows = [old for old in self.read_metrics() if int(old["epoch"]) < row["epoch"]] + [row]
        columns = list(dict.fromkeys(column for entry in rows for column in entry))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self._write(METRICS, lambda file: file.write(text.getvalue().encode()))

    def read_record(self) -> dict[str, Any]:
        """Return `run.json`, empty if there is no file."""
        path = self.path / RECORD
        record = _read_json(path) if path.exists() else {}
        if not isinstance(record, dict):
            raise CenterMaskError(f"{path}: expected a JSON object, received {type(record).__name__}")
        return record

    def update_record(self, **entries: Any) -> None:
        """Set entries of `run.json`, keeping the others."""
        text = json.dumps({**self.read_record(), **entries}, indent=2, ensure_ascii=False) + "\n"
        self._write(RECORD, lambda file: file.write(text.encode()))

    def write_config(self, config: Config) -> None:
        self._write(CONFIG, lambda file: file.write(config.to_json().encode()))

    def save_batch(self, batch: dict[str, np.ndarray], step: int) -> Path:
        """Write a batch for later study and return its file."""
        name = NAN_BATCH.format(step=step)
        self._write(name, lambda file: np.savez_compressed(file, **batch))
        return self.path / name

    def _write(self, name: str, write: Callable[[IO[bytes]], Any]) -> None:
        partial = self.path / PARTIAL.format(name=name)
        with partial.open("wb") as file:
            write(file)
        os.replace(partial, self.path / name)


def open_run(run_dir: str | Path, config: Config, *, overwrite: bool) -> RunFolder:
    """Prepare a run folder for a new run, or for continuing the unfinished one in it.

    Args:
        run_dir: the folder.
        config: the configuration to train.
        overwrite: delete what an earlier run wrote (nothing else) and start anew.

    Raises:
        ConfigError: the folder holds a finished run, or an unfinished one of another configuration; then one line per
            difference: `DIR/config.json: json.path: expected (the run's value), received (the new one)`.
    """
    run = RunFolder(run_dir)
    if overwrite:
        for pattern in MADE_BY_A_RUN:
            for path in run.path.glob(pattern):
                path.unlink()
    # Weights with a record that says nothing of "finished" were shipped or imported: training must not replace them.
    if run.read_record().get("finished", (run.path / BEST_WEIGHTS).exists()):
        raise ConfigError(
            f"{run.path}: expected a new folder or an unfinished run, received a finished one. {START_ANEW}"
        )
    path = run.path / CONFIG
    if path.exists():
        check_same(path, _read_json(path), json.loads(config.to_json()))
    else:
        run.write_config(config)
    return run


def check_same(path: Path, expected: Any, received: Any) -> None:
    """Hold what a run began with against what it is continued with; both are JSON values.

    Raises:
        ConfigError: one line per difference: `PATH: json.path: expected (the run's value), received (the new one)`.
    """
    before, now = _leaves(expected), _leaves(received)
    lines = [
        f"{path}: {leaf}: expected {before.get(leaf, 'nothing')}, received {now.get(leaf, 'nothing')}"
        for leaf in dict.fromkeys([*before, *now])
        if before.get(leaf) != now.get(leaf)
    ]
    if lines:
        raise ConfigError("\n".join([*lines, START_ANEW]))


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Map the JSON path of every value that is not an object to the value as JSON text."""
    if not isinstance(value, dict):
        return {path: json.dumps(value, ensure_ascii=False)}
    return {
        leaf: text
        for key, member in value.items()
        for leaf, text in _leaves(member, f"{path}.{key}" if path else key).items()
    }


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CenterMaskError(f"{path}: expected the JSON file of a run, received: {error}") from None
