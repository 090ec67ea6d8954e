"""Label Studio's json, or its JSON_MIN: polygons, ellipses, turned boxes, brushes. Numbers are percent of the image.

A turned box turns about its left upper corner; x and y of an ellipse are its centre. A brush is an RGBA picture, row by
row, in the run-length form of `rle-pack`: a count of 32 bits, 5 bits for the word size less one, four times 4 bits for
the sizes of run lengths less one; then blocks: a bit that says whether one word is repeated, 2 bits for the size of the
length, the length less one, the word or words.
Source: Label Studio's pages on its tags and on export.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from centermask_keras.convert.open_files import files_that_hold, first_that_holds
from centermask_keras.convert.outlines import ellipse, encode_inside, rotated_box
from centermask_keras.convert.source import BOXES, Source, SourceObject, find_part, flatten_points, numbers_of
from centermask_keras.data.files.coco_json import quote, read_document
from centermask_keras.masks import SizeHW

KEYS = ('"original_width"', '"original_height"')
WITHOUT_AREA = {"keypointlabels": "points", "choices": "choices", "vectorlabels": "lines"}
LABELS = ("polygonlabels", "brushlabels", "ellipselabels", "rectanglelabels", "keypointlabels", "labels")
UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")
CHANNELS = 4


def recognises(path: Path) -> bool:
    """Say whether a file, or one of a folder, is a json of Label Studio."""
    return first_that_holds(path, ".json", KEYS) is not None


def read(path: Path) -> Source:
    """Read a file, or all of a folder."""
    source = Source(path, path if path.is_dir() else path.parent)
    for file in files_that_hold(path, ".json", KEYS):
        tasks = read_document(file)
        if type(tasks) is not list:
            source.fault(file, "", "a list of tasks", quote(tasks))
            continue
        part = find_part(*file.relative_to(source.folder).parts) if path.is_dir() else None
        for index, task in enumerate(tasks):
            _read_task(task, f"[{index}]", part, file, source)
    return source


def _read_task(task: Any, where: str, part: str | None, file: Path, source: Source) -> None:
    if type(task) is not dict:
        source.fault(file, where, "a task", quote(task))
        return
    results = _results_of(task, source)
    data = task["data"] if type(task.get("data")) is dict else task
    texts = [value for key, value in data.items() if type(value) is str and _is_image(value)]
    named = [data[key] for key in ("image", "img") if type(data.get(key)) is str]
    name = next(iter(named + texts), None)
    opened = source.open_image(_find_name(name, file, source) if name else None, file, f"{where}.data.image")
    if opened is None:
        return
    if type(results) is not list:
        source.fault(file, f"{where}.annotations", "a list of results", quote(results))
        return
    objects = [
        item
        for index, result in enumerate(results)
        for item in _read_result(result, f"{where}.result[{index}]", opened[1], file, source)
    ]
    source.add_image(*opened, objects, part)


def _results_of(task: dict[str, Any], source: Source) -> Any:
    """Return the results of one annotation of a task; in JSON_MIN they stand under the name of their tag."""
    annotations = task.get("annotations")
    if annotations is None:
        lists = [value for value in task.values() if type(value) is list]
        return [{"value": entry, **entry} for entries in lists for entry in entries if type(entry) is dict]
    if type(annotations) is not list:
        return annotations
    whole = [entry for entry in annotations if type(entry) is dict and not entry.get("was_cancelled")]
    best = [entry for entry in whole if entry.get("ground_truth")] or whole
    source.lost["annotations of a task beside its first"] += max(0, len(whole) - 1)
    return best[0].get("result") if best else []


def _is_image(text: str) -> bool:
    return re.search(r"\.(jpe?g|png|bmp|webp|tiff?)\b", text, re.IGNORECASE) is not None


def _find_name(address: str, file: Path, source: Source) -> str:
    """Return the name of the image that an address means; the prefix of an upload is left out if that finds it."""
    split = urlsplit(address)
    name = unquote(parse_qs(split.query).get("d", [split.path])[0])
    folder, _, last = name.rpartition("/")
    bare = UPLOAD_PREFIX.sub("", last)
    if bare != last and isinstance(source.finder.find(name, file.parent), str):
        return f"{folder}/{bare}"
    return name


def _read_result(result: Any, where: str, hw: SizeHW, file: Path, source: Source) -> list[SourceObject]:
    value = result.get("value") if type(result) is dict else None
    if type(value) is not dict:
        source.fault(file, where, "an object with a value", quote(result))
        return []
    size = [result.get("original_height"), result.get("original_width")]
    labelled = [(key, value[key]) for key in LABELS if type(value.get(key)) is list]
    kind, names = labelled[0] if labelled else (str(result.get("type")), None)
    if kind in WITHOUT_AREA or names is None:
        source.lost[WITHOUT_AREA.get(kind, "results without a class")] += 1
        return []
    if size != list(hw) and size != [None, None]:
        source.fault(file, where, f"original_height and original_width {list(hw)} as the image has", quote(size))
        return []
    if not names or type(names[0]) is not str or result.get("image_rotation"):
        source.lost["results on turned images" if names else "results without a class"] += 1
        return []
    if "rle" in value:
        return _read_brush(value["rle"], names[0], where, hw, file, source)
    if "radiusX" not in value and "points" not in value and not value.get("rotation"):
        source.lost[BOXES] += 1
        return []
    polygon = _outline(value, hw)
    if polygon is None:
        source.fault(file, f"{where}.value", "an outline in percent of the image", quote(value))
        return []
    return source.keep(names[0], [polygon])


def _outline(value: dict[str, Any], hw: SizeHW) -> list[float] | None:
    """Return the polygon of a value in pixels."""
    x_unit, y_unit = hw[1] / 100, hw[0] / 100
    if "points" in value:
        points = flatten_points(value["points"])
        return points and [number * (y_unit if place % 2 else x_unit) for place, number in enumerate(points)]
    numbers = {"rotation": 0, **value}
    if "radiusX" in value:
        axes = numbers_of(numbers, "x", "y", "radiusX", "radiusY", "rotation")
        return axes and ellipse(axes[0] * x_unit, axes[1] * y_unit, axes[2] * x_unit, axes[3] * y_unit, axes[4])
    box = numbers_of(numbers, "x", "y", "width", "height", "rotation")
    return box and rotated_box(
        box[0] * x_unit, box[1] * y_unit, box[2] * x_unit, box[3] * y_unit, box[4], pivot="corner"
    )


def _read_brush(rle: Any, name: str, where: str, hw: SizeHW, file: Path, source: Source) -> list[SourceObject]:
    pixels = unpack_rle(rle, CHANNELS * hw[0] * hw[1])
    if pixels is None:
        source.fault(file, f"{where}.value.rle", f"runs of {CHANNELS * hw[0] * hw[1]} bytes, RGBA", quote(rle))
        return []
    return [SourceObject(name, encode_inside(pixels.reshape(*hw, CHANNELS)[..., 3] > 0, 0, 0, hw))]


def unpack_rle(rle: Any, count: int) -> np.ndarray | None:
    """Decode the runs of a brush: uint8 [count]; None if they are malformed, or of another count."""
    try:
        packed = np.array(rle, np.int64)
    except (TypeError, ValueError, OverflowError):
        return None
    if packed.ndim != 1 or not len(packed) or packed.min() < 0 or packed.max() > 255:
        return None
    bits = _Bits(packed.astype(np.uint8).tobytes())
    if bits.take(32) != count:
        return None
    word = bits.take(5) + 1
    sizes = [bits.take(4) + 1 for _ in range(4)]
    pixels, place = np.zeros(count, np.uint8), 0
    while place < count and not bits.ended:
        repeated = bits.take(1)
        end = place + 1 + bits.take(sizes[bits.take(2)])
        if end > count or word > 8:
            return None
        pixels[place:end] = bits.take(word) if repeated else [bits.take(word) for _ in range(end - place)]
        place = end
    return pixels if place == count and not bits.ended else None


class _Bits:
    """Bits of bytes, highest first; zeros follow the end, and `ended` says that they were asked for."""

    def __init__(self, content: bytes):
        self._content = content
        self._place = 0
        self.ended = False

    def take(self, count: int) -> int:
        first, self._place = self._place, self._place + count
        self.ended |= self._place > 8 * len(self._content)
        chunk = self._content[first // 8 : (self._place + 7) // 8]
        number = int.from_bytes(chunk, "big") << 8 * ((self._place + 7) // 8 - first // 8 - len(chunk))
        return (number >> (-self._place % 8)) & ((1 << count) - 1)
