"""The first layer: what colours the network sees."""

import numpy as np

from centermask_keras.ops.image_normalization import IMAGE_MEAN, IMAGE_STD, ImageNormalization


def test_normalisation_gives_the_statistics_zero_mean_and_unit_variance():
    pixels = 255 * np.array([IMAGE_MEAN, np.add(IMAGE_MEAN, IMAGE_STD)], np.float32)
    normalised = np.asarray(ImageNormalization(per_image=False)(pixels[None, None]))
    np.testing.assert_allclose(normalised[0, 0], [[0, 0, 0], [1, 1, 1]], atol=1e-5)


def test_normalisation_per_image_undoes_brightness_and_contrast():
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 200, (2, 8, 9, 3)).astype("float32")
    images[1] = 10 + images[0] / 8
    normalised = np.asarray(ImageNormalization(per_image=True)(images))
    np.testing.assert_allclose(normalised[0], normalised[1], atol=1e-4)
    assert abs(normalised[0].mean()) < 1e-5 and abs(normalised[0].std() - 1) < 1e-5


def test_normalisation_per_image_does_not_amplify_noise_without_bound():
    image = np.full((1, 8, 8, 3), 7.0, "float32")
    image[0, 0, 0] = 8.0
    assert np.abs(ImageNormalization(per_image=True)(image)).max() <= 0.25
