"""Letterbox, original size and random crop: where the image lands, and the distribution of the choices."""

import numpy as np
import pytest

from centermask_keras.data.transform import make_keep, make_letterbox, make_random_affine, mirror
from centermask_keras.geometry.transform import apply_to_boxes, apply_to_points, invert

SCALES = (0.6, 1.3)


@pytest.mark.parametrize("hw", [(480, 640), (427, 640), (640, 427), (512, 512), (3000, 17), (1, 1), (33, 100)])
@pytest.mark.parametrize("canvas_hw", [(512, 512), (256, 384)])
def test_letterbox_lands_on_whole_pixels_in_the_middle(hw, canvas_hw):
    left, top, right, bottom = apply_to_boxes(make_letterbox(hw, canvas_hw), np.array([0.0, 0.0, hw[1], hw[0]]))
    width, height = right - left, bottom - top
    for value in (left, top, width, height):
        assert value == pytest.approx(round(value), abs=1e-9)
    assert 0 <= left and right <= canvas_hw[1] and 0 <= top and bottom <= canvas_hw[0]
    assert abs(left - (canvas_hw[1] - right)) <= 1 and abs(top - (canvas_hw[0] - bottom)) <= 1
    assert width == pytest.approx(canvas_hw[1]) or height == pytest.approx(canvas_hw[0])
    scale = min(canvas_hw[0] / hw[0], canvas_hw[1] / hw[1])
    assert abs(width - hw[1] * scale) <= 0.5 and abs(height - hw[0] * scale) <= 0.5 or min(width, height) == 1


def test_keep_pads_to_the_next_multiple_in_the_middle():
    transform, canvas_hw = make_keep((427, 640), 32)
    assert canvas_hw == (448, 640)
    np.testing.assert_array_equal(transform, [1.0, 1.0, 0.0, 10.0])
    assert make_keep((64, 33), 32)[1] == (64, 64)
    assert make_keep((5, 5), multiple=8)[1] == (8, 8)


def draw(seed, *, hw=(480, 640), canvas_hw=(512, 512), flip=0.0, scale=SCALES):
    return make_random_affine(hw, canvas_hw, scale=scale, flip=flip, rng=np.random.default_rng(seed))


def test_random_crop_has_the_eight_published_scales_equally_often():
    zooms = np.array([draw(seed)[0] for seed in range(4000)])
    fields, counts = np.unique(np.round(512 / 640 / zooms, 6), return_counts=True)
    np.testing.assert_allclose(fields, [0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3])
    assert counts.min() > 400 and counts.max() < 600


@pytest.mark.parametrize(("side", "border"), [(640, 128), (257, 128), (256, 64), (100, 32), (33, 16), (3, 1), (1, 0)])
def test_random_crop_keeps_its_centre_off_the_edges(side, border):
    """The input's middle, taken back to the original, is uniform in [border, side - border]."""
    middles = np.array([apply_to_points(invert(draw(s, hw=(side, side))), [256.0, 256.0]) for s in range(400)])
    assert middles.min() >= border - 1e-6 and middles.max() <= side - border + 1e-6
    room = side - 2 * border
    assert middles.min() < border + 0.05 * room + 1e-6 and middles.max() > side - border - 0.05 * room - 1e-6


def test_flip_changes_nothing_but_the_direction():
    for seed in range(20):
        plain, flipped = draw(seed, flip=0.0), draw(seed, flip=1.0)
        assert plain[0] > 0 > flipped[0]
        np.testing.assert_allclose(flipped, mirror(plain, (512, 512)))
        point = np.array([123.0, 45.0])
        np.testing.assert_allclose(
            apply_to_points(flipped, point), [512, 0] + apply_to_points(plain, point) * [-1, 1]
        )  # fmt: skip


def test_flip_happens_as_often_as_asked():
    flipped = np.mean([draw(seed, flip=0.5)[0] < 0 for seed in range(2000)])
    assert 0.45 < flipped < 0.55


def test_one_scale_only_and_a_canvas_of_another_shape():
    transform = draw(0, hw=(100, 400), canvas_hw=(128, 256), scale=(1.0, 1.0))
    np.testing.assert_allclose(transform[:2], min(128 / 100, 256 / 400))
