"""What happens around the training steps: watching, validating, showing.

Stage: training. `fit.py` puts these callbacks in this order, because each adds to the epoch's `logs` what later ones
read: EpochFigures (learning rate, speed), Validation (`mask_ap`, ...), TensorBoardWriter, RunRecorder, TrainingDisplay.
An epoch that continues after a restart has fewer batches for Keras, which counts them from 0: `Progress.step`, which
the RunRecorder (`recorder.py`) counts, is what everything here goes by.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from centermask_keras.config import Config
from centermask_keras.config.sections import TrainConfig
from centermask_keras.data.annotations import Annotations
from centermask_keras.data.pipeline import SampleCounters, rebuild_batch
from centermask_keras.errors import CenterMaskError
from centermask_keras.evaluation.predict import Evaluation, draw_examples, evaluate_model
from centermask_keras.predictor import Predictor
from centermask_keras.training.averaging import WeightAverage
from centermask_keras.training.distribution import Replicas
from centermask_keras.training.event_files import EVENT_FILES, drop_events, holds_events
from centermask_keras.training.recorder import validates_after
from centermask_keras.training.run_folder import BEST_WEIGHTS, RunFolder
from centermask_keras.training.state import RunProgress

LOSSES = ("loss", "heatmap", "offset", "size", "classification", "box", "centerness", "mask", "saliency")
EXAMPLES = 4  # validation images drawn for TensorBoard: they fill a screen
LEFT_OUT = {  # counts of SampleCounters: what they say of an object
    "over_max_objects": "beyond data.max_objects",
    "collisions": "in the center cell of another one of its class",
    "too_small": "outside of the crop or under 1 px in it",
    "no_mask_cell": "without mask in the crop",
}
SHOWN_FILES = 10  # skipped files named on the console; run.json names all
REFRESHES_PER_SECOND = 2  # the bar is drawn by a thread that competes with training for the processor


class StopOnNonFiniteLoss(keras.callbacks.Callback):
    """Stop at the first step whose loss is NaN or infinite, and keep its batch.

    Raises:
        CenterMaskError: names step, epoch, each loss and the file of the batch.
    """

    def __init__(self, config: Config, annotations: Annotations, run: RunFolder, progress: RunProgress) -> None:
        super().__init__()
        self._config = config
        self._annotations = annotations
        self._run = run
        self._progress = progress

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        # Keras has fetched the logs already. They are means over the epoch so far: once NaN, NaN for the rest of it.
        if all(math.isfinite(value) for value in logs.values()):
            return
        step = self._progress.step  # this batch is not counted yet
        saved = self._run.save_batch(rebuild_batch(self._config, self._annotations, step), step)
        raise CenterMaskError(
            f"step {step} (epoch {self._progress.epoch + 1}): expected finite losses, received {_losses_text(logs)}. "
            f"Its batch: {saved}\nPass --overwrite with a lower train.learning_rate or a smaller train.clip_norm"
        )


class EpochFigures(keras.callbacks.Callback):
    """Add `learning_rate` (of the last step), `seconds` and `images_per_second` of the epoch's training to the logs."""

    def __init__(
        self,
        schedule: keras.optimizers.schedules.LearningRateSchedule,
        progress: RunProgress,
        *,
        steps_per_epoch: int,
        batch_size: int,
    ) -> None:
        super().__init__()
        self._schedule = schedule
        self._progress = progress
        self._steps_per_epoch = steps_per_epoch
        self._batch_size = batch_size

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._begin = time.perf_counter() - self._progress.epoch_seconds  # of its part before a restart

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._progress.epoch_seconds = time.perf_counter() - self._begin

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        seconds = self._progress.epoch_seconds
        logs["learning_rate"] = float(self._schedule((epoch + 1) * self._steps_per_epoch - 1))
        logs["seconds"] = seconds
        logs["images_per_second"] = self._steps_per_epoch * self._batch_size / seconds


class Validation(keras.callbacks.Callback):
    """Evaluate the averaged weights every few epochs and at the last, add the figures to the logs, save the best.

    What it writes is there before the state is saved: a run that is killed in between validates and writes again.

    Args:
        predictor: runs the averaged model; one for the whole training, so that its graph is traced once.
        annotations: the validation set.
        average: keeps that model.
        run: where the best weights go.
        progress: remembers the best.
        replicas: the chief says what is the best.
        on_progress: told about every batch.
    """

    def __init__(
        self,
        predictor: Predictor,
        annotations: Annotations,
        average: WeightAverage,
        run: RunFolder,
        progress: RunProgress,
        replicas: Replicas,
        *,
        on_progress: Callable[[int, int], None],
    ) -> None:
        super().__init__()
        self._predictor = predictor
        self._settings = predictor.config.train
        self._annotations = annotations
        self._average = average
        self._run = run
        self._progress = progress
        self._replicas = replicas
        self._on_progress = on_progress
        self.evaluation: Evaluation | None = None  # of this epoch, if it was validated

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        number = epoch + 1
        self.evaluation = None
        if not validates_after(number, self._settings):
            return
        self._average.update()
        self.evaluation = evaluate_model(self._predictor, self._annotations, progress=self._on_progress)
        logs.update(self.evaluation.figures)
        # Machines may differ in the last digits, and all must agree on when to end.
        best, mask_ap = self._progress.best_mask_ap, self._replicas.of_chief(logs["mask_ap"])
        if best is None or mask_ap > best:
            self._progress.best_mask_ap, self._progress.best_epoch = mask_ap, number
            self._progress.validations_since_best = 0
            self._run.save_weights(self._average.averaged, BEST_WEIGHTS)
            self._run.update_record(best={"epoch": number, **self.evaluation.figures})
        else:
            self._progress.validations_since_best += 1


class TensorBoardWriter(keras.callbacks.Callback):
    """Write losses, learning rate, speed, the APs and example pictures for TensorBoard, once per epoch.

    Raises:
        CenterMaskError: the disk is full, or cannot be written.
    """

    def __init__(
        self,
        run: RunFolder,
        progress: RunProgress,
        validation: Validation,
        annotations: Annotations,
        *,
        steps_per_epoch: int,
    ) -> None:
        super().__init__()
        self._folder = run.tensorboard
        self._file: Path | None = None
        if run.read_only:
            self._writer = tf.summary.create_noop_writer()
        else:
            drop_events(run.tensorboard, after=progress.epoch * steps_per_epoch)
            self._file = self._create()
        self._validation = validation
        self._annotations = annotations
        self._steps_per_epoch = steps_per_epoch

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        try:
            begin = self._file.stat().st_size if self._file else 0
            count = self._write((epoch + 1) * self._steps_per_epoch, logs)
            # TensorFlow drops a picture for which there is no room, and says nothing.
            if self._file and not holds_events(self._file, start=begin, count=count):
                raise self._error("a disk that did not take all of it")
        except tf.errors.OpError as error:  # of a full disk TensorFlow says "resource exhausted", as of memory
            raise self._error(error.message) from None

    def _create(self) -> Path:
        """Begin a file, and return it."""
        before = set(self._folder.glob(EVENT_FILES))
        try:
            self._writer = tf.summary.create_file_writer(str(self._folder))
            self._writer.flush()
        except tf.errors.OpError as error:
            raise self._error(error.message) from None
        (created,) = set(self._folder.glob(EVENT_FILES)) - before
        return created

    def _error(self, received: str) -> CenterMaskError:
        return CenterMaskError(
            f"{self._folder}: expected to write it, received: {received}. The last saved state is kept; "
            "make room, and the same command continues"
        )

    def _write(self, step: int, logs: dict[str, float]) -> int:
        """Write an epoch, the picture before what is small, and return the number of events."""
        evaluation = self._validation.evaluation
        with self._writer.as_default(step=step):
            if evaluation:
                picture = draw_examples(self._annotations, evaluation.results, count=EXAMPLES)
                tf.summary.image("validation/examples", picture[None])
            for name, value in logs.items():
                group = "train" if name in LOSSES else "validation" if "_a" in name else "run"
                tf.summary.scalar(f"{group}/{name}", value)
        self._writer.flush()
        return len(logs) + bool(evaluation)


class TrainingDisplay(keras.callbacks.Callback):
    """Show a progress bar on a terminal, and one line per epoch everywhere. Use it as a context manager.

    Args:
        console: where to.
        progress: of the run; says which epoch is the best.
        counters: of the input pipeline; shown after the first epoch, and again when another file had to be skipped.
        settings: epochs and batch size.
        steps_per_epoch: batches.
    """

    def __init__(
        self,
        console: Console,
        progress: RunProgress,
        counters: SampleCounters,
        settings: TrainConfig,
        *,
        steps_per_epoch: int,
    ) -> None:
        super().__init__()
        self._console = console
        self._progress = progress
        self._counters = counters
        self._settings = settings
        self._steps_per_epoch = steps_per_epoch
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
        self._epoch_begin = (time.perf_counter(), self._progress.step)
        figures = "" if self._first else "first batch: compiling"
        self._bar.reset(self._task, total=self._steps_per_epoch, description=self._title(), figures=figures)

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        now, step = time.perf_counter(), self._progress.step
        figures = _losses_text(logs, names=LOSSES[1:])
        if self._first is None:
            self._first = self._epoch_begin = (now, step)
        else:
            speed = self._settings.batch_size / _seconds_per_step(self._epoch_begin, now, step)
            left = self._settings.epochs * self._steps_per_epoch - step
            seconds_left = left * _seconds_per_step(self._first, now, step)  # with validations at the pace so far
            figures += f"  {speed:.0f} img/s  eta {_clock(seconds_left)}"
        self._bar.update(self._task, completed=step - self._epoch * self._steps_per_epoch, figures=figures)

    def show_validation(self, done: int, total: int) -> None:
        """Show how many validation images are done (the `progress` of `evaluate_model`)."""
        self._bar.update(self._task, total=total, completed=done, figures=f"validating {done}/{total}")

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        line = f"{self._title()}  {_losses_text(logs, names=LOSSES[1:])}  {logs['images_per_second']:.0f} img/s"
        if "mask_ap" in logs:
            line += f"  mask AP {logs['mask_ap']:.3f}  box AP {logs['box_ap']:.3f}"
            line += "  best so far" if self._progress.best_epoch == epoch + 1 else ""
        self._print(line)
        counts = self._counters.to_dict()
        if self._files_told != len(counts["skipped"]):
            self._files_told = len(counts["skipped"])
            self._print(_samples_text(counts))

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _title(self) -> str:
        return f"epoch {self._epoch + 1}/{self._settings.epochs}"


def _seconds_per_step(since: tuple[float, int], now: float, step: int) -> float:
    return (now - since[0]) / (step - since[1])


def _losses_text(logs: dict[str, Any], names: tuple[str, ...] = LOSSES) -> str:
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
