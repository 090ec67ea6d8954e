"""Losses of FCOS equal their definitions, element by element, and ignore what they should."""

import math

import naive
import numpy as np
import pytest

from centermask_keras.losses.fcos import centerness_loss, focal_loss, giou_loss

RNG = np.random.default_rng(0)
B, T, C = 2, 5, 3


def test_focal_loss_equals_its_definition():
    logits = RNG.normal(0, 4, (B, T, C)).astype("float32")
    classes, positive = RNG.integers(0, C, (B, T)), RNG.random((B, T)) < 0.5
    ignored = RNG.random((B, T, C)) < 0.3
    expected = 0.0
    for b, t, c in np.ndindex(B, T, C):
        p = float(naive.sigmoid(logits[b, t, c]))
        if positive[b, t] and classes[b, t] == c:
            expected += -0.25 * (1 - p) ** 2 * math.log(p)
        elif not ignored[b, t, c]:
            expected += -0.75 * p**2 * math.log(1 - p)
    assert float(focal_loss(logits, classes, positive, ignored, 3.0)) == pytest.approx(expected / 3, rel=1e-4)


@pytest.mark.parametrize("logit", [-200.0, 200.0])
def test_focal_loss_is_finite_at_any_logit(logit):
    value = focal_loss(np.full((1, 1, 1), logit, "float32"), [[0]], np.array([[True]]), np.zeros((1, 1, 1), bool), 1.0)
    assert np.isfinite(float(value))


def naive_giou(p, t):
    a, b = ((-d[0], -d[1], d[2], d[3]) for d in (p, t))
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    overlap = naive.iou(a, b)
    union = sum(areas) / (1 + overlap)  # overlap = I / U and I + U = sum of the areas
    return overlap - (hull - union) / hull


def test_giou_loss_equals_its_definition():
    predicted, target = (RNG.uniform(0.1, 6, (B, T, 4)).astype("float32") for _ in range(2))
    weight = RNG.random((B, T)).astype("float32") * (RNG.random((B, T)) < 0.6)
    total = sum(weight[b, t] * (1 - naive_giou(predicted[b, t], target[b, t])) for b, t in np.ndindex(B, T))
    assert float(giou_loss(predicted, target, weight)) == pytest.approx(total / weight.sum(), rel=1e-4)


def test_giou_loss_is_0_for_equal_boxes_1_for_an_empty_one_and_finite_for_two():
    box, empty, one = np.full((1, 1, 4), 2.0, "float32"), np.zeros((1, 1, 4), "float32"), np.ones((1, 1), "float32")
    assert float(giou_loss(box, box, one)) == pytest.approx(0, abs=1e-5)
    assert float(giou_loss(empty, box, one)) == pytest.approx(1, abs=1e-5)
    assert np.isfinite(float(giou_loss(empty, empty, one)))


def test_without_positives_boxes_and_centerness_lose_nothing():
    boxes = RNG.uniform(0, 6, (B, T, 4)).astype("float32")
    assert float(giou_loss(boxes, boxes[::-1], np.zeros((B, T), "float32"))) == 0
    assert float(centerness_loss(boxes[..., 0], boxes[..., 1], np.zeros((B, T), bool), 1.0)) == 0


def test_centerness_loss_is_the_cross_entropy_of_the_positives():
    logits, target = RNG.normal(0, 3, (B, T)).astype("float32"), RNG.random((B, T)).astype("float32")
    positive = RNG.random((B, T)) < 0.5
    expected = naive.binary_cross_entropy(logits, target)[positive].sum() / 4
    assert float(centerness_loss(logits, target, positive, 4.0)) == pytest.approx(expected, rel=1e-5)
