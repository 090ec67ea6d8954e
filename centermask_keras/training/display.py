"""What a training shows on the console: a progress bar, a line per epoch, what the input pipeline left out.

Stage: training.
"""

import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from centermask_keras.training.run import Run

LEFT_OUT = {  # counts of SampleCounters: what they say of an object
    "over_max_objects": "beyond data.max_objects",
    "collisions": "in the center cell of another one of its class",
    "too_small": "outside of the crop or under 1 px in it",
    "no_mask_cell": "without mask in the crop",
}
SHOWN_FILES = 10  # skipped files named on the console; run.json names all
REFRESHES_PER_SECOND = 2  # the bar is drawn by a thread that competes with training for the processor


class TrainingDisplay(keras.callbacks.Callback):
    """Show a progress bar on a terminal, and one line per epoch everywhere. Use it as a context manager.

    Args:
        run: the run; the counts of its input pipeline are shown after the first epoch, and again when another file had
            to be skipped.
        console: where to.
    """

    def __init__(self, run: Run, console: Console) -> None:
        super().__init__()
        self._run = run
        self._console = console
        self._files_told: int | None = None  # skipped files when the counts were shown
        self._first: tuple[float, int] | None = None  # time and step after the first batch, which compiles
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[figures]}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            refresh_per_second=REFRESHES_PER_SECOND,
        )
        self._task = self._bar.add_task("", figures="")

    def __enter__(self) -> "TrainingDisplay":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch = epoch
        self._epoch_begin = (time.perf_counter(), self._run.progress.step)
        figures = "" if self._first else "first batch: compiling"
        self._bar.reset(self._task, total=self._run.steps_per_epoch, description=self._title(), figures=figures)

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        now, step = time.perf_counter(), self._run.progress.step
        figures = losses_text(logs, self._run.losses)
        if self._first is None:
            self._first = self._epoch_begin = (now, step)
        else:
            speed = self._run.settings.batch_size / _seconds_per_step(self._epoch_begin, now, step)
            left = self._run.settings.epochs * self._run.steps_per_epoch - step
            seconds_left = left * _seconds_per_step(self._first, now, step)  # with validations at the pace so far
            figures += f"  {speed:.0f} img/s  eta {_clock(seconds_left)}"
        self._bar.update(self._task, completed=step - self._epoch * self._run.steps_per_epoch, figures=figures)

    def show_validation(self, done: int, total: int) -> None:
        """Show how many validation images are done."""
        self._bar.update(self._task, total=total, completed=done, figures=f"validating {done}/{total}")

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        line = f"{self._title()}  {losses_text(logs, self._run.losses)}  {logs['images_per_second']:.0f} img/s"
        if "mask_ap" in logs:
            line += f"  mask AP {logs['mask_ap']:.3f}  box AP {logs['box_ap']:.3f}"
            line += "  best so far" if self._run.progress.best_epoch == epoch + 1 else ""
        self._print(line)
        counts = self._run.counters.to_dict()
        if self._files_told != len(counts["skipped"]):
            self._files_told = len(counts["skipped"])
            self._print(_samples_text(counts))

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _title(self) -> str:
        return f"epoch {self._epoch + 1}/{self._run.settings.epochs}"


def _seconds_per_step(since: tuple[float, int], now: float, step: int) -> float:
    return (now - since[0]) / (step - since[1])


def losses_text(logs: dict[str, Any], names: Iterable[str]) -> str:
    """Format the losses of these names, those that the logs have."""
    return "  ".join(f"{name} {logs[name]:.3g}" for name in names if name in logs)


def _samples_text(counts: dict[str, Any]) -> str:
    """Say what the input pipeline left out, in one line, and which files in another one."""
    reasons = [f"{counts[name]:,} {reason}" for name, reason in LEFT_OUT.items() if counts[name]]
    text = f"read so far: {counts['objects']:,} objects in {counts['samples']:,} images"
    text += f"; left out: {', '.join(reasons)}" if reasons else "; none left out"
    files = list(counts["skipped"])
    if files:
        more = f" and {len(files) - SHOWN_FILES} more" if len(files) > SHOWN_FILES else ""
        text += f"\nskipped, not readable: {', '.join(files[:SHOWN_FILES])}{more}"
    return text


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
