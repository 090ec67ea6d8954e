"""The endless order of training samples, which the seed alone decides: position p is a place in epoch p // length.

Stage: data. An epoch is a permutation of the images. Of LVIS, images with rare classes come several times: as often as
their repeat factor says, rounded up or down by chance, so that every epoch has the same length.
Source: Gupta et al. 2019, "LVIS" (arXiv 1908.03195), Section 4.2, for the factors.
Deviations: fractions are rounded by one systematic draw per epoch, not by one draw per image, which fixes the length of
the epoch. An image keeps its expected number, but that the sum of all fractions is rounded up to a whole number.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import Literal

import numpy as np

Way = Literal["all", "wide", "high"]
"""Which images: all, those no higher than wide, or the others."""
REPEAT_THRESHOLD = 0.001
"""t: classes in a smaller share of the images are repeated (LVIS)."""
ORDER_STREAM = 0  # keeps the random numbers of epochs apart from those of samples (data/feeding/rows.py)
OFFSETS = 2**20  # steps of the systematic draw: with so few digits its sums are exact


class SampleOrder:
    """The order of the images of one dataset. Any thread may ask for it."""

    def __init__(self, image_hw: np.ndarray, factors: np.ndarray):
        """Part the images by the way they lie.

        Args:
            image_hw: int [I, 2].
            factors: float64 [I], how often each image comes in an epoch on average, at least 1 (`repeat_factors`).
        """
        height, width = np.asarray(image_hw).reshape(-1, 2).T
        high = height > width
        images = {"all": np.arange(len(factors)), "wide": np.flatnonzero(~high), "high": np.flatnonzero(high)}
        self._lengths = {way: _length(*_split(factors[chosen])) for way, chosen in images.items()}
        # The pipeline runs ahead: two epochs of each way are in use where one ends.
        self._epoch = lru_cache(maxsize=8)(partial(_draw_epoch, images, factors))

    def length(self, way: Way = "all") -> int:
        """Return the samples in an epoch of the images that lie one way."""
        return self._lengths[way]

    def epoch(self, seed: int, epoch: int, way: Way = "all") -> np.ndarray:
        """Return the images of one epoch, those that lie one way, in their order: int64 [length]."""
        return self._epoch(seed, epoch, way)


def repeat_factors(object_start: np.ndarray, classes: np.ndarray, num_classes: int) -> np.ndarray:
    """Return how often each image of LVIS comes in an epoch on average: float64 [I], at least 1.

    That of an image is the largest of its classes', and that of a class max(1, sqrt(t / f)), f its share of the images.

    Args:
        object_start: int64 [I + 1], where the objects of each image begin.
        classes: int32 [O], of the objects.
        num_classes: C.
    """
    factors = np.ones(len(object_start) - 1)
    image_of = np.repeat(np.arange(len(factors)), np.diff(object_start))
    image, category = np.unique(np.stack([image_of, classes]), axis=1)
    share = np.bincount(category, minlength=num_classes) / len(factors)
    np.maximum.at(factors, image, np.sqrt(REPEAT_THRESHOLD / share[category]))
    return factors


def _draw_epoch(images: dict[Way, np.ndarray], factors: np.ndarray, seed: int, epoch: int, way: Way) -> np.ndarray:
    rng = np.random.default_rng([seed, ORDER_STREAM, epoch])
    order = rng.permutation(images[way])
    whole, parts = _split(factors[order])
    if not parts.any():
        return order if (whole == 1).all() else rng.permutation(np.repeat(order, whole))
    total = math.ceil(parts.sum())
    reached = np.cumsum(parts) * (total / parts.sum())  # their sum, rounded up, is the number of places
    reached[-1] = total
    places = np.floor(reached + rng.integers(OFFSETS) / OFFSETS).astype(np.int64)
    return rng.permutation(np.repeat(order, whole + np.diff(places, prepend=0)))


def _length(whole: np.ndarray, parts: np.ndarray) -> int:
    return int(whole.sum()) + math.ceil(parts.sum())


def _split(factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the whole numbers (int64) and the parts left of 1 (float64)."""
    whole = np.floor(factors).astype(np.int64)
    return whole, factors - whole
