"""Colour jitter: the composed affine map equals the steps done one after the other."""

import numpy as np

from centermask_keras.data.files.images import read_image
from centermask_keras.data.samples.augment import EIGENVALUES, EIGENVECTORS, draw_color_matrix, jitter_colors


def jitter_step_by_step(image, rng, *, color, lighting):
    """Follow the reference: floats in 0..1, one image after the other, no clipping in between."""
    image = image / 255.0
    grey = image @ [0.299, 0.587, 0.114]
    brightness, contrast, saturation = rng.uniform(1 - color, 1 + color, size=3)
    for step in rng.permutation(3):
        if step == 0:
            image = image * brightness
        elif step == 1:
            image = contrast * image + (1 - contrast) * grey.mean()
        else:
            image = saturation * image + (1 - saturation) * grey[..., None]
    image = image + EIGENVECTORS @ (EIGENVALUES * rng.normal(0.0, lighting, size=3))
    return np.clip(image * 255, 0, 255)


def test_equals_the_steps_one_after_the_other(coco_tiny):
    image = read_image(sorted((coco_tiny / "images").iterdir())[0])
    for seed in range(12):
        arguments = {"color": 0.4, "lighting": 0.1}
        expected = jitter_step_by_step(image, np.random.default_rng(seed), **arguments)
        found = jitter_colors(image, np.random.default_rng(seed), **arguments)
        assert found.dtype == np.uint8
        difference = np.abs(found - expected)  # one rounding, after arithmetic in steps of 1/1024
        assert difference.max() < 1.0 and difference.mean() < 0.3


def test_no_strength_changes_nothing():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    np.testing.assert_array_equal(jitter_colors(image, np.random.default_rng(1), color=0.0, lighting=0.0), image)


def test_lighting_moves_along_the_principal_components():
    matrices = [
        draw_color_matrix(np.random.default_rng(seed), mean_grey=0.0, color=0.0, lighting=0.1) for seed in range(3000)
    ]
    shifts = np.array([matrix[:, 3] for matrix in matrices]) / 255
    np.testing.assert_allclose(matrices[0][:, :3], np.eye(3))
    np.testing.assert_allclose((shifts @ EIGENVECTORS).std(axis=0), 0.1 * EIGENVALUES, rtol=0.05)
    np.testing.assert_allclose(EIGENVECTORS.T @ EIGENVECTORS, np.eye(3), atol=1e-4)
