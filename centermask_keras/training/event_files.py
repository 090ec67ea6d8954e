"""The files of TensorBoard: what a killed run wrote beyond the point where it continues would be there twice.

Stage: training.
"""

from pathlib import Path

import tensorflow as tf

from centermask_keras.files import write_file

EVENT_FILES = "events.out.*"


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
