"""From a checkpoint file to a run folder that loads, predicts and evaluates like a trained one."""

from __future__ import annotations

import hashlib
from pathlib import Path

from centermask_keras.coco_categories import coco_categories
from centermask_keras.config import Config
from centermask_keras.data.files.coco_columns import read_class_names
from centermask_keras.detectors import build_detector
from centermask_keras.errors import CenterMaskError, ConfigError
from centermask_keras.importers.checkpoint import read_checkpoint
from centermask_keras.importers.convert import ImportReport, assign, convert
from centermask_keras.importers.kinds import KINDS, Kind
from centermask_keras.training.run_folder import BEST_WEIGHTS, MADE_BY_A_RUN, RunFolder


def import_weights(file: Path, *, kind: str, config: Config, name: str, run_dir: Path) -> ImportReport:
    """Convert a checkpoint and write `config.json`, `model.weights.h5` and `run.json`; on an error nothing is written.

    Args:
        file: a PyTorch checkpoint.
        kind: a key of `KINDS`.
        config: the configuration of the model.
        name: what errors call the configuration, the path of its file.
        run_dir: the folder, without a run in it.

    Returns:
        What became of every tensor; its counts and reasons are in `run.json` as well.

    Raises:
        CenterMaskError: the checkpoint is not readable, of another kind, or does not fit the configuration.
    """
    _check_config(config, kind, name)
    if any(any(Path(run_dir).glob(pattern)) for pattern in MADE_BY_A_RUN):
        raise CenterMaskError(f"{run_dir}: expected a new folder, received one with a run. Pass another --run")
    categories = _read_categories(config, KINDS[kind])
    tensors = read_checkpoint(file)
    detector = build_detector(config.model, seed=config.train.seed)
    values, report = convert(tensors, detector, KINDS[kind], source=str(file))
    assign(detector, values)
    run = RunFolder(run_dir)
    run.write_config(config)
    run.save_weights(detector, BEST_WEIGHTS)
    imported = {
        "kind": kind,
        "file": Path(file).name,
        "sha256": _sha256(file),
        "mapped": len(report.mapped),
        "left_out": _by_reason(report.left_out),
        "initial": _by_reason(report.initial),
    }
    run.update_record(categories=categories, imported=imported)
    return report


def format_report(report: ImportReport) -> str:
    """Lay out every tensor in a line: mapped, left out, initial; and a line of totals."""
    lines = [f"mapped    {key} -> {name}" for key, name in report.mapped.items()]
    lines += [f"left out  {key}: {reason}" for key, reason in report.left_out.items()]
    lines += [f"initial   {name}: {reason}" for name, reason in report.initial.items()]
    counts = f"{len(report.mapped):,} tensors mapped, {len(report.left_out):,} left out"
    return "\n".join([*lines, f"{counts}; {len(report.initial):,} variables keep their initial values"])


def _check_config(config: Config, kind: str, name: str) -> None:
    backbones = KINDS[kind].backbones
    if config.model.backbone not in backbones:
        raise ConfigError(
            f"{name}: model.backbone: expected {' or '.join(backbones)} for {kind}, received {config.model.backbone}"
        )
    if config.model.normalization != "dataset":
        raise ConfigError(
            f"{name}: model.normalization: expected dataset for {kind}, received {config.model.normalization}. "
            "Pass --set model.normalization=dataset"
        )


def _read_categories(config: Config, kind: Kind) -> list[dict[str, int | str]]:
    """Return the categories of the validation set; without its file those of the checkpoint, or numbered ones."""
    path, count = Path(config.data.val.annotations), config.model.num_classes
    if not path.is_file():
        coco = coco_categories()
        known = coco if kind.classes == "coco" and count == len(coco) else {i: f"class {i}" for i in range(count)}
        return [{"id": category, "name": text} for category, text in known.items()]
    names = read_class_names(path)
    if len(names) != count:
        raise CenterMaskError(f"{path}: expected {count} categories (model.num_classes), received {len(names)}")
    return [{"id": category, "name": text} for category, text in names.items()]


def _sha256(file: Path) -> str:
    with Path(file).open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _by_reason(reasons: dict[str, str]) -> dict[str, int]:
    return {reason: list(reasons.values()).count(reason) for reason in dict.fromkeys(reasons.values())}
