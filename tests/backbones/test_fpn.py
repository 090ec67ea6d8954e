"""The pyramid: five levels, their sizes, where each comes from."""

import numpy as np
import pytest

from centermask_keras.backbones.fpn import LEVELS, build_fpn
from centermask_keras.backbones.resnet import build_resnet


@pytest.fixture(scope="module")
def pyramid():
    return build_fpn(build_resnet("resnet_small", deformable=False, frozen_norm=True), 16)


def test_levels_have_strides_8_to_128_rounded_up(pyramid):
    levels = pyramid(np.zeros((1, 96, 160, 3), "float32"))
    assert tuple(levels) == LEVELS
    shapes = {level: tuple(value.shape) for level, value in levels.items()}
    assert shapes == {level: (1, -(-96 // 2**n), -(-160 // 2**n), 16) for n, level in enumerate(LEVELS, start=3)}


def test_weights_are_counted_by_hand(pyramid):
    laterals = sum((channels + 1) * 16 for channels in (256, 512, 1024))
    own = laterals + 5 * (9 * 16 + 1) * 16  # three outputs, P6, P7
    backbone = build_resnet("resnet_small", deformable=False, frozen_norm=True)
    assert pyramid.count_params() - backbone.count_params() == own


def test_each_level_depends_on_what_it_should(pyramid):
    """P5 and what stands on it see C5 alone; P4 also C4; P3 all."""
    images = np.random.standard_normal((1, 64, 64, 3)).astype("float32")
    before = {level: np.array(value) for level, value in pyramid(images).items()}
    changed = {}
    for lateral in (3, 4, 5):
        bias = pyramid.get_layer(f"fpn_lateral{lateral}").bias
        bias.assign(bias + 1.0)
        after = pyramid(images)
        changed[lateral] = {level for level in LEVELS if np.abs(after[level] - before[level]).max() > 1e-4}
        bias.assign(bias - 1.0)
    assert changed == {3: {"P3"}, 4: {"P3", "P4"}, 5: set(LEVELS)}


def test_p7_stands_on_the_rectified_p6(pyramid):
    images = np.random.standard_normal((1, 64, 64, 3)).astype("float32")
    layer = pyramid.get_layer("top_block_p6")
    kernel, bias = np.array(layer.kernel), np.array(layer.bias)
    layer.kernel.assign(0 * kernel)
    layer.bias.assign(np.full_like(bias, -1.0))
    levels = pyramid(images)
    layer.kernel.assign(kernel)
    layer.bias.assign(bias)
    expected = np.broadcast_to(pyramid.get_layer("top_block_p7").bias, levels["P7"].shape)
    assert np.all(np.asarray(levels["P6"]) == -1)
    np.testing.assert_allclose(levels["P7"], expected, atol=1e-6)
