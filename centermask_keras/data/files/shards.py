"""Shards: the image files of a dataset, byte for byte, in a few large files that any image can be read from.

Stage: data. A shard is a TFRecord file, one record per image file. Beside the shards lie the annotations and an index
of where each image begins, so that samples come in the random order of plain files. `data/files/shard_writer.py`
writes them.
Source: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details, for the size of what surrounds
a record.
"""

from __future__ import annotations

import os
import threading
import weakref
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from centermask_keras.data.files.coco_json import read_json
from centermask_keras.data.files.names import bare_name, explain_difference, tidy_name
from centermask_keras.errors import DataError, ImageError, Problem

INDEX_NAME = "shards.json"
ANNOTATIONS_NAME = "annotations.json"
SHARD_NAME = "images-{number:05d}.tfrecord"
FORMAT = 1
RECORD_HEAD, RECORD_TAIL = 12, 4  # bytes: length and its checksum; checksum of the record
COLUMNS = ("file_name", "shard", "offset", "length", "crc32", "height", "width")
"""Of the index, one value per image: where its bytes are, their checksum (zlib), its size as a viewer shows it."""
AGAIN = "Copy it again, or write the shards anew with `centermask data shard`"


@dataclass(frozen=True, eq=False)
class ShardedImage:
    """An image file inside of shards; it is read like a `Path`.

    Attributes:
        shards: where it lies.
        name: its file name in the annotations.
    """

    shards: ImageShards
    name: str

    def __str__(self) -> str:
        return f"{self.shards.place(self.name)} ({self.name})"

    def read_bytes(self) -> bytes:
        """Return the content of the image file.

        Raises:
            ImageError: the shards do not hold it, its shard cannot be read, or not with these bytes.
        """
        return self.shards.read(self)


ImageFile = Path | ShardedImage
"""What the bytes of an image are read from."""


def path_of(image: ImageFile) -> Path:
    """Return the file on the disk that an image is in."""
    return image.shards.place(image.name) if isinstance(image, ShardedImage) else image


class ImageShards:
    """A folder of shards. Any thread may read; no file is opened twice.

    Attributes:
        path: the folder.
        written_from: the annotation file that they were written from.
        sizes: bytes of each shard.
    """

    def __init__(self, path: Path):
        """Read the index.

        Raises:
            DataError: there is none, or it is none of this format.
        """
        self.path = path
        index = read_json(path / INDEX_NAME)
        try:
            if index["format"] != FORMAT:
                raise ValueError(f"format {index['format']}")
            self.written_from, self.sizes = str(index["written_from"]), [int(size) for size in index["shard_bytes"]]
            columns = [index["images"][name] for name in COLUMNS]
            self._rows = {tidy_name(name, path): tuple(map(int, row)) for name, *row in zip(*columns, strict=True)}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            received = f"{type(error).__name__}: {error}. {AGAIN}"
            raise DataError([Problem(str(path / INDEX_NAME), "", f"shards of format {FORMAT}", received)]) from None
        self._opened: dict[int, int] = {}  # shard -> descriptor
        self._lock = threading.Lock()
        weakref.finalize(self, _close, self._opened).atexit = False  # threads of a dataset may still read at the end

    def __reduce__(self) -> tuple[type[ImageShards], tuple[Path]]:
        """Let another process read the index itself, and open its own files."""
        return ImageShards, (self.path,)

    def file(self, name: str) -> ShardedImage:
        """Return the file of an image; whether the shards hold it shows when it is read."""
        return ShardedImage(self, name)

    def files(self, names: list[str]) -> list[Path]:
        """Return all files that the images are in, whatever their names."""
        return [self.path / INDEX_NAME, *(self.path / SHARD_NAME.format(number=i) for i in range(len(self.sizes)))]

    def hw(self, name: str) -> tuple[int, int]:
        """Return (height, width) of an image, EXIF orientation applied; no shard is read.

        Raises:
            ImageError: the shards do not hold it.
        """
        *_, height, width = self._find(self.file(name))
        return height, width

    def place(self, name: str) -> Path:
        """Return the shard of an image; the index, if it has none."""
        row = self._rows.get(tidy_name(name, self.path))
        return self.path / (SHARD_NAME.format(number=row[0]) if row else INDEX_NAME)

    def read(self, image: ShardedImage) -> bytes:
        """Return the bytes of an image file; see `ShardedImage.read_bytes`."""
        shard, offset, length, crc32, *_ = self._find(image)
        try:
            data = os.pread(self._open(shard), length, offset)  # has no position that threads would share
        except OSError as error:
            raise ImageError(image, f"{(error.strerror or str(error)).lower()}. {AGAIN}", "a readable shard") from error
        if zlib.crc32(data) != crc32:
            found = "other bytes" if len(data) == length else f"{len(data):,} bytes before the shard ends"
            expected = f"{length:,} bytes from byte {offset:,} on, as in {INDEX_NAME}"
            raise ImageError(image, f"{found}. {AGAIN}", expected)
        return data

    def find_faults(self, annotations: Path, names: list[str]) -> list[Problem]:
        """List shards that are not whole, and annotations that are not of these images."""
        problems = []
        for number, size in enumerate(self.sizes):
            shard = self.path / SHARD_NAME.format(number=number)
            received = f"{shard.stat().st_size:,} bytes" if shard.is_file() else "no such file"
            if received != f"{size:,} bytes":
                expected = f"a shard of {size:,} bytes, as in {INDEX_NAME}"
                problems.append(Problem(str(shard), "", expected, f"{received}. {AGAIN}"))
        elsewhere = annotations.absolute().parent
        others = (elsewhere / INDEX_NAME).is_file() and not elsewhere.samefile(self.path)
        if others or (names and not any(tidy_name(name, self.path) in self._rows for name in names)):
            expected = f"annotations of the images in {self.path}, such as {self.path / ANNOTATIONS_NAME}"
            received = f"those of other shards: {elsewhere}" if others else f"{len(names):,} images, none of them there"
            if not others and (difference := explain_difference(names[0], self._bare_names)):
                received = f"{received}: {difference}"
            problems.append(Problem(str(annotations), "", expected, received))
        return problems

    @cached_property
    def _bare_names(self) -> dict[str, str]:
        return {bare_name(name): name for name in self._rows}

    def _find(self, image: ShardedImage) -> tuple[int, ...]:
        row = self._rows.get(tidy_name(image.name, self.path))
        if row is None:
            difference = explain_difference(image.name, self._bare_names)
            cure = "Name the folder of all images, or write shards of these with `centermask data shard`"
            reason = f"none; {difference}" if difference else f"none. {cure}"
            raise ImageError(image, reason, f"an image of {self.written_from}, which the shards were written from")
        return row

    def _open(self, shard: int) -> int:
        with self._lock:
            if shard not in self._opened:
                self._opened[shard] = os.open(self.path / SHARD_NAME.format(number=shard), os.O_RDONLY)
            return self._opened[shard]


def _close(opened: dict[int, int]) -> None:
    for descriptor in opened.values():
        os.close(descriptor)
