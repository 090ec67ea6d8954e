"""The run folder: what a training writes, and how an interrupted one continues.

Stage: training. Every file is replaced in one step (`files.py`). The state is written last: what a killed run wrote
after it is written again, and replaces it.
"""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import keras
import numpy as np

from centermask_keras.config import Config, load_stored_config, to_stored_json
from centermask_keras.errors import CenterMaskError, ConfigError, shorten
from centermask_keras.files import PARTIAL, check_room, write_file
from centermask_keras.training.state import STATE_FILES, StateFiles, check_finite

CONFIG = "config.json"
BEST_WEIGHTS = "model.weights.h5"
LAST_WEIGHTS = "last.weights.h5"
METRICS = "metrics.csv"
RECORD = "run.json"
TENSORBOARD = "tensorboard"
EVENT_FILES = "events.out.*"
NAN_BATCH = "nan_batch_step_{step}.npz"
MADE_BY_A_RUN = (
    *(STATE_FILES, BEST_WEIGHTS, LAST_WEIGHTS, METRICS),
    *(f"{TENSORBOARD}/{EVENT_FILES}", f"{TENSORBOARD}/{PARTIAL.format(name=EVENT_FILES)}"),
    *(NAN_BATCH.format(step="*"), PARTIAL.format(name="*")),
    *(CONFIG, RECORD),
)
"""In the order in which they go: a run that is half deleted must still be known for another one."""
HDF5_OVERHEAD = 4096  # bytes for each variable, about twice what was measured
START_ANEW = "Pass another --run, or --overwrite to start anew"


class RunFolder:
    """The files of one run.

    Args:
        path: the folder; made if it is not there.
        read_only: write nothing: another worker does.

    Attributes:
        states: everything that training needs to continue.
    """

    def __init__(self, path: str | Path, *, read_only: bool = False) -> None:
        self.path = Path(path)
        self.read_only = read_only
        if not read_only:
            self.path.mkdir(parents=True, exist_ok=True)
        self.states = StateFiles(self.path, read_only=read_only)

    @property
    def tensorboard(self) -> Path:
        return self.path / TENSORBOARD

    def save_weights(self, model: keras.Model, name: str) -> None:
        """Write the weights of a model that was never compiled: Keras would add the optimizer of a compiled one.

        Raises:
            CenterMaskError: a value is not finite, the disk is full, or cannot be written; the file is as it was.
        """
        check_finite(str(self.path / name), model.weights)
        if self.read_only:
            return
        sizes = [math.prod(weight.shape) * np.dtype(weight.dtype).itemsize for weight in model.weights]

        def write(partial: Path) -> None:
            check_room(partial, sum(sizes) + HDF5_OVERHEAD * len(sizes))
            model.save_weights(partial)

        write_file(self.path, name, write)

    def read_metrics(self) -> list[dict[str, str]]:
        """Return the rows of `metrics.csv`, none if there is no file."""
        path = self.path / METRICS
        if not path.exists():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Add an epoch; rows of this or a later epoch, left by a run that was killed, go."""
        self._write_metrics([old for old in self.read_metrics() if int(old["epoch"]) < row["epoch"]] + [row])

    def drop_metrics(self, *, after: int) -> None:
        """Remove the rows of later epochs, which a run that was killed wrote beyond its last state."""
        rows = self.read_metrics()
        kept = [row for row in rows if int(row["epoch"]) <= after]
        if len(kept) < len(rows):
            self._write_metrics(kept)

    def _write_metrics(self, rows: list[dict[str, Any]]) -> None:
        columns = list(dict.fromkeys(column for entry in rows for column in entry))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self._write(METRICS, text.getvalue().encode())

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
        self._write(RECORD, text.encode())

    def write_config(self, config: Config) -> None:
        self._write(CONFIG, to_stored_json(config).encode())

    def save_batch(self, batch: dict[str, np.ndarray], step: int) -> Path:
        """Write a batch for later study and return its file."""
        name = NAN_BATCH.format(step=step)
        if not self.read_only:
            write_file(self.path, name, lambda partial: np.savez_compressed(partial, **batch))
        return self.path / name

    def _write(self, name: str, content: bytes) -> None:
        if not self.read_only:
            write_file(self.path, name, lambda partial: partial.write_bytes(content))


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
    record = run.read_record()
    if "finished" not in record and (run.path / BEST_WEIGHTS).exists():
        raise ConfigError(
            f"{run.path}: expected a new folder or an unfinished run, received a model that was imported or shipped. "
            f"To begin with its weights, pass --weights {run.path} and another --run"
        )
    if record.get("finished"):
        raise ConfigError(
            f"{run.path}: expected a new folder or an unfinished run, received a finished one. {START_ANEW}"
        )
    path = run.path / CONFIG
    if path.exists():
        check_same(path, json.loads(load_stored_config(path).to_json()), json.loads(config.to_json()))
    run.write_config(config)
    return run


def check_same(path: Path, expected: Any, received: Any) -> None:
    """Hold what a run began with against what it is continued with; both are JSON values.

    Raises:
        ConfigError: one line per difference: `PATH: json.path: expected (the run's value), received (the new one)`.
    """
    before, now = _leaves(expected), _leaves(received)
    lines = [
        f"{path}: {leaf}: expected {shorten(before.get(leaf, 'nothing'))}, received {shorten(now.get(leaf, 'nothing'))}"
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
