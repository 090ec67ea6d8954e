"""Object masks: the rules that every file of annotations or results is held to, and many masks packed into flat arrays.

Stage: data. A million small Python objects would cost more memory than their content, and worker processes that touch
them would copy it; so polygons and RLEs lie end to end and are cut out when asked for. Masks are never decoded here.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from itertools import accumulate, chain
from typing import Any, overload

import numpy as np
from pycocotools import mask as coco_mask

Segmentation = list[np.ndarray] | dict[str, object]
"""Polygons, each float32 [2 * points] as x, y, x, y ... in original pixels; or a compressed RLE as pycocotools takes
it: {"size": [height, width], "counts": bytes}."""

COORDINATE_LIMIT = 1e6  # pixels; 1e999 is read as infinity, and the COCO API walks along every edge
MIN_POLYGON = 6  # numbers: 3 points. pycocotools takes 4 numbers for a box
CHECKED_TOGETHER = 10_000
"""RLEs checked at once: enough to be fast, few enough not to fill the memory with their runs."""


class Segmentations(Sequence[Segmentation]):
    """The masks of all objects.

    Indexing with an integer gives a `Segmentation`, with a slice a list of them.
    """

    def __init__(self, segmentations: Sequence[Sequence[Sequence[float]] | dict[str, object]]):
        """Pack segmentations.

        Args:
            segmentations: for each object either polygons as lists of numbers, or a compressed RLE.
        """
        polygons = [() if isinstance(entry, dict) else entry for entry in segmentations]
        parts = list(chain.from_iterable(polygons))
        self._part_start = _starts(polygons)
        self._number_start = _starts(parts)
        self._numbers = np.fromiter(chain.from_iterable(parts), np.float64, self._number_start[-1])
        counts = [entry["counts"] if isinstance(entry, dict) else b"" for entry in segmentations]
        self._counts_start = _starts(counts)
        self._counts = b"".join(counts)
        sizes = [entry["size"] if isinstance(entry, dict) else (0, 0) for entry in segmentations]
        self._sizes = np.array(sizes, np.int32).reshape(-1, 2)
        self._rows: range | np.ndarray = range(len(segmentations))

    def __len__(self) -> int:
        return len(self._rows)

    def __getstate__(self) -> dict[str, object]:
        """Give another process what samples are made of: the selected masks alone, polygons as float32."""
        whole = isinstance(self._rows, range)
        packed = self if whole else Segmentations([self[index] for index in range(len(self))])
        return vars(packed) | {"_numbers": packed._numbers.astype(np.float32)}

    @overload
    def __getitem__(self, index: int) -> Segmentation: ...
    @overload
    def __getitem__(self, index: slice) -> list[Segmentation]: ...
    def __getitem__(self, index: int | slice) -> Segmentation | list[Segmentation]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        found = self.exact(index)
        return found if isinstance(found, dict) else [part.astype(np.float32, copy=False) for part in found]

    def exact(self, index: int) -> Segmentation:
        """Return a mask with its polygons as in the file, float64: an RLE of them can depend on the last digit."""
        row = int(self._rows[operator.index(index)])  # negative counts from the end; IndexError beyond
        begin, end = self._counts_start[row : row + 2]
        if begin < end:
            return {"size": self._sizes[row].tolist(), "counts": self._counts[begin:end]}
        first, last = self._part_start[row : row + 2]
        return [self._numbers[self._number_start[part] : self._number_start[part + 1]] for part in range(first, last)]

    def select(self, rows: np.ndarray) -> Segmentations:
        """Return the masks of some rows (int64 [n]); what they hold is shared."""
        chosen = Segmentations([])
        vars(chosen).update(vars(self), _rows=np.asarray(self._rows)[rows])
        return chosen


def check_masks(
    masks: Sequence[Any], image_hw: Sequence[list[int]], note: Callable[[int, str, object], None]
) -> list[Any]:
    """Check the `segmentation` of annotations or results, and compress its RLEs.

    Args:
        masks: values of the json: lists, objects or None.
        image_hw: [height, width] of the image of each.
        note: called with index, what was expected and what was received, for each that is at fault.

    Returns:
        For each the polygons as they stand there, those of too few points included, or a compressed RLE; None for
        those at fault, and where there is nothing.
    """
    found: list[Any] = [None] * len(masks)
    for index, (mask, hw) in enumerate(zip(masks, image_hw, strict=True)):
        if not mask:
            continue
        fault = find_polygon_fault(mask) if type(mask) is list else find_rle_fault(mask, hw)
        if fault is None:
            found[index] = mask if type(mask) is list else compress_rle(mask)
        else:
            note(index, *fault)
    rles = [index for index, mask in enumerate(found) if isinstance(mask, dict)]
    for begin in range(0, len(rles), CHECKED_TOGETHER):
        together = rles[begin : begin + CHECKED_TOGETHER]
        pixels_of = rle_pixels([found[index]["counts"] for index in together]).tolist()
        for index, pixels in zip(together, pixels_of, strict=True):
            height, width = found[index]["size"]
            if pixels != height * width:
                found[index] = None
                expected = f"RLE run lengths that add up to {height} * {width} = {height * width} pixels"
                note(index, expected, f"{pixels} pixels" if pixels >= 0 else "a string that is no compressed RLE")
    return found


def is_coordinates(values: list[object]) -> bool:
    """Say whether a list holds finite numbers of pixels only (True and False are none).

    Args:
        values: at least one value of a json.
    """
    if not set(map(type, values)) <= {int, float}:
        return False
    # NaN hides from min and max unless it comes first, but every sum with it is NaN, which is not below anything.
    return -COORDINATE_LIMIT < min(values) <= max(values) < COORDINATE_LIMIT and sum(values) < math.inf


def find_polygon_fault(polygons: list[object]) -> tuple[str, object] | None:
    """Return (expected, received) if a list of polygons is malformed; polygons with too few points are well-formed."""
    for part in polygons:
        if type(part) is not list:
            return "a list of polygons, each a list of numbers", part
        if part and not is_coordinates(part):
            return "a polygon of numbers of at most 1e6 pixels", part
        if len(part) % 2:
            return "a polygon with an even count of numbers: x, y, x, y ...", f"{len(part)} numbers"
    return None


def find_rle_fault(rle: dict[str, object], image_hw: list[int]) -> tuple[str, object] | None:
    """Return (expected, received) if an RLE is malformed.

    The content of `counts` given as a string is not read here: `rle_pixels` does that for all of them at once.

    Args:
        rle: "size": [height, width]; "counts": list of run lengths, or string.
        image_hw: [height, width] of its image.
    """
    if (size := rle.get("size")) != image_hw:
        return f"RLE size {image_hw}, the image's [height, width]", size
    counts = rle.get("counts")
    if type(counts) is str and counts.isascii():
        return None
    if type(counts) is not list or not set(map(type, counts)) <= {int} or min(counts, default=0) < 0:
        return "RLE counts as a list of run lengths or as a string", counts
    if max(counts, default=0) >= 2**32:
        return "RLE run lengths of at most 32 bits", counts
    return None


def compress_rle(rle: dict[str, object]) -> dict[str, object]:
    """Bring an RLE without fault into the form {"size": [height, width], "counts": bytes}."""
    size, counts = rle["size"], rle["counts"]
    if isinstance(counts, str):
        return {"size": size, "counts": counts.encode()}
    return coco_mask.frPyObjects({"size": size, "counts": counts}, *size)


def rle_pixels(counts: Sequence[bytes]) -> np.ndarray:
    """Count the pixels that compressed RLEs cover, background included: height * width in a sound one.

    The COCO API may write outside of a mask's memory when it decodes an unsound one.

    Args:
        counts: compressed run lengths, as in COCO json files.

    Returns:
        int64 [n]; -1 where the bytes are no run lengths.
    """
    runs, starts = rle_runs(counts)
    pixels = np.full(len(counts), -1, np.int64)
    sound = np.flatnonzero(np.diff(starts))
    if len(sound):
        pixels[sound] = np.add.reduceat(runs, starts[sound])
    return pixels


def rle_runs(counts: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Decode compressed RLEs into the lengths of their runs, all at once.

    Args:
        counts: compressed run lengths, as in COCO json files.

    Returns:
        Lengths of runs of 0 and 1 in turn (0 first), column after column, of all RLEs end to end: int64 [runs]. And
        where those of each RLE begin, and the end: int64 [n + 1]. Bytes that are no run lengths have none.

    Source: the encoding of the COCO API: groups of 5 bits, lowest first, offset 48, bit 6 for more to come, the last
    one's top bit for the sign; from the fourth on each run is written as its difference to the run two before.
    """
    # Every string has to end with its last group, or groups would run on into the next string.
    sound = [index for index, string in enumerate(counts) if string and 48 <= string[-1] < 80]
    runs_of = np.zeros(len(counts), np.int64)
    if not sound:
        return np.zeros(0, np.int64), np.zeros(len(counts) + 1, np.int64)
    strings = counts if len(sound) == len(counts) else [counts[index] for index in sound]
    starts = _starts(strings)
    groups = np.frombuffer(b"".join(strings), np.uint8).astype(np.int64) - 48  # [G]
    in_range = np.logical_and.reduceat((groups >= 0) & (groups < 64), starts[:-1])

    number_ends = np.flatnonzero((groups & 0x20) == 0) + 1
    number_starts = np.concatenate(([0], number_ends[:-1]))
    lengths = number_ends - number_starts
    shifts = 5 * (np.arange(len(groups)) - np.repeat(number_starts, lengths))
    in_range &= np.maximum.reduceat(shifts, starts[:-1]) <= 30  # a run longer than 2^35 is no run
    shifts = np.minimum(shifts, 30)
    numbers = np.add.reduceat((groups & 0x1F) << shifts, number_starts)
    negative = (groups[number_ends - 1] & 0x10) != 0
    numbers -= np.where(negative, np.int64(1) << np.minimum(5 * lengths, 35), 0)

    first = np.searchsorted(number_starts, starts)  # [strings + 1], the first number of each string
    runs = _undo_differences(numbers, first)
    in_range &= np.minimum.reduceat(runs, first[:-1]) >= 0
    runs_of[sound] = np.where(in_range, np.diff(first), 0)
    if not in_range.all():
        runs = runs[np.repeat(in_range, np.diff(first))]
    return runs, np.concatenate(([0], np.cumsum(runs_of)))


def _undo_differences(numbers: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Turn differences to the number two before, of many strings end to end, into run lengths.

    Args:
        numbers: int64 [numbers].
        first: int64 [strings + 1], the first number of each string.
    """
    counts = np.diff(first)
    # Two columns, in which every string begins a row with one unused entry and its number 0, which counts on its own.
    rows = counts // 2 + 1
    first_row = np.cumsum(rows) - rows
    entries = np.arange(len(numbers)) + np.repeat(2 * first_row + 1 - first[:-1], counts)
    table = np.zeros(2 * rows.sum(), np.int64)
    table[entries] = numbers
    table = table.reshape(-1, 2)
    sums = np.cumsum(table, axis=0)
    runs = sums - np.repeat(sums[first_row], rows, axis=0)  # without what lies before, earlier strings included
    runs[first_row] = table[first_row]
    return runs.reshape(-1)[entries]


def _starts(items: Sequence[Sequence[object]]) -> np.ndarray:
    """Return int64 [n + 1]: where each item begins when all lie end to end, and the end."""
    return np.fromiter(accumulate(map(len, items), initial=0), np.int64, len(items) + 1)
