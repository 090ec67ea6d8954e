"""The state of a run: everything that training needs to continue, in files that prove themselves.

Stage: training. The name of a file holds its number and the digest of its content. The newest whose content agrees
with its name is the state; the one before is kept beside it.
"""

import json
import re
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np

from centermask_keras.errors import CenterMaskError
from centermask_keras.files import DIGEST, digest_of, write_file

STATE = "state_{number:06}_{digest}.npz"
STATE_FILES = "state_*.npz"
STATE_NAME = re.compile(r"state_(\d{6,})_([0-9a-f]+)\.npz")
Variables = dict[str, list[keras.Variable]]
"""Named groups; within a group the order tells the variables apart."""
AUTOMATIC_NUMBER = re.compile(r"(?<=seed_generator)_\d+(?=/)")
"""What Keras adds to the name of a random generator where a program has built several detectors."""


@dataclass
class RunProgress:
    """How far a run has come.

    Attributes:
        epoch: epochs completed, validation included.
        step: batches completed.
        best_mask_ap: highest validation mask AP; None before the first validation.
        best_epoch: its epoch, counted from 1; 0 before the first validation.
        validations_since_best: validations that were not better, one after the other.
        seconds: time spent, validation included.
        epoch_seconds: time spent on the batches of the epoch that was begun.
    """

    epoch: int = 0
    step: int = 0
    best_mask_ap: float | None = None
    best_epoch: int = 0
    validations_since_best: int = 0
    seconds: float = 0.0
    epoch_seconds: float = 0.0


class StateFiles:
    """The states in a run folder.

    Args:
        folder: the run folder.
        read_only: write nothing: another worker does.

    Attributes:
        damaged: files that `load` found not to agree with their names.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self._folder = folder
        self._read_only = read_only
        self._good: Path | None = None  # the newest that was read or written here
        self.damaged: list[Path] = []

    def save(self, progress: RunProgress, variables: Variables) -> None:
        """Write a state; it is the newest from one moment to the next, and the good one before it stays.

        Raises:
            CenterMaskError: a value is not finite, the disk is full, or cannot be written; the states are as they were.
        """
        check_finite(f"{self._folder}: step {progress.step}", [v for members in variables.values() for v in members])
        arrays = {
            f"{group}/{index}": keras.ops.convert_to_numpy(variable)
            for group, members in variables.items()
            for index, variable in enumerate(members)
        }
        if self._read_only:
            return  # after it has read its part: values that are spread over workers are read by all of them together
        paths = self._paths()
        number = _number(paths[-1]) + 1 if paths else 1
        name = STATE.format(number=number, digest=DIGEST)
        texts = {"progress": json.dumps(asdict(progress)), "paths": json.dumps(_paths_of(variables))}
        path = write_file(self._folder, name, lambda partial: np.savez(partial, **texts, **arrays))
        for old in paths:
            if old != self._good:
                old.unlink()
        self._good = path

    def load(self, variables: Variables) -> RunProgress:
        """Set the variables to those of the newest good state and return its progress; a fresh one without states.

        Raises:
            CenterMaskError: every state is damaged, or the newest holds other variables, or these in another order.
        """
        paths = self._paths()
        for path in reversed(paths):
            if _found(path) == _digest(path):
                self._good = path
                return _read(path, variables)
            self.damaged.append(path)
        if paths:
            raise CenterMaskError(
                f"{paths[-1]}: expected a file of the digest in its name, received {_found(paths[-1])}; no older "
                "state is whole. Pass --overwrite to start anew"
            )
        return RunProgress()

    def _paths(self) -> list[Path]:
        """Return the states, the newest last."""
        paths = [path for path in self._folder.glob(STATE_FILES) if STATE_NAME.fullmatch(path.name)]
        return sorted(paths, key=_number)


def check_finite(where: str, variables: Iterable[keras.Variable]) -> None:
    """Refuse to save what nothing can be learned from any more: the loss of a step shows it one step later.

    Raises:
        CenterMaskError: names `where`.
    """
    floats = [variable for variable in variables if keras.backend.is_float_dtype(variable.dtype)]
    faulty = [variable for variable in floats if not keras.ops.all(keras.ops.isfinite(variable))]
    if faulty:
        raise CenterMaskError(
            f"{where}: expected finite weights to save, received NaN or infinity in {len(faulty)} of {len(floats)} "
            f"variables, the first is {faulty[0].path}. What was saved before is kept, and the same command continues "
            "from there. If it ends here again, pass --overwrite with a lower train.learning_rate or a smaller "
            "train.clip_norm"
        )


def _number(path: Path) -> int:
    return int(STATE_NAME.fullmatch(path.name)[1])


def _digest(path: Path) -> str:
    return STATE_NAME.fullmatch(path.name)[2]


def _found(path: Path) -> str:
    """Return the digest of what is in a state, or why it cannot be read."""
    try:
        return digest_of(path)
    except OSError as error:
        return str(error.strerror)


def _read(path: Path, variables: Variables) -> RunProgress:
    try:
        with np.load(path) as state:
            stored = {key: state[key] for key in state.files}
        progress = RunProgress(**json.loads(str(stored.pop("progress"))))
        paths = json.loads(str(stored.pop("paths"))) if "paths" in stored else None  # the first version wrote none
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise CenterMaskError(f"{path}: expected the state of a run, received: {error}. Pass --overwrite") from None
    expected = {f"{group}/{index}": v for group, members in variables.items() for index, v in enumerate(members)}
    shapes = {key: tuple(variable.shape) for key, variable in expected.items()}
    if shapes != {key: array.shape for key, array in stored.items()}:
        raise CenterMaskError(
            f"{path}: expected the {len(expected)} variables of this configuration's model and optimizer, "
            f"received {len(stored)} variables of other shapes. Pass --overwrite to start anew"
        )
    _check_order(path, _paths_of(variables), paths)
    for key, variable in expected.items():
        variable.assign(stored[key])
    return progress


def _paths_of(variables: Variables) -> dict[str, list[str]]:
    """Return the path of every variable, the same one in every process that builds the model."""
    return {group: [AUTOMATIC_NUMBER.sub("", v.path) for v in members] for group, members in variables.items()}


def _check_order(path: Path, expected: dict[str, list[str]], stored: dict[str, list[str]] | None) -> None:
    """Refuse a state whose variables have the expected shapes in another order; a state without paths is accepted."""
    for group, members in expected.items() if stored is not None else ():
        for index, (ours, theirs) in enumerate(zip(members, stored[group], strict=True)):
            if ours != theirs:
                raise CenterMaskError(
                    f"{path}: {group}/{index}: expected the variable {ours}, received {theirs}: another version of the "
                    "program wrote the state in another order. Continue with that version, or pass --overwrite to "
                    "start anew"
                )
