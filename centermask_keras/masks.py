"""Masks in original pixels: paste M x M probabilities, encode and decode COCO run-length encoding (RLE).

Stage: after the network (predict, evaluate) and the COCO border of the dataset. A mask travels as RLE
`{"size": [h, w], "counts": bytes}`: runs of 0 and 1 in column order, compressed as COCO does. Masks are made one by one
from their own box region; no array of the size of the image is needed until somebody asks for one.
Source: COCO API (RLE); Wang et al. 2020 (arXiv 2004.04446), section 3.5 (the mask is cut at a threshold).
Deviations: probabilities are interpolated to pixels, then cut; the paper does not say which comes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

RLE = dict[str, Any]
"""`{"size": [h, w], "counts": bytes}`, compressed."""

SizeHW = tuple[int, int]

SMALL_CROP = 1000  # pixels; up to here it is quicker to interpolate all of them


def paste_mask(
    probability: np.ndarray, box: Sequence[float] | np.ndarray, hw: SizeHW, threshold: float
) -> tuple[np.ndarray, tuple[int, int]]:
    """Resample a mask grid to the pixels of its box and cut it.

    A pixel belongs to the box if its centre does. Probabilities are interpolated bilinearly between the centres of the
    grid cells; beyond the outermost centres the outermost value holds.

    Args:
        probability: float [M, M] in [0, 1], on the grid of the box, rows first.
        box: float [4], xyxy in original pixels; may reach beyond the image.
        hw: height and width of the original image.
        threshold: a pixel is in the mask if its probability is greater.

    Returns:
        bool [ch, cw], the part of the box inside the image, and the (y, x) of its first pixel. A box without a pixel
        centre inside the image, or with a coordinate that is not finite, gives an empty crop.
    """
    (pasted,) = _paste_masks(np.asarray(probability)[None], np.asarray(box)[None], hw, threshold)
    return pasted


def _paste_masks(
    probabilities: np.ndarray, boxes: np.ndarray, hw: SizeHW, threshold: float
) -> Iterator[tuple[np.ndarray, tuple[int, int]]]:
    """Do `paste_mask` for K masks: where their pixels lie is found for all of them at once."""
    probabilities = np.asarray(probabilities, np.float32)
    boxes = np.where(np.isfinite(boxes).all(axis=1, keepdims=True), boxes, 0.0)  # an empty box
    rows, columns = probabilities.shape[1:]
    samples = zip(
        _sample_axis(boxes[:, 0], boxes[:, 2], hw[1], columns),
        _sample_axis(boxes[:, 1], boxes[:, 3], hw[0], rows),
        strict=True,
    )
    for probability, ((left, *x), (top, *y)) in zip(probabilities, samples, strict=True):
        if len(x[0]) and len(y[0]):
            yield _cut(probability, x, y, threshold).T, (top, left)
        else:
            yield np.zeros((0, 0), bool), (0, 0)


def _sample_axis(
    low: np.ndarray, high: np.ndarray, length: int, cells: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Find the pixels in each interval [low, high) and where they lie between the cells of its grid.

    Returns:
        For each interval the first pixel and, per pixel, the cell before its centre (int, [n]) and the weight of the
        cell after it (float32, [n]).
    """
    first, last = (np.clip(np.ceil(edge - 0.5), 0, length).astype(np.intp) for edge in (low, high))
    counts = np.maximum(last - first, 0)
    ends = np.cumsum(counts)
    owner = np.repeat(np.arange(len(low)), counts)
    pixel = np.arange(len(owner)) + (first - ends + counts)[owner]
    scale = cells / np.where(counts > 0, high - low, 1.0)
    position = np.clip((pixel + 0.5 - low[owner]) * scale[owner] - 0.5, 0, cells - 1)
    before = np.minimum(position.astype(np.intp), max(cells - 2, 0))
    weight = (position - before).astype(np.float32)
    for start, begin, end in zip(first.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True):
        yield start, before[begin:end], weight[begin:end]


def _cut(probability: np.ndarray, x: Sequence[np.ndarray], y: Sequence[np.ndarray], threshold: float) -> np.ndarray:
    """Interpolate at all combinations of x and y (see `_sample_axis`) and cut: bool [cw, ch], the column order of RLE.

    Between four cells on one side of the threshold nothing needs to be computed: that is most of a large mask.
    """
    (x_cell, x_weight), (y_cell, y_weight) = x, y
    pixels = len(x_cell) * len(y_cell)
    if pixels > SMALL_CROP:
        levels = _sort_quads(probability > threshold).take(y_cell, axis=1).take(x_cell, axis=0)  # uint8 [cw, ch]
        crop, edge = levels == 2, np.flatnonzero(levels == 1)
    else:
        crop, edge = np.empty((len(x_cell), len(y_cell)), bool), np.arange(pixels)
    i = edge // len(y_cell)
    j = edge - i * len(y_cell)
    height, width = probability.shape
    right, below = min(1, width - 1), width * min(1, height - 1)  # a grid of one cell has no other one
    cell = (y_cell * width).take(j) + x_cell.take(i)
    x_weight, y_weight, flat = x_weight.take(i), y_weight.take(j), probability.ravel()
    left_column = _interpolate(flat.take(cell), flat.take(cell + below), y_weight)
    right_column = _interpolate(flat.take(cell + right), flat.take(cell + right + below), y_weight)
    crop.ravel()[edge] = _interpolate(left_column, right_column, x_weight) > threshold
    return crop


def _sort_quads(inside: np.ndarray) -> np.ndarray:
    """Say of each four neighbouring cells if none (0), some (1) or all (2) are inside, x first: uint8."""
    if min(inside.shape) < 2:  # no four neighbours
        return np.ones(inside.shape[::-1], np.uint8)
    inside = np.ascontiguousarray(inside.T)
    every, some = inside[:-1] & inside[1:], inside[:-1] | inside[1:]
    return (every[:, :-1] & every[:, 1:]).view(np.uint8) + (some[:, :-1] | some[:, 1:])


def _interpolate(before: np.ndarray, after: np.ndarray, weight: np.ndarray) -> np.ndarray:
    value = after - before
    value *= weight
    value += before
    return value


def encode_crop(bitmap: np.ndarray, top_left: tuple[int, int], hw: SizeHW) -> RLE:
    """Encode a mask that is given by a crop of it.

    Args:
        bitmap: bool [ch, cw], the mask inside the crop; it is 0 elsewhere.
        top_left: (y, x) of the crop's first pixel in the image; the crop lies inside the image.
        hw: height and width of the image.

    Returns:
        RLE, byte for byte what pycocotools gives for the full mask.

    Raises:
        ValueError: the crop reaches beyond the image (expected ..., received ...).
    """
    (height, width), (top, left) = hw, top_left
    crop_height, crop_width = bitmap.shape
    if min(top, left) < 0 or top + crop_height > height or left + crop_width > width:
        raise ValueError(f"expected a crop inside {height}x{width}, received {bitmap.shape} at {tuple(top_left)}")
    columns = np.zeros((crop_width, crop_height + 2), bool)  # a 0 above and below each column bounds its runs
    columns[:, 1:-1] = bitmap.T
    changes = np.flatnonzero(columns[:, 1:] != columns[:, :-1])
    column = changes // (crop_height + 1)
    # Starts and ends of the runs of 1, alternating, as places in the image's column order.
    edges = changes + column * (height - crop_height - 1) + left * height + top
    if crop_height == height:  # only then does a run go on in the next column: its end is the next start
        joined = np.flatnonzero(edges[1:] == edges[:-1])
        edges = np.delete(edges, np.concatenate([joined, joined + 1]))
    bounds = np.concatenate([[0], edges, [height * width]])
    counts = bounds[1:] - bounds[:-1]
    if edges.size and counts[-1] == 0:
        counts = counts[:-1]
    return coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)


def paste_rles(probabilities: np.ndarray, boxes: np.ndarray, hw: SizeHW, threshold: float) -> list[RLE]:
    """Paste and encode the masks of one image, each from its own box region.

    Args:
        probabilities: float [K, M, M] in [0, 1], each on the grid of its box.
        boxes: float [K, 4], xyxy in original pixels.
        hw: height and width of the original image.
        threshold: a pixel is in the mask if its probability is greater.

    Returns:
        K RLEs of size `hw`; empty ones for boxes outside of the image.
    """
    return [encode_crop(*pasted, hw) for pasted in _paste_masks(probabilities, boxes, hw, threshold)]


def segmentation_to_rle(segmentation: list | RLE, hw: SizeHW) -> RLE:
    """Convert the `segmentation` of a COCO annotation or result.

    Args:
        segmentation: polygons (a list of flat x, y lists or arrays, original pixels; their union is the mask; parts of
            fewer than 3 points enclose nothing), or RLE with `counts` as a list of runs, text or bytes. The runs have
            to add up to the image: the COCO API reads beyond its memory otherwise. Check foreign ones first
            (data/files/segmentations.py).
        hw: height and width of the image.

    Raises:
        ValueError: an RLE of another size (expected ..., received ...).
    """
    height, width = hw
    if isinstance(segmentation, list):
        # The COCO API takes a part of 4 numbers for a box, and fails on shorter ones.
        parts = [part for part in segmentation if len(part) >= 6]
        if not parts:
            return encode_crop(np.zeros((0, 0), bool), (0, 0), hw)
        return coco_mask.merge(coco_mask.frPyObjects(parts, height, width))
    size, counts = [int(side) for side in segmentation["size"]], segmentation["counts"]
    if size != [height, width]:
        raise ValueError(f"expected an RLE of size {[height, width]}, received {size}")
    if isinstance(counts, list):
        return coco_mask.frPyObjects({"size": size, "counts": counts}, height, width)
    return {"size": size, "counts": counts.encode() if isinstance(counts, str) else counts}


def rle_to_bitmap(rle: RLE) -> np.ndarray:
    """Decode to bool [h, w]."""
    return coco_mask.decode(rle).astype(bool)


def rle_to_json(rle: RLE) -> dict[str, Any]:
    """Return the RLE as JSON can hold it: `counts` as text."""
    counts = rle["counts"]
    return {
        "size": [int(side) for side in rle["size"]],
        "counts": counts if isinstance(counts, str) else counts.decode(),
    }


class RLEMasks(Sequence):
    """The masks of one image as a sequence of RLEs.

    Args:
        rles: K RLEs, all of size `hw`.
        hw: height and width of the image; it says the size where K is 0.
    """

    def __init__(self, rles: Sequence[RLE], hw: SizeHW) -> None:
        self._rles = list(rles)
        self.hw = (int(hw[0]), int(hw[1]))

    def __len__(self) -> int:
        return len(self._rles)

    def __getitem__(self, index: int | slice) -> RLE | RLEMasks:
        if isinstance(index, slice):
            return RLEMasks(self._rles[index], self.hw)
        return self._rles[index]

    def __iter__(self) -> Iterator[RLE]:
        return iter(self._rles)

    def __repr__(self) -> str:
        return f"RLEMasks({len(self)} masks of {self.hw[0]}x{self.hw[1]})"

    def dense(self) -> np.ndarray:
        """Decode all masks to bool [K, H, W]; K x H x W bytes."""
        masks = np.zeros((len(self), *self.hw), bool)
        for mask, rle in zip(masks, self._rles, strict=True):
            mask[:] = rle_to_bitmap(rle)
        return masks
