"""`centermask data check`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from centermask_keras.cli.options import JsonOption, Overrides
from centermask_keras.cli.output import check_json, progress_bar, write_json
from centermask_keras.config import Config, load_config
from centermask_keras.errors import CenterMaskError, DataError

if TYPE_CHECKING:
    from centermask_keras.evaluation.data_check import CheckReport


def data_check_command(
    config: Annotated[Path | None, typer.Option(help="Its two sets, and what it would drop of them.")] = None,
    annotations: Annotated[Path | None, typer.Option(help="A COCO json.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of its images.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for report.json and pictures.")] = Path("check"),
    set_: Overrides = [],  # noqa: B006
    json_: JsonOption = None,
) -> None:
    """Decode every image and every mask of a dataset and list the problems."""
    if config is None and (annotations is None or images is None):
        raise CenterMaskError("expected --annotations FILE and --images DIR, or --config FILE")
    loaded = None if config is None else load_config(config, set_)
    sets = _list_sets(loaded, annotations, images)
    check_json(json_, *(Path(file) for file, _ in sets.values()), config)
    from centermask_keras.evaluation.data_check import check_dataset

    reports = {}
    for name, (file, folder) in sets.items():
        with progress_bar("check") as advance:
            reports[name] = check_dataset(file, folder, config=loaded, out=out / name, progress=advance)
        _explain(reports[name])
        print(f"{name}: {reports[name]}" if name else reports[name])
    figures = {name: json.loads((out / name / "report.json").read_text(encoding="utf-8")) for name in reports}
    write_json(json_, figures.get("", figures))
    if any(report.problems for report in reports.values()):
        sys.exit(1)


def _list_sets(
    config: Config | None, annotations: Path | None, images: Path | None
) -> dict[str, tuple[str | Path, str | Path]]:
    """Return annotations and images of each set by its folder in `--out`: both of a configuration, or the one named."""
    if config is None:
        return {"": (annotations, images)}
    val = config.data.val
    if annotations or images:
        return {"": (annotations or val.annotations, images or val.images)}
    return {name: (part.annotations, part.images) for name, part in (("train", config.data.train), ("val", val))}


def _explain(report: CheckReport) -> None:
    """Refuse files of another tool with what they are and what converts them."""
    from centermask_keras.convert.formats import explain_source

    if explained := report.problems and explain_source(DataError(report.problems)):
        raise CenterMaskError(explained)
