"""The colours of an image as the network takes them: zero mean and unit variance."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from centermask_keras.structures import Tensor

IMAGE_MEAN = (0.47026115, 0.44719302, 0.40789654)
"""Mean of COCO's pixels in 0..1, RGB (CenterNet)."""
IMAGE_STD = (0.27809835, 0.27408164, 0.28863828)
"""Standard deviation of COCO's pixels in 0..1, RGB (CenterNet)."""
LEAST_DEVIATION = 4.0
"""Grey levels: an image that varies less than this (an empty slide) is not amplified any further."""


class ImageNormalization(keras.layers.Layer):
    """Bring RGB values 0..255 [B, H, W, 3] to zero mean and unit variance, in float32 before any lower precision.

    By the statistics of COCO, or by those of each input over all of its pixels and channels, padding included:
    microscopes and other instruments differ in brightness and contrast from image to image, by far more than photos do.

    Args:
        per_image: which of the two.
    """

    def __init__(self, *, per_image: bool, name: str = "normalization"):
        super().__init__(name=name, dtype="float32")
        self.per_image = per_image

    def call(self, images: Tensor) -> Tensor:
        """Normalise images float32 [B, H, W, 3]."""
        if not self.per_image:
            return images * (1.0 / (255.0 * np.asarray(IMAGE_STD, "float32"))) - np.asarray(
                IMAGE_MEAN, "float32"
            ) / np.asarray(IMAGE_STD, "float32")
        centered = images - _mean_of_image(images)
        variance = _mean_of_image(ops.square(centered))
        return centered / ops.sqrt(ops.maximum(variance, LEAST_DEVIATION**2))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the shape of the input."""
        return input_shape


def _mean_of_image(values: Tensor) -> Tensor:
    """Average each image of [B, H, W, 3], by rows first: some runtimes lose digits over a million numbers."""
    return ops.mean(ops.mean(values, axis=(2, 3), keepdims=True), axis=1, keepdims=True)
