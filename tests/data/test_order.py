"""The order of samples: COCO's epochs are permutations; LVIS repeats images with rare classes, by a fixed length."""

import math
from collections import Counter

import numpy as np
import pytest

from centermask_keras.data.order import REPEAT_THRESHOLD, SampleOrder, repeat_factors


class Images:
    """Images by the classes of their objects: their repeat factors, and their order."""

    def __init__(self, classes_of, num_classes, *, lvis=True, image_hw=None):
        object_start = np.concatenate([[0], np.cumsum([len(classes) for classes in classes_of])])
        classes = np.array([c for classes in classes_of for c in classes], np.int32)
        self.factors = repeat_factors(object_start, classes, num_classes) if lvis else np.ones(len(classes_of))
        self.order = SampleOrder(image_hw or [(2, 3)] * len(classes_of), self.factors)


RARE = {2: 5, 3: 4, 4: 3, 5: 2, 6: 1}
"""Images of each rare class, some of them shared; with 6 in 6,000 a class would not be repeated."""


def make_lvis():
    """Return a dataset of 6,000 images and the classes of their objects, often two of a class; some are empty."""
    classes_of = [[0] * (1 + i % 2) + [1] * (i % 10 == 0) if i % 7 else [] for i in range(6000)]
    for category, count in RARE.items():
        for image in range(100 * category, 100 * category + count):
            classes_of[image] += [category]
    classes_of[200] += [6, 6]  # two images of class 6 now, and the first of class 2 is repeated more often
    return Images(classes_of, 8), classes_of


def test_factors_equal_the_formula():
    dataset, classes_of = make_lvis()
    share = {c: sum(c in classes for classes in classes_of) / len(classes_of) for c in range(7)}
    assert max(share[c] for c in RARE) < REPEAT_THRESHOLD < share[1]
    expected = [max([1.0, *(math.sqrt(REPEAT_THRESHOLD / share[c]) for c in classes)]) for classes in classes_of]
    np.testing.assert_allclose(dataset.factors, expected, rtol=1e-12)
    assert sum(factor > 1 for factor in expected) == 15


def test_coco_and_lvis_without_rare_classes_have_plain_permutations():
    plain = Images([[0], [1], [0, 1]] * 30, 2, lvis=False)
    frequent = Images([[0], [1], [0, 1]] * 30, 2)
    for epoch in range(3):
        expected = np.random.default_rng([5, 0, epoch]).permutation(90)
        for dataset in (plain, frequent):
            assert dataset.order.length() == 90
            np.testing.assert_array_equal(dataset.order.epoch(5, epoch), expected)


def test_images_come_as_often_as_their_factor_says_in_epochs_of_one_length():
    dataset, _ = make_lvis()
    factors, epochs = dataset.factors, 600
    counts = np.zeros((epochs, len(factors)), int)
    for epoch in range(epochs):
        order = dataset.order.epoch(3, epoch)
        assert len(order) == dataset.order.length()
        counts[epoch] = np.bincount(order, minlength=len(factors))
    assert dataset.order.length() - factors.sum() < 1
    assert (counts >= np.floor(factors)).all() and (counts <= np.floor(factors) + 1).all()
    repeated, whole = factors > 1, np.floor(factors)
    assert repeated.sum() > 5
    parts = factors - whole
    expected = whole + parts * np.ceil(parts.sum()) / parts.sum()
    # A mean of draws of 0 or 1 deviates by 0.5 / sqrt(epochs) at most; 4 times that is beyond chance.
    np.testing.assert_allclose(counts[:, repeated].mean(axis=0), expected[repeated], rtol=0, atol=2 / math.sqrt(epochs))
    assert (counts[:, ~repeated] == 1).all()


def test_order_follows_from_seed_and_epoch_and_is_shuffled():
    dataset, _ = make_lvis()
    first, again = dataset.order.epoch(3, 1), make_lvis()[0]
    np.testing.assert_array_equal(again.order.epoch(3, 1), first)
    assert (dataset.order.epoch(3, 2) != first).mean() > 0.9
    assert (dataset.order.epoch(4, 1) != first).mean() > 0.9
    repeats = [image for image, count in Counter(first.tolist()).items() if count > 1]
    gaps = [np.diff(np.flatnonzero(first == image))[0] for image in repeats]
    assert max(gaps) > 100  # the copies of an image are not side by side


@pytest.mark.parametrize("factor", [2, 3])
def test_whole_factors_repeat_exactly(factor):
    images = 4000 * factor**2
    rare = Images([[0]] * 4 + [[1]] * (images - 4), 2)  # f = 4 / images = t / factor^2
    factors = rare.factors
    assert factors[0] == pytest.approx(factor, rel=1e-12)
    counts = np.bincount(rare.order.epoch(0, 0), minlength=images)
    assert counts[:4].sum() in (4 * factor, 4 * factor + 1) and (counts[4:] == 1).all()


def test_the_ways_part_the_images_with_their_repeats():
    classes_of = [[0]] * 4 + [[1]] * 15996  # f = t / 4: the first four come twice
    image_hw = [(3, 2) if i % 4 == 0 else (2, 2 + i % 2) for i in range(16000)]
    dataset = Images(classes_of, 2, image_hw=image_hw)
    assert (dataset.order.length("high"), dataset.order.length("wide")) == (4001, 12003)
    for way, rest in (("high", [0]), ("wide", [1, 2, 3])):
        order = dataset.order.epoch(0, 0, way)
        assert sorted(order) == sorted([i for i in range(16000) if i % 4 in rest] + rest)
