"""The image files that a command reads: those that a user names, or those that a model comes with."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from centermask_keras.config import Config
from centermask_keras.errors import CenterMaskError, one_line
from centermask_keras.outputs import is_own_picture

if TYPE_CHECKING:
    from centermask_keras.data.files.shards import ImageFile

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


@dataclass
class FoundImages:
    """The images that a user's words mean.

    Attributes:
        paths: the images, each once, in order, by the names that the user knows: links are not followed to theirs.
        left_out: what lies in the folders beside them and is not read, and why.
    """

    paths: list[Path] = field(default_factory=list)
    left_out: list[tuple[Path, str]] = field(default_factory=list)


def find_images(inputs: list[str]) -> FoundImages:
    """Expand files, folders and globs. What cannot be looked at is taken for an image, which is named when it is read.

    Raises:
        CenterMaskError: nothing is found for one of them.
    """
    found = FoundImages()
    for text in inputs:
        path, images = Path(text), FoundImages()
        named = [path] if os.path.exists(path) else []
        for match in named or [Path(name) for name in sorted(glob.glob(text, recursive=True))]:
            if os.path.isdir(match):
                _search_folder(match, images)
            elif not named and is_own_picture(match):
                images.left_out.append((match, "a picture that this program drew"))
            else:
                images.paths.append(match)
        if not images.paths:
            beside = "".join(f", but {one_line(str(place))} ({reason})" for place, reason in images.left_out[:1])
            raise CenterMaskError(
                f"{text}: expected an image, a folder of images or a glob, received nothing readable{beside}"
            )
        found.paths += images.paths
        found.left_out += images.left_out
    return FoundImages(_each_once(found.paths), list(dict.fromkeys(found.left_out)))


def _search_folder(folder: Path, found: FoundImages, around: tuple[Path, ...] = ()) -> None:
    """Add the images of a folder and of those inside, links followed, in the order of their paths."""
    around = (*around, folder)
    pictures = 0
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        found.left_out.append((folder, (error.strerror or str(error)).lower()))
        return
    for path in (folder / name for name in names):
        if reason := _reason_against(path, around):
            found.left_out.append((path, reason))
        elif os.path.isdir(path):
            _search_folder(path, found, around)
        elif is_own_picture(path):
            pictures += 1
        else:
            found.paths.append(path)
    if pictures:
        found.left_out.append((folder, f"a folder of outputs, pictures that this program drew: {pictures:,}"))


def _reason_against(path: Path, around: tuple[Path, ...]) -> str | None:
    """Say why an entry of a folder is not looked at; None for an image, also for a link that leads nowhere."""
    if path.name.startswith("."):
        return "hidden"
    if os.path.isdir(path):
        return (
            "a link to a folder that it lies in" if any(os.path.samefile(path, folder) for folder in around) else None
        )
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return f"suffix {path.suffix or 'none'}, not one of {' '.join(sorted(IMAGE_SUFFIXES))}"
    if os.path.exists(path) and not os.path.isfile(path):
        return "not a regular file"
    return None


def _each_once(paths: list[Path]) -> list[Path]:
    """Leave out a file that has been named before in other words; two links to one file are two images."""
    first: dict[object, Path] = {}
    for path in paths:
        # `a/../b` is `b` unless `a` is a link, which the file itself tells.
        file = path.stat() if os.path.exists(path) else None
        first.setdefault((os.path.abspath(path), file and (file.st_dev, file.st_ino)), path)
    return list(first.values())


def own_images(run: Path, config: Config) -> list[ImageFile]:
    """Find the images that a model comes with: those of its validation set, or its samples."""
    annotations, folder = Path(config.data.val.annotations), Path(config.data.val.images)
    if annotations.is_file() and folder.is_dir():
        from centermask_keras.data.files.annotations import read_annotations

        found, _ = read_annotations(annotations, folder, require_annotations=False)
        return [found.image_file(index) for index in range(len(found))]
    if (run / "samples").is_dir():
        return find_images([str(run / "samples")]).paths
    raise CenterMaskError(f"{folder}: expected the images of the validation set, received none. Pass --images DIR")
