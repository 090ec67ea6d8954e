"""Write the images and annotations of a dataset as shards: the whole folder appears at once, or not at all.

Stage: data. `data/files/shards.py` knows the form and reads it.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import tensorflow as tf

from centermask_keras.data.files.annotations import Annotations
from centermask_keras.data.files.shards import (
    ANNOTATIONS_NAME,
    COLUMNS,
    FORMAT,
    INDEX_NAME,
    RECORD_HEAD,
    RECORD_TAIL,
    SHARD_NAME,
)
from centermask_keras.errors import CenterMaskError, ImageError
from centermask_keras.files import PARTIAL, flush
from centermask_keras.outputs import refuse_overwriting

SHARD_BYTES = 2**30  # so few files that all of them stay open, and no file that is awkward to copy
OWN_FILES = ("images-*.tfrecord", ANNOTATIONS_NAME, INDEX_NAME)


@dataclass(frozen=True)
class WrittenShards:
    """What `write_shards` wrote.

    Attributes:
        images: image files.
        image_bytes: their bytes.
        shards: number of shards.
        total_bytes: of everything in the folder.
    """

    images: int
    image_bytes: int
    shards: int
    total_bytes: int

    def to_dict(self) -> dict[str, int]:
        """Return the figures, ready for `json.dump`."""
        return asdict(self)


def write_shards(
    annotations: Annotations,
    out: str | Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> WrittenShards:
    """Write every image file of a dataset, byte for byte, and its annotation file.

    Args:
        annotations: the dataset; what is in its images is not looked at again.
        out: folder to make. Until it is complete it is called `partial.NAME`.
        shard_bytes: a shard that has reached so many bytes is ended.
        progress: called with (images done, images in all).

    Raises:
        CenterMaskError: the folder holds files, `partial.NAME` the dataset itself, an image cannot be read, or the disk
            is full; nothing is left behind.
    """
    out = Path(out).resolve()
    partial = out.with_name(PARTIAL.format(name=out.name))
    _refuse_files(out)
    _refuse_files(partial, but=OWN_FILES)  # what is left of a run that was killed
    refuse_overwriting([partial], [annotations.path, *annotations.storage.files(annotations.file_names)])
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        rows, shard_sizes = _write_images(annotations, partial, shard_bytes, progress)
        shutil.copyfile(annotations.path, partial / ANNOTATIONS_NAME)
        columns = zip(*rows, strict=True) if rows else [()] * len(COLUMNS)
        index = {
            "format": FORMAT,
            "written_from": annotations.path.name,
            "shard_bytes": shard_sizes,
            "images": dict(zip(COLUMNS, columns, strict=True)),
        }
        (partial / INDEX_NAME).write_text(json.dumps(index) + "\n", encoding="utf-8")
        total_bytes = sum(path.stat().st_size for path in partial.iterdir())
        _publish(partial, out)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if not isinstance(error, OSError | tf.errors.OpError):
            raise
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise CenterMaskError(f"{out}: expected to write shards, received: {reason}. Nothing is left of them") from None
    image_bytes = sum(row[COLUMNS.index("length")] for row in rows)
    return WrittenShards(len(rows), image_bytes, len(shard_sizes), total_bytes)


def _refuse_files(folder: Path, *, but: tuple[str, ...] = ()) -> None:
    """Leave alone what is not ours: a file of this name, or a folder that holds files of other names."""
    found = [path.name for path in folder.iterdir()] if folder.is_dir() else [folder.name] if folder.exists() else []
    if foreign := [name for name in found if not any(Path(name).match(pattern) for pattern in but)]:
        raise CenterMaskError(
            f"{folder}: expected no folder of this name, or an empty one, received {min(foreign)}. "
            "Name another folder, or remove this one"
        )


def _write_images(
    annotations: Annotations, folder: Path, shard_bytes: int, progress: Callable[[int, int], None] | None
) -> tuple[list[tuple[str | int, ...]], list[int]]:
    """Write the shards; return the rows of the index, one per image, and the bytes of each shard."""
    hw = dict(zip(annotations.file_names, annotations.image_hw.tolist(), strict=True))  # each file once
    rows: list[tuple[str | int, ...]] = []
    sizes: list[int] = []
    writer = None
    try:
        for name, (height, width) in hw.items():
            data = _read_bytes(annotations, name)
            if writer is None or sizes[-1] >= shard_bytes:
                if writer is not None:
                    writer.close()
                writer = tf.io.TFRecordWriter(str(folder / SHARD_NAME.format(number=len(sizes))))
                sizes.append(0)
            writer.write(data)
            rows.append((name, len(sizes) - 1, sizes[-1] + RECORD_HEAD, len(data), zlib.crc32(data), height, width))
            sizes[-1] += RECORD_HEAD + len(data) + RECORD_TAIL
            if progress is not None:
                progress(len(rows), len(hw))
    finally:
        if writer is not None:
            writer.close()
    return rows, sizes


def _read_bytes(annotations: Annotations, name: str) -> bytes:
    file = annotations.storage.file(name)
    try:
        return file.read_bytes()
    except OSError as error:
        raise ImageError(file, (error.strerror or str(error)).lower()) from None


def _publish(folder: Path, out: Path) -> None:
    """Bring everything to the disk, then give the folder its name."""
    for path in folder.iterdir():
        flush(path)
    with suppress(OSError):  # some network file systems cannot flush a folder
        flush(folder)
    if out.exists():
        out.rmdir()  # it is empty
    os.replace(folder, out)
    with suppress(OSError):
        flush(out.parent)
