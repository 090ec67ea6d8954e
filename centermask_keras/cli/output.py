"""What commands print and write alike: the console, progress bars, what is not read, files of figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from centermask_keras.errors import SHOWN_PROBLEMS, CenterMaskError, one_line
from centermask_keras.outputs import refuse_overwriting

console = Console()


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


def print_left_out(left_out: Sequence[tuple[Path, str]]) -> None:
    """Name what lies in the folders of a user and is not read, and why."""
    for path, reason in left_out[:SHOWN_PROBLEMS]:
        print(f"not read: {one_line(str(path))}: {one_line(reason)}")
    if len(left_out) > SHOWN_PROBLEMS:
        print(f"not read: {len(left_out) - SHOWN_PROBLEMS:,} more")


def check_json(path: Path | None, *inputs: Path | None) -> None:
    """Refuse `--json` for a file that the command reads, or for one of another kind, before anything is done.

    Raises:
        CenterMaskError: names the file.
    """
    if path is None:
        return
    refuse_overwriting([path], [file for file in inputs if file is not None])
    if path.is_file():
        with path.open("rb") as file:
            if file.read(1) not in (b"", b"{"):  # what `write_json` writes begins so
                raise CenterMaskError(f"--json {path}: expected figures to replace, or no file, received another file")


def write_json(path: Path | None, figures: dict[str, Any]) -> None:
    """Write figures where `--json` asked for them."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=2) + "\n")
