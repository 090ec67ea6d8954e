"""Where the bytes of a dataset's images come from: a folder of image files, or a folder of shards.

Stage: data. Both give the same bytes for the same name, and nothing behind them knows which of the two it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from centermask_keras.data.files.images import image_header
from centermask_keras.data.files.names import tidy_name
from centermask_keras.data.files.shards import AGAIN, INDEX_NAME, SHARD_NAME, ImageShards
from centermask_keras.errors import Problem


@dataclass(frozen=True)
class ImageFolder:
    """A folder of image files, by their relative paths.

    Attributes:
        path: the folder.
    """

    path: Path

    def file(self, name: str) -> Path:
        """Return the file of an image, which is looked for where its name says, whatever is a link on the way."""
        return self.path / tidy_name(name, self.path)

    def files(self, names: list[str]) -> list[Path]:
        """Return all files that the images of these names are in."""
        return [self.file(name) for name in names]

    def hw(self, name: str) -> tuple[int, int]:
        """Return (height, width) of an image from its header, EXIF orientation applied.

        Raises:
            ImageError: no such file, another format, or a corrupt header.
        """
        return image_header(self.file(name))

    def find_faults(self, annotations: Path, names: list[str]) -> list[Problem]:
        """List the fault of a folder that is not there, or of shards without their index: one, not one per image."""
        if not self.path.is_dir():
            return [Problem(str(self.path), "", "a folder with the images", "no such folder")]
        if (self.path / SHARD_NAME.format(number=0)).exists():
            return [Problem(str(self.path / INDEX_NAME), "", "the index of the shards", f"no such file. {AGAIN}")]
        return []


def open_images(path: str | Path) -> ImageFolder | ImageShards:
    """Say what a folder is: one of shards, if their index is in it, otherwise one of image files.

    Raises:
        DataError: the index of the shards is not readable.
    """
    path = Path(path)
    return ImageShards(path) if (path / INDEX_NAME).is_file() else ImageFolder(path)
