"""Letterbox, original size and random crop: where the image lands, and the distribution of the choices."""

from pathlib import Path

import numpy as np
import pytest

from centermask_keras.config import load_config
from centermask_keras.data.samples.transform import (
    make_eval_transform,
    make_keep,
    make_letterbox,
    make_random_crop,
    make_random_window,
    mirror,
)
from centermask_keras.geometry.transform import apply_to_boxes, apply_to_points, invert

CONFIGS = Path(__file__).parents[3] / "configs"
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


@pytest.mark.parametrize(("name", "canvas_hw"), [("dla34", (448, 640)), ("hourglass104", (512, 640))])
def test_evaluation_at_the_original_size_pads_to_what_the_backbone_needs(name, canvas_hw):
    config = load_config(CONFIGS / f"{name}.json")
    assert config.eval.resize == "keep"
    assert make_eval_transform((427, 640), config)[1] == canvas_hw


def draw(seed, *, hw=(480, 640), canvas_hw=(512, 512), scale=SCALES):
    return make_random_crop(hw, canvas_hw, scale=scale, rng=np.random.default_rng(seed))


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


@pytest.mark.parametrize("horizontal", [False, True])
@pytest.mark.parametrize("vertical", [False, True])
def test_mirrors_change_nothing_but_the_direction(horizontal, vertical):
    plain = draw(3, canvas_hw=(256, 512))
    mirrored = mirror(plain, (256, 512), horizontal=horizontal, vertical=vertical)
    assert (mirrored[0] < 0, mirrored[1] < 0) == (horizontal, vertical)
    x, y = apply_to_points(plain, np.array([123.0, 45.0]))
    expected = [512 - x if horizontal else x, 256 - y if vertical else y]
    np.testing.assert_allclose(apply_to_points(mirrored, np.array([123.0, 45.0])), expected)


def window(seed, *, hw, canvas_hw=(256, 384), scale=(0.5, 1.5)):
    return make_random_window(hw, canvas_hw, scale=scale, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("hw", [(1024, 1024), (384, 576)])
def test_a_window_lies_inside_of_an_image_with_room_for_it(hw):
    """Whatever the size of the image, objects are enlarged by the inverse of the scale and no more."""
    for seed in range(300):
        transform = window(seed, hw=hw)
        left, top, right, bottom = apply_to_boxes(invert(transform), np.array([0.0, 0.0, 384.0, 256.0]))
        assert left >= -1e-9 and top >= -1e-9 and right <= hw[1] + 1e-9 and bottom <= hw[0] + 1e-9
        assert transform[0] == transform[1] and 1 / 1.5 - 1e-9 <= transform[0] <= 2 + 1e-9


def test_windows_reach_every_edge():
    corners = np.array([invert(window(seed, hw=(300, 500), scale=(1.0, 1.0)))[2:] for seed in range(400)])
    assert corners[:, 0].min() < 3 and corners[:, 0].max() > 500 - 384 - 3
    assert corners[:, 1].min() < 2 and corners[:, 1].max() > 300 - 256 - 2


def test_an_image_smaller_than_the_window_floats_inside_of_it():
    for seed in range(100):
        left, top, right, bottom = apply_to_boxes(
            window(seed, hw=(40, 50), scale=(1.0, 1.0)), np.array([0.0, 0.0, 50.0, 40.0])
        )
        assert left >= 0 and top >= 0 and right <= 384 and bottom <= 256


def test_one_scale_only_and_a_canvas_of_another_shape():
    transform = draw(0, hw=(100, 400), canvas_hw=(128, 256), scale=(1.0, 1.0))
    np.testing.assert_allclose(transform[:2], min(128 / 100, 256 / 400))
