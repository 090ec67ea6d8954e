"""Heads on FCOS: shared by the levels, rare classes at the start, one saliency map at its stride."""

import keras
import numpy as np
import pytest

from centermask_keras.heads.fcos import LevelScale, build_box_head, build_class_head, build_saliency, build_tower


def count(model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in model.weights)


def test_towers_have_the_weights_counted_by_hand():
    block = (9 * 64 + 1) * 64 + 2 * 64  # 3x3 convolution with bias, scale and shift of the normalisation
    assert count(build_tower(64, 3, "tower")) == 3 * block
    assert count(build_class_head(64, 5, 4)) == 4 * block + (9 * 64 + 1) * 5
    assert count(build_box_head(64, 4)) == 4 * block + (9 * 64 + 1) * (4 + 1)


def test_a_fresh_class_head_says_a_hundredth():
    logits = np.asarray(build_class_head(64, 5, 2)(np.random.standard_normal((2, 6, 7, 64)).astype("float32")))
    assert logits.shape == (2, 6, 7, 5)
    assert np.median(1 / (1 + np.exp(-logits))) == pytest.approx(0.01, rel=0.1)


def test_every_side_of_a_fresh_box_has_a_gradient():
    features = np.random.standard_normal((2, 6, 7, 64)).astype("float32")
    distances = np.asarray(LevelScale()(build_box_head(64, 2)(features)["distances"]))
    assert distances.min() > 0
    assert np.median(distances) == pytest.approx(1.0, rel=0.1)


def test_group_normalisation_sees_one_image_at_a_time():
    tower = build_tower(64, 2, "tower")
    images = np.random.standard_normal((3, 5, 4, 64)).astype("float32")
    together = tower(images)
    for row in range(3):
        np.testing.assert_allclose(tower(images[row : row + 1])[0], together[row], atol=1e-5)


def test_distances_are_scaled_and_rectified():
    layer = LevelScale()
    values = np.array([[[[-1.0, 2.0, 0.5, 3.0]]]], "float32")
    np.testing.assert_array_equal(layer(values), np.maximum(values, 0))
    layer.scale.assign(2.0)
    np.testing.assert_array_equal(layer(values), np.maximum(2 * values, 0))


@pytest.mark.parametrize("stride", [8, 4])
def test_saliency_has_its_stride_and_sees_three_levels(stride):
    inputs = [keras.Input((None, None, 16)) for _ in range(3)]
    model = keras.Model(inputs, build_saliency(inputs, channels=16, out_channels=5, stride=stride, bias=-2.0))
    levels = [np.random.standard_normal((1, 64 // 2**n, 96 // 2**n, 16)).astype("float32") for n in (3, 4, 5)]
    before = np.array(model(levels))
    assert before.shape == (1, 64 // stride, 96 // stride, 5)
    for index in range(3):
        changed = list(levels)
        changed[index] = np.random.standard_normal(levels[index].shape).astype("float32")
        assert np.abs(model(changed) - before).max() > 1e-6
