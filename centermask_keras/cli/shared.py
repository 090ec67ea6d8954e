"""What several commands share: options, progress bars, loading a dataset, writing figures."""

from __future__ import annotations

import glob
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from centermask_keras.backend import start_backend as start_backend  # for the commands
from centermask_keras.config import Config, check_files
from centermask_keras.errors import CenterMaskError

if TYPE_CHECKING:
    from centermask_keras.data.annotations import Annotations

console = Console()
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}

ConfigOption = Annotated[Path, typer.Option("--config", help="A configuration, configs/*.json.")]
Overrides = Annotated[list[str], typer.Option("--set", help="Change a key: a.b=value. Repeatable.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the figures here.")]


def load_dataset(
    config: Config, source: str, annotations: Path | None, images: Path | None, *, other_classes: bool = False
) -> Annotations:
    """Load the given dataset, or the configuration's validation set, and hold it against `model.num_classes`.

    `other_classes` says that it may have others than the model.
    """
    from centermask_keras.data.annotations import load_annotations

    if annotations is None or images is None:
        check_files(config, source, splits=("val",))
    path, folder = annotations or config.data.val.annotations, images or config.data.val.images
    dataset = load_annotations(path, folder, crowd=config.data.crowd, require_annotations=False)
    if not other_classes and dataset.num_classes != config.model.num_classes:
        raise CenterMaskError(
            f"{path}: expected {config.model.num_classes} categories (model.num_classes), "
            f"received {dataset.num_classes}"
        )
    return dataset


def find_images(inputs: list[str]) -> list[Path]:
    """Expand files, folders and globs, each once, in order."""
    found: dict[Path, Path] = {}
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            matches = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES]
        else:
            matches = [path] if path.exists() else [Path(name) for name in sorted(glob.glob(text, recursive=True))]
        if not matches:
            raise CenterMaskError(f"{text}: expected an image, a folder of images or a glob, received nothing readable")
        for match in matches:
            found.setdefault(match.resolve(), match)
    return list(found.values())


class progress_bar:
    """A progress bar as a context: gives a function of the items done and the items in all."""

    def __init__(self, title: str):
        columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self.task = self.bar.add_task(title, total=None)

    def __enter__(self):
        self.bar.start()
        return lambda done, total: self.bar.update(self.task, completed=done, total=total)

    def __exit__(self, *exception) -> None:
        self.bar.stop()


def write_json(path: Path | None, figures: dict[str, Any]) -> None:
    """Write figures where `--json` asked for them."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=2) + "\n")
