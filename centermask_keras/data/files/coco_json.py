"""A COCO json file -> checked columns; every fault is noted with its place, none stops the reading.

Stage: data. Knows the form of the file; what the content means is left to data/files/annotations.py.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from centermask_keras.data.files.segmentations import COORDINATE_LIMIT, is_coordinates
from centermask_keras.errors import DataError, Problem

_MISSING = object()
_SHOWN_CHARACTERS = 60


class _Constant(str):
    """NaN, Infinity or -Infinity, as it stands in the file."""


class _Pairs(list):
    """The keys and values of an object in the file, repeated keys included."""


class Faults:
    """Collects the faults of one file."""

    def __init__(self, file: Path):
        self.file = file
        self.problems: list[Problem] = []

    def add(self, where: str, expected: str, received: object) -> None:
        """Note one fault; `received` is text, or a value of the json to quote."""
        text = received if isinstance(received, str) else quote(received)
        self.problems.append(Problem(str(self.file), where, expected, text))


class Table:
    """One list of objects in the file (`images`, `annotations`, `categories`), read column by column.

    Attributes:
        name: key of the list.
        keep: bool [n], rows without a fault so far.
    """

    def __init__(self, records: list[Any], name: str, faults: Faults):
        self.name = name
        self.keep = np.ones(len(records), bool)
        self._faults = faults
        self._records = [record if type(record) is dict else {} for record in records]
        self._is_object = [type(record) is dict for record in records]
        for row in np.flatnonzero(~np.array(self._is_object, bool)):
            self._fault(row, "", "an object", records[row])

    def __len__(self) -> int:
        return len(self._records)

    def column(
        self, key: str, is_valid: Callable[[Any], bool], expected: str, *, default: Any = _MISSING, instead: Any = None
    ) -> list[Any]:
        """Return one value per row and note the rows whose value is not valid.

        Args:
            key: key in each object.
            is_valid: says whether a value is of the right form.
            expected: that form in words.
            default: value of objects that lack the key; without it they are at fault.
            instead: stands for values at fault.
        """
        values = [record.get(key, default) for record in self._records]
        for row, value in enumerate(values):
            if not is_valid(value):
                values[row] = instead
                if self._is_object[row]:  # the others have been noted
                    self._fault(row, f".{key}", expected, value)
        return values

    def ids(self, *, required: bool = True) -> np.ndarray:
        """Return int64 [n], the column `id`, -1 for those at fault. Notes faulty and repeated ones if required."""
        if not required:
            ids = [record.get("id") for record in self._records]
            return np.array([value if is_id(value) else -1 for value in ids], np.int64)
        values = np.array(self.column("id", is_id, "an integer", instead=-1), np.int64)
        rows = np.flatnonzero(self.keep)
        unique, first, counts = np.unique(values[rows], return_index=True, return_counts=True)
        for value, count in zip(unique[counts > 1], counts[counts > 1], strict=True):
            self._faults.add(self.name, f"one entry with id {value}", f"{count} entries")
        repeated = np.ones(len(rows), bool)
        repeated[first] = False
        self.keep[rows[repeated]] = False
        return values

    def place(self, row: int, key: str) -> str:
        """Return how messages call a value: the JSON path, and the id of its object if it has one."""
        return f"{self.name}[{row}]{key}{_name_id(self._records[row])}"

    def _fault(self, row: int, key: str, expected: str, received: object) -> None:
        self.keep[row] = False
        self._faults.add(self.place(row, key), expected, quote(received))


def read_json(path: Path) -> dict[str, Any]:
    """Read a json file whose top level is an object.

    Raises:
        DataError: no such file, not json, not an object, or NaN or Infinity in it (each place is listed).
    """
    document = read_document(path)
    if type(document) is not dict:
        raise DataError([Problem(str(path), "", "an object with images, annotations and categories", quote(document))])
    return document


def check_lists(document: dict[str, Any], faults: Faults, *, require_annotations: bool) -> None:
    """Note the top-level lists that are not there; those of images and categories may not be empty either."""
    for name in ("images", "categories", "annotations"):
        records = document.get(name, _MISSING)
        if records is _MISSING and name == "annotations" and not require_annotations:
            continue
        if type(records) is not list:
            faults.add(name, "a list of objects", quote(records))
        elif not records and name != "annotations":
            faults.add(name, "at least one entry", "none")


def is_id(value: object) -> bool:
    """Say whether a value is an integer that fits into 64 bits (True and False are none)."""
    return type(value) is int and -(2**63) <= value < 2**63


def is_side(value: object) -> bool:
    """Say whether a value can be the height or width of an image."""
    return type(value) is int and 0 < value < 2**31


def is_text(value: object) -> bool:
    """Say whether a value is a string with content."""
    return type(value) is str and value != ""


def is_area(value: object) -> bool:
    """Say whether a value is a finite number of square pixels."""
    return type(value) in (int, float) and 0 <= value <= COORDINATE_LIMIT**2


def is_box(value: object) -> bool:
    """Say whether a value is a list of four finite numbers of pixels."""
    return type(value) is list and len(value) == 4 and is_coordinates(value)


def is_mask(value: object) -> bool:
    """Say whether a value can be polygons or an RLE."""
    return type(value) in (list, dict)


def is_mask_or_none(value: object) -> bool:
    """Say whether a value can be polygons, an RLE or nothing."""
    return value is None or is_mask(value)


def is_flag(value: object) -> bool:
    """Say whether a value is 0, 1, false or true."""
    return type(value) in (int, bool) and value in (0, 1)


def quote(value: object) -> str:
    """Return a value of the json as it reads there, shortened; "nothing" for an absent key."""
    if value is _MISSING:
        return "nothing"
    text = json.dumps(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]} ..."


def read_document(path: Path) -> Any:
    """Read a json file of any form.

    Raises:
        DataError: no such file, not json, or NaN or Infinity in it (each place is listed).
    """
    constants: list[str] = []
    places: list[tuple[str, str]] = []
    try:
        content = path.read_bytes()
        document = json.loads(content, parse_constant=constants.append)
        if constants:
            # Read it again with all that stands there: of a repeated key `document` holds the last value only.
            document = json.loads(content, parse_constant=_Constant, object_pairs_hook=_Pairs)
            places = list(_find_constants(document, ""))
    except OSError as error:
        raise DataError([Problem(str(path), "", "a json file", error.strerror or str(error))]) from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise DataError([Problem(str(path), place, "json", error.msg)]) from error
    except (ValueError, RecursionError) as error:  # not UTF-8; a number of thousands of digits; nested too deep
        raise DataError([Problem(str(path), "", "json", str(error))]) from error
    if places:
        raise DataError([Problem(str(path), where or "top level", "a finite number", text) for where, text in places])
    return document


def _name_id(record: dict[str, Any]) -> str:
    """Return how places call the id of an object of the file; nothing if it has none."""
    return f" (id {record['id']})" if is_id(record.get("id")) else ""


def _find_constants(value: object, where: str, owner: str = "") -> Iterator[tuple[str, str]]:
    """Yield JSON path with the id of the object around it, and text, of each NaN and Infinity in file order."""
    if type(value) is _Constant:
        yield f"{where}{owner}", str(value)
    elif type(value) is list:
        for index, entry in enumerate(value):
            yield from _find_constants(entry, f"{where}[{index}]", owner)
    elif type(value) is _Pairs:
        owner = _name_id(dict(value)) or owner
        for key, entry in value:
            yield from _find_constants(entry, f"{where}.{key}" if where else key, owner)
