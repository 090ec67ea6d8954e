"""FCOS targets equal the loop over locations and objects: assignment, ranges, ambiguity, distances, centerness."""

import naive
import numpy as np
import pytest

from centermask_keras.targets.fcos import centerness_of, encode_fcos


def pyramid_hw(hw):
    return [tuple(-(-side // stride) for side in hw) for stride in (8, 16, 32, 64, 128)]


def encode(boxes, classes=None, valid=None, hw=(256, 320)):
    boxes = np.asarray(boxes, "float32")
    classes = np.arange(len(boxes)) if classes is None else classes
    valid = np.ones(len(boxes), bool) if valid is None else valid
    targets = encode_fcos(boxes[None], np.asarray(classes, "int32")[None], valid[None], levels_hw=pyramid_hw(hw))
    return {name: np.asarray(value)[0] for name, value in targets.items()}


def check(boxes, classes, valid, hw):
    targets = encode(boxes, classes, valid, hw)
    expected = naive.fcos_targets(boxes, classes, valid, pyramid_hw(hw))
    assert targets["positive"].tolist() == [row is not None for row in expected]
    for index, row in enumerate(expected):
        if row is None:
            assert not targets["distances"][index].any() and targets["centerness"][index] == 0
            continue
        assert (targets["objects"][index], targets["classes"][index]) == row[:2]
        np.testing.assert_allclose(targets["distances"][index], row[2], rtol=1e-5, atol=1e-5)
        assert targets["centerness"][index] == pytest.approx(row[3], abs=1e-5)
    return sum(row is not None for row in expected)


@pytest.mark.parametrize("seed", range(4))
def test_targets_equal_the_loop(seed):
    rng = np.random.default_rng(seed)
    count, hw = 12, (256, 352)
    corners = rng.uniform(-20, 300, (count, 2))
    # Sizes over all levels; whole numbers in half of the cases, so that borders and ranges are hit exactly.
    boxes = np.concatenate([corners, corners + np.exp(rng.uniform(np.log(4), np.log(700), (count, 2)))], axis=1)
    boxes = np.clip(boxes, 0, [hw[1], hw[0], hw[1], hw[0]])
    boxes = np.round(boxes / 4) * 4 if seed % 2 else boxes
    boxes = boxes.astype("float32")
    assert check(boxes, rng.integers(0, 5, count), rng.random(count) < 0.8, hw) > 20


@pytest.mark.parametrize(("place", "stride", "first", "beyond"), [(36, 8, 0, 64.5), (40, 16, 16 * 16, 63.5)])
def test_ranges_are_closed_at_both_ends(place, stride, first, beyond):
    """A farthest side of exactly 64 pixels belongs to P3, from (36, 36), and to P4, from (40, 40)."""
    cell = first + place // stride * (128 // stride) + place // stride
    for farthest, positive in ((64, True), (beyond, False)):
        box = [place - 60, place - 60, place + farthest, place + 60]
        assert encode([box], hw=(128, 128))["positive"][cell] == positive


def test_the_smallest_box_counts_and_of_equal_ones_the_first():
    large, small = [0, 0, 60, 60], [20, 20, 44, 44]
    for boxes, chosen in (([large, small], 1), ([small, large], 0), ([small, small], 0)):
        targets = encode(boxes, hw=(64, 64))
        assert targets["positive"][3 * 8 + 3] and targets["objects"][3 * 8 + 3] == chosen


def test_borders_of_box_and_of_the_sampling_square_are_open():
    on_border = encode([[12, 12, 30, 30]], hw=(64, 64))  # its corner is the location (12, 12)
    assert not on_border["positive"][1 * 8 + 1] and on_border["positive"][2 * 8 + 2]
    # Centre (32, 32), square of 12 pixels: the locations 20 and 44 lie on its border.
    targets = encode([[2, 2, 62, 62]], hw=(64, 64))["positive"][:64].reshape(8, 8)
    assert targets[3:5, 3:5].all() and not targets[2].any() and not targets[:, 5].any()


def test_without_objects_nothing_is_positive():
    padded = np.full((2, 4), 50.0)
    padded[:, 2:] = 90
    targets = encode(padded, valid=np.zeros(2, bool))
    assert not targets["positive"].any() and not targets["distances"].any() and not targets["centerness"].any()


def test_centerness_is_1_at_the_centre_and_0_on_the_border():
    distances = np.array([[2, 3, 2, 3], [0, 3, 4, 3], [1, 1, 3, 1], [0, 0, 0, 0]], "float32")
    np.testing.assert_allclose(centerness_of(distances), [1, 0, np.sqrt(1 / 3), 0], atol=1e-6)
