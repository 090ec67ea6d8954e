"""TensorBoard: what is written after each epoch, and what goes when a killed run continues.

Stage: training. What a killed run wrote beyond the step where it continues would be there twice.
"""

from pathlib import Path

import keras
import tensorflow as tf

from centermask_keras.errors import CenterMaskError
from centermask_keras.evaluation.pictures import draw_examples
from centermask_keras.files import write_file
from centermask_keras.training.run import Run
from centermask_keras.training.run_folder import EVENT_FILES

EXAMPLES = 4  # validation images drawn: they fill a screen


class TensorBoardWriter(keras.callbacks.Callback):
    """Write losses, learning rate, speed, the APs and example pictures for TensorBoard, once per epoch.

    Args:
        run: the run; events of steps that it has not reached, left by a run that was killed, are removed.

    Raises:
        CenterMaskError: the disk is full, or cannot be written.
    """

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run
        self._folder = run.folder.tensorboard
        self._file: Path | None = None
        if run.folder.read_only:
            self._writer = tf.summary.create_noop_writer()
        else:
            drop_events(self._folder, after=run.progress.epoch * run.steps_per_epoch)
            self._file = self._create()

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        try:
            begin = self._file.stat().st_size if self._file else 0
            count = self._write((epoch + 1) * self._run.steps_per_epoch, logs)
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
        evaluation = self._run.evaluation
        groups = dict.fromkeys(("loss", *self._run.losses), "train")
        with self._writer.as_default(step=step):
            if evaluation:
                groups |= dict.fromkeys(evaluation.figures, "validation")
                picture = draw_examples(self._run.val_set, evaluation.results, count=EXAMPLES)
                tf.summary.image("validation/examples", picture[None])
            for name, value in logs.items():
                tf.summary.scalar(f"{groups.get(name, 'run')}/{name}", value)
        self._writer.flush()
        return len(logs) + bool(evaluation)


def drop_events(folder: Path, *, after: int) -> None:
    """Remove the events of later steps, and what a kill left half written, from the event files of a folder.

    Raises:
        CenterMaskError: the disk is full, or cannot be written.
    """
    for path in sorted(folder.glob(EVENT_FILES)):
        records = _whole_records(path)
        kept = [record for record in records if tf.compat.v1.Event.FromString(record).step <= after]
        if len(kept) < len(records):
            write_file(folder, path.name, lambda partial, kept=kept: _write(partial, kept))


def holds_events(path: Path, *, start: int, count: int) -> bool:
    """Say whether a file holds a number of whole events from a byte on, and nothing else.

    A record: its length in 8 bytes, their checksum in 4, the event, its checksum in 4.
    """
    place, end = start, path.stat().st_size
    with path.open("rb") as file:
        for _ in range(count):
            if place >= end:
                return False
            file.seek(place)
            place += 8 + 4 + int.from_bytes(file.read(8), "little") + 4
    return place == end


def _whole_records(path: Path) -> list[bytes]:
    records = []
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            records.append(record)
    except tf.errors.DataLossError:
        pass  # the last one was being written when the process was killed
    return records


def _write(path: Path, records: list[bytes]) -> None:
    try:
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in records:
                writer.write(record)
    except tf.errors.OpError as error:
        raise OSError(error.message) from None
