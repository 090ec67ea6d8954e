"""Names of images in files of other tools -> files below one folder, never outside of it."""

from __future__ import annotations

import os
import re
import unicodedata
from functools import cached_property
from pathlib import Path, PurePosixPath

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
"""Those of TIFF are found, and refused where they are opened: with a message, not in silence."""


class ImageFinder:
    """Finds images below a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def find(self, name: str, beside: Path) -> Path | str:
        """Return the file that a name means, or what was found instead.

        A name is looked for beside the file that holds it, below the folder, and in its folders of images. Names of
        servers and of other machines are found by their last parts.

        Args:
            name: a path with slashes or backslashes, or an address.
            beside: folder of the file that holds it.
        """
        parts = split_name(name)
        if not parts:
            return f"{name!r}"
        for start in (beside, self.folder, beside / "images", self.folder / "images", self.folder / "data"):
            path = start.joinpath(*parts)
            if path.is_file() and path.is_relative_to(self.folder):
                return path
        alike = self._named.get(_normal(parts[-1]), [])
        most = max((_shared(path, parts) for path in alike), default=0)
        best = [path for path in alike if _shared(path, parts) == most]
        if len(best) == 1:
            return best[0]
        return f"{name!r}, which {'is not there' if not best else f'{len(best)} files have as their name'}"

    @cached_property
    def files(self) -> list[Path]:
        """All image files below the folder, sorted."""
        return list_files(self.folder, IMAGE_SUFFIXES)

    @cached_property
    def _named(self) -> dict[str, list[Path]]:
        named: dict[str, list[Path]] = {}
        for path in self.files:
            named.setdefault(_normal(path.name), []).append(path)
        return named


def list_files(folder: Path, suffixes: set[str]) -> list[Path]:
    """List the files with some suffixes below a folder, sorted; hidden folders are passed over."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in sorted(names) if os.path.splitext(name)[1].lower() in suffixes]
    return found


def split_name(name: str) -> list[str]:
    """Return the parts of a path or address without what leads out of a folder: root, drive, server, `..`."""
    name = re.sub(r"^[a-z]+://[^/]*", "", name.strip())
    name = re.sub(r"^[A-Za-z]:(?=[\\/])", "", name).replace("\\", "/").replace("\0", "")
    return [part for part in PurePosixPath(name).parts if part not in ("/", "//", "..", ".")]


def _normal(name: str) -> str:
    """Bring a name into one of the ways in which Unicode writes it: systems differ."""
    return unicodedata.normalize("NFC", name)


def _shared(path: Path, parts: list[str]) -> int:
    """Count the last parts that a path and a name share."""
    pairs = zip(reversed(path.parts), reversed(parts), strict=False)
    count = 0
    for one, other in pairs:
        if _normal(one) != _normal(other):
            break
        count += 1
    return count
