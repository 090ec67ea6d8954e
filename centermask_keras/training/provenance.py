"""Provenance: what a run is made of, the entries of `run.json` that its start writes.

Stage: training.
"""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import keras

import centermask_keras
from centermask_keras.data.files.annotations import Annotations
from centermask_keras.devices import describe_device
from centermask_keras.training.run import Run
from centermask_keras.training.run_folder import RECORD, check_same

ENVIRONMENT = ("TF_DETERMINISTIC_OPS", "OMP_NUM_THREADS", "TF_ENABLE_ONEDNN_OPTS")
"""Variables that change the last bits of results."""


def write_provenance(run: Run, *, name: str, initial_weights: dict[str, str] | None, warnings: list[str]) -> None:
    """Write what the run is made of; a run that continues must find what it began with.

    Args:
        run: the run.
        name: what errors call the configuration.
        initial_weights: what the training begins with (`describe_weights`).
        warnings: what was said about the configuration.

    Raises:
        ConfigError: the datasets, the initial weights or the backend are others than when the run began.
    """
    ids_and_names = zip(run.train_set.category_ids, run.train_set.class_names, strict=True)
    data = {
        "categories": [{"id": int(category_id), "name": class_name} for category_id, class_name in ids_and_names],
        "dataset": {"train": _counts(run.train_set), "val": _counts(run.val_set)},
        "initial_weights": initial_weights,
        "backend": keras.backend.backend(),
    }
    record = run.folder.read_record()
    if "dataset" in record:
        check_same(run.folder.path / RECORD, {key: record.get(key) for key in data}, data)
    run.folder.update_record(
        **data,
        name=name,
        config=json.loads(run.config.to_json()),
        seed=run.settings.seed,
        warnings=warnings,
        finished=False,
    )


def record_start(run: Run) -> None:
    """Add to the record when, where and with what training starts or continues, and from which step."""
    start = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "step": run.progress.step,
        "replicas": run.replicas.count,
        "workers": run.replicas.workers,
        "processes": run.processes,
        "versions": versions(),
        "git_commit": _git_commit(Path(centermask_keras.__file__).parents[1]),
        "hardware": {
            "device": describe_device()["device"],
            "system": platform.platform(),
        },
        "environment": {name: os.environ.get(name) for name in ENVIRONMENT},
    }
    run.folder.update_record(starts=[*run.folder.read_record().get("starts", []), start])


def versions() -> dict[str, str]:
    """Return the versions of what computes, by module; a build may have another name (`tensorflow-cpu`)."""
    modules = dict.fromkeys(("centermask_keras", "keras", keras.backend.backend(), "tensorflow", "numpy"))
    return {
        **{module: import_module(module).__version__ for module in modules},
        "python": platform.python_version(),
    }


def describe_weights(path: Path | None) -> dict[str, str] | None:
    """Tell a file of weights from another one; None without one."""
    return path and {"file": str(path), "sha256": sha256(path.read_bytes()).hexdigest()}


def _git_commit(checkout: Path) -> str | None:
    """Return the commit of the code, with `+changes` if files differ from it; None where it is no git checkout."""
    if not (checkout / ".git").exists():
        return None
    try:
        commit = _git(checkout, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(checkout, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(checkout: Path, *arguments: str) -> str:
    command = ["git", "-C", str(checkout), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _counts(dataset: Annotations) -> dict[str, Any]:
    return {
        "annotations": str(dataset.path),
        "images": len(dataset),
        "objects": len(dataset.boxes),
        "dropped": dict(dataset.dropped),
    }
