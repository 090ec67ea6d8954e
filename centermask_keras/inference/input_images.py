"""The image files that a command reads: those that a user names, or those that a model comes with."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import TYPE_CHECKING

from centermask_keras.config import Config
from centermask_keras.errors import CenterMaskError

if TYPE_CHECKING:
    from centermask_keras.data.files.shards import ImageFile

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


def find_images(inputs: list[str]) -> list[Path]:
    """Expand files, folders and globs, each once, in order."""
    found: dict[Path, Path] = {}
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            matches = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES]
        else:
            matches = [path] if path.exists() else [Path(name) for name in sorted(glob.glob(text, recursive=True))]
        if not matches:
            raise CenterMaskError(f"{text}: expected an image, a folder of images or a glob, received nothing readable")
        for match in matches:
            found.setdefault(match.resolve(), match)
    return list(found.values())


def own_images(run: Path, config: Config) -> list[ImageFile]:
    """Find the images that a model comes with: those of its validation set, or its samples."""
    annotations, folder = Path(config.data.val.annotations), Path(config.data.val.images)
    if annotations.is_file() and folder.is_dir():
        from centermask_keras.data.files.annotations import read_annotations

        found, _ = read_annotations(annotations, folder, require_annotations=False)
        return [found.image_file(index) for index in range(len(found))]
    if (run / "samples").is_dir():
        return find_images([str(run / "samples")])
    raise CenterMaskError(f"{folder}: expected the images of the validation set, received none. Pass --images DIR")
