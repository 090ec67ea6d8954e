"""What commands write: never over what they read, and pictures that are never read as images of a folder.

Stage: none; every command that writes files asks here before its first write.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from PIL import Image, PngImagePlugin

from centermask_keras.errors import CenterMaskError, one_line

MARK = "drawn by centermask-keras"
"""The comment of every picture that a command draws."""
MARK_WITHIN = 512  # bytes: comments stand before the pixels

Identity = tuple[int, int]


def refuse_overwriting(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Refuse to write over files that are read, by whatever name or link the two are called.

    Args:
        outputs: files to be written, and folders to be replaced with all that is in them. Most do not exist.
        inputs: files that are read.

    Raises:
        CenterMaskError: names the first output that would replace an input.
    """
    written = {key: path for path in outputs if (key := _identity(path))}
    has_folders = any(path.is_dir() for path in written.values())
    identity = cache(_identity)  # of folders, which many inputs share
    for file in inputs if written else ():
        places = [file]
        if has_folders:
            places += [*file.absolute().parents, *file.resolve().parents]
        for place in places:
            if output := written.get(identity(place)):
                raise CenterMaskError(
                    f"{one_line(str(output))}: expected to write where nothing is read from, received "
                    f"{one_line(str(file))}, which this command reads. Name another place to write to"
                )


def save_picture(image: Image.Image, path: Path) -> None:
    """Write a drawn picture as PNG or JPEG, marked as what this program drew."""
    if path.suffix == ".png":
        comment = PngImagePlugin.PngInfo()
        comment.add_text("Comment", MARK)
        image.save(path, pnginfo=comment)
    else:
        image.save(path, quality=90, comment=MARK)


def is_own_picture(path: Path) -> bool:
    """Say whether `save_picture` wrote a file; one that cannot be read is none."""
    try:
        with path.open("rb") as file:
            return MARK.encode() in file.read(MARK_WITHIN)
    except OSError:
        return False


def _identity(path: Path) -> Identity | None:
    """Return what a file or folder is on its disk, links followed; None where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return None
    return status.st_dev, status.st_ino
