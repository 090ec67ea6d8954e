"""The endless order of training samples, which the seed alone decides: position p is a place in epoch p // length.

Stage: data. An epoch is a permutation of the images. Of LVIS, images with rare classes come several times: as often as
their repeat factor says, rounded up or down by chance, so that every epoch has the same length.
Source: Gupta et al. 2019, "LVIS" (arXiv 1908.03195), Section 4.2, for the factors.
Deviations: fractions are rounded by one systematic draw per epoch, not by one draw per image, which fixes the length of
the epoch. An image keeps its expected number, but that the sum of all fractions is rounded up to a whole number.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import numpy as np

from centermask_keras.data.annotations import Annotations

Way = Literal["all", "wide", "high"]
"""Which images: all, those no higher than wide, or the others."""
REPEAT_THRESHOLD = 0.001
"""t: classes in a smaller share of the images are repeated (LVIS)."""
ORDER_STREAM = 0  # keeps the random numbers of epochs apart from those of samples (data/rows.py)
OFFSETS = 2**20  # steps of the systematic draw: with so few digits its sums are exact


@lru_cache(maxsize=8)
def repeat_factors(annotations: Annotations) -> np.ndarray:
    """Return how often each image comes in an epoch on average: float64 [I], at least 1; 1 but for LVIS.

    That of an image is the largest of its classes', and that of a class max(1, sqrt(t / f)), f its share of the images.
    """
    factors = np.ones(len(annotations))
    if annotations.known_classes is None:
        return factors
    image_of = np.repeat(np.arange(len(annotations)), np.diff(annotations.object_start))
    image, category = np.unique(np.stack([image_of, annotations.classes]), axis=1)
    share = np.bincount(category, minlength=annotations.num_classes) / len(annotations)
    np.maximum.at(factors, image, np.sqrt(REPEAT_THRESHOLD / share[category]))
    return factors


@lru_cache(maxsize=8)
def epoch_length(annotations: Annotations, way: Way = "all") -> int:
    """Return the samples in an epoch of the images that lie one way."""
    whole, parts = _split(repeat_factors(annotations)[_images_of(annotations, way)])
    return int(whole.sum()) + math.ceil(parts.sum())


@lru_cache(maxsize=8)  # the pipeline runs ahead: two epochs of each way are in use where one ends
def epoch_order(annotations: Annotations, seed: int, epoch: int, way: Way = "all") -> np.ndarray:
    """Return the images of one epoch, those that lie one way, in their order: int64 [epoch_length]."""
    rng = np.random.default_rng([seed, ORDER_STREAM, epoch])
    order = rng.permutation(_images_of(annotations, way))
    whole, parts = (values[order] for values in _split(repeat_factors(annotations)))
    if not parts.any():
        return order if (whole == 1).all() else rng.permutation(np.repeat(order, whole))
    total = math.ceil(parts.sum())
    reached = np.cumsum(parts) * (total / parts.sum())  # their sum, rounded up, is the number of places
    reached[-1] = total
    places = np.floor(reached + rng.integers(OFFSETS) / OFFSETS).astype(np.int64)
    return rng.permutation(np.repeat(order, whole + np.diff(places, prepend=0)))


@lru_cache(maxsize=8)
def _images_of(annotations: Annotations, way: Way) -> np.ndarray:
    """Return the images that lie one way: int64 [I]."""
    if way == "all":
        return np.arange(len(annotations))
    height, width = np.asarray(annotations.image_hw).T
    return np.flatnonzero((height > width) == (way == "high"))


def _split(factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the whole numbers (int64) and the parts left of 1 (float64)."""
    whole = np.floor(factors).astype(np.int64)
    return whole, factors - whole
