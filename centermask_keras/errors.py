"""Errors that a user can act on: where it happened, what was expected, what was received.

Stage: every stage. The command line prints these in one or two lines and exits; any other exception is a bug of
this library and keeps its traceback.
"""

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

ESCAPED = {"Cc", "Cs", "Zl", "Zp"}  # Unicode categories: control characters, halves of pairs, ends of lines
TURNING = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}  # the direction of what follows
SHOWN_PROBLEMS = 50  # fills a terminal; the full list stays in DataError.problems
SHOWN = 200
"""Characters of a value that a message repeats."""


def shorten(value: object) -> str:
    """Return a value of a file as json, or text of a user as it is, in at most `SHOWN` characters."""
    try:
        text = value if isinstance(value, str) else json.dumps(value)
    except ValueError:  # an integer of more digits than Python prints
        text = "a number of thousands of digits"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 4]} ..."


class CenterMaskError(Exception):
    """Base of every error caused by input, configuration or environment."""


class ConfigError(CenterMaskError):
    """A configuration that cannot be used. The message names the file and the JSON path."""


class InterruptedTraining(CenterMaskError):
    """A training that was asked to stop (SIGTERM), and saved its state before."""


def one_line(text: str) -> str:
    """Return a name as it is shown: what would break the line or steer a terminal is escaped as Python writes it."""
    if text.isprintable():
        return text
    return "".join(repr(letter)[1:-1] if _is_escaped(letter) else letter for letter in text)


def _is_escaped(letter: str) -> bool:
    return unicodedata.category(letter) in ESCAPED or letter in TURNING


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault in a data file.

    Attributes:
        file: the file at fault.
        where: place inside it (JSON path, line, or id); empty if the whole file is meant.
        expected: what a correct file holds there.
        received: what was found.
    """

    file: str
    where: str
    expected: str
    received: str

    def __str__(self) -> str:
        place = f"{self.file}: {self.where}" if self.where else self.file
        # A line break inside a file name or a value must not break the list into more lines.
        return one_line(f"{place}: expected {self.expected}, received {self.received}")


class DataError(CenterMaskError):
    """One or more faults in data files, all found in one pass.

    Attributes:
        problems: every fault; the message lists the first 50.
    """

    def __init__(self, problems: Sequence[Problem]):
        self.problems = list(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return str(self.problems[0])
        lines = [f"{len(self.problems):,} problems"]
        lines += [f"  {problem}" for problem in self.problems[:SHOWN_PROBLEMS]]
        if len(self.problems) > SHOWN_PROBLEMS:
            lines.append(f"  and {len(self.problems) - SHOWN_PROBLEMS:,} more")
        return "\n".join(lines)


class ImageError(CenterMaskError):
    """An image that cannot be used.

    Attributes:
        path: the file.
        reason: what was received instead of what was expected.
        expected: what a correct file holds.
        image_id: id in the annotations; None where the file stands alone.
    """

    def __init__(self, path: object, reason: str, expected: str = "a readable image", image_id: int | None = None):
        self.path = str(path)
        self.reason = reason
        self.expected = expected
        self.image_id = image_id
        super().__init__(self.path, reason, expected, image_id)

    def __str__(self) -> str:
        place = self.path if self.image_id is None else f"{self.path} (image id {self.image_id})"
        return one_line(f"{place}: expected {self.expected}, received: {self.reason}")


class ServingError(CenterMaskError):
    """A model server that is not there, does not answer in time, or answers something else.

    Attributes:
        url: the server.
        expected: what the client waited for.
        received: what came instead.
    """

    def __init__(self, url: str, expected: str, received: str):
        self.url, self.expected, self.received = url, expected, received
        super().__init__(url, expected, received)

    def __str__(self) -> str:
        return one_line(" ".join(f"{self.url}: expected {self.expected}, received {self.received}".split()))
