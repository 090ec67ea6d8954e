"""Names of image files: as annotations spell them, and as they are on the disk.

Stage: data. A name is what is written, never where its links lead: two links to one file are two images.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path


def tidy_name(name: str, folder: str | Path) -> str:
    """Return a name of an annotation file relative to the folder of the images, by its letters alone.

    `./a.png`, `b//../a.png`, `../photos/a.png` in `photos` and an absolute name in the folder all become `a.png`. A
    name that ends outside of the folder keeps its leading `..`, or stays absolute: see `is_outside`.
    """
    if not (os.path.isabs(name) or name.startswith(".") or "//" in name or "/." in name):
        return name
    root = os.path.abspath(folder)
    path = os.path.normpath(os.path.join(root, name))
    inside = os.path.relpath(path, root)
    return path if os.path.isabs(name) and is_outside(inside) else inside


def is_outside(tidy: str) -> bool:
    """Say whether a name of `tidy_name` ends outside of its folder, as it is written."""
    return tidy == os.pardir or tidy.startswith(os.pardir + os.sep) or os.path.isabs(tidy)


def explain_missing(path: str | Path) -> str | None:
    """Say by what the name of a missing file differs from one that is there; None if there is no such one."""
    path = Path(path)
    if "\\" in path.name:
        return "its name has backslashes, which separate folders under Windows alone: write the names with slashes"
    part = path
    while not os.path.isdir(part.parent):  # the difference may be in the name of a folder
        if part == part.parent:
            return None
        part = part.parent
    try:
        return explain_difference(part.name, _list_names(part.parent, os.stat(part.parent).st_mtime_ns))
    except OSError:
        return None


def explain_difference(name: str, others: Mapping[str, str]) -> str | None:
    """Say by what a name differs from another one that looks like it; None if it looks like none of them.

    Args:
        name: a name that is not there.
        others: those that are there, by their `bare_name`.
    """
    other = others.get(bare_name(name))
    if other is None:
        return None
    forms = [form for form in ("NFC", "NFD") if unicodedata.normalize(form, name) == other]
    kind = f"the Unicode form, which is {forms[0]} there" if forms else "capitals, spaces or the Unicode form"
    return f"a name that looks like it is there and differs by {kind}: {other!a} for {name!a}. Rename one of the two"


def bare_name(name: str) -> str:
    """Return a name without what nobody sees: Unicode form, capitals, spaces around it."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip()


@lru_cache(maxsize=4)
def _list_names(folder: Path, changed: int) -> dict[str, str]:
    """List a folder by bare names; `changed` is its time stamp, with which the list grows old."""
    return {bare_name(name): name for name in os.listdir(folder)}
