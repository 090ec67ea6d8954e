"""Files that strangers wrote: json, xml and PNG masks, each opened so that what is wrong with it becomes a message."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np
from PIL import Image

from centermask_keras.convert.image_names import list_files
from centermask_keras.errors import DataError, ImageError, Problem
from centermask_keras.masks import SizeHW

FIRST_FILES = 20
"""So many files of a folder are looked at to say what it is."""


def files_that_hold(path: Path, suffix: str, words: Iterable[str]) -> Iterator[Path]:
    """Yield the file itself, or the files of a folder and below, that have a suffix and hold all of some words."""
    for file in [path] if path.is_file() else list_files(path, {suffix}):
        if file.suffix.lower() == suffix and _holds(file, words):
            yield file


def first_that_holds(path: Path, suffix: str, words: Iterable[str]) -> Path | None:
    """Return the first of `files_that_hold` among the first files of a folder."""
    files = [path] if path.is_file() else islice(list_files(path, {suffix}), FIRST_FILES)
    return next((file for file in files if file.suffix.lower() == suffix and _holds(file, words)), None)


def _holds(file: Path, words: Iterable[str]) -> bool:
    try:
        content = file.read_bytes()
    except OSError:
        return False
    return all(word.encode() in content for word in words)


def load_xml(path: Path) -> ElementTree.Element:
    """Read an xml file.

    Raises:
        DataError: no such file, not xml, or with a document type: entities in it may grow without a limit.
    """

    def refuse(name: str, *rest: object) -> None:
        raise DataError([Problem(str(path), f"line {parser.CurrentLineNumber}", "no document type", f"DOCTYPE {name}")])

    builder, parser = ElementTree.TreeBuilder(), expat.ParserCreate()
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        place = f"line {error.lineno}, column {error.offset + 1}"
        raise DataError([Problem(str(path), place, "xml", expat.ErrorString(error.code))]) from error
    except (OSError, ValueError, LookupError) as error:  # a name of an encoding that nobody knows
        raise DataError([Problem(str(path), "", "an xml file", str(error))]) from error
    return builder.close()


def read_mask_values(path: Path, hw: SizeHW | None) -> np.ndarray:
    """Read a PNG whose pixels are numbers: int64 [H, W]; palette indices, grey values, or R + 256 G + 65536 B.

    Args:
        path: PNG of 1, 8 or 16 bits, with or without a palette; alpha is left out.
        hw: what its size has to be; it is compared before a pixel is decoded.

    Raises:
        ImageError: another size or form, or it cannot be decoded.
    """
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if hw is not None and image.size != hw[::-1]:
                received = f"width {image.size[0]}, height {image.size[1]}"
                raise ImageError(path, received, expected=f"width {hw[1]}, height {hw[0]} as its image has")
            values = np.asarray(image.convert("L") if image.mode == "LA" else image).astype(np.int64)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(path, str(error), expected="a PNG of numbers") from error
    if values.ndim == 2:
        return values
    red, green, blue = values[..., 0], values[..., 1], values[..., 2]
    return red if (red == green).all() and (red == blue).all() else red + 256 * green + 65536 * blue
