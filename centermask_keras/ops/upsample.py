"""Bilinear upsampling by a whole factor, of maps of any size, also one that is unknown until the graph runs.

Stage: kernels; used by heads/fcos.py. Keras' bilinear `UpSampling2D` needs the size beforehand.
"""

from __future__ import annotations

import keras
from keras import ops

from centermask_keras.structures import Tensor


class BilinearUpsample(keras.layers.Layer):
    """Upsample maps bilinearly: half-pixel convention, the edge repeated.

    Args:
        factor: cells of the output per cell of the input, along both axes.

    Call arguments:
        features: float [B, h, w, F].

    Returns:
        compute dtype [B, h * factor, w * factor, F].
    """

    def __init__(self, factor: int, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, features: Tensor) -> Tensor:
        batch, height, width, channels = ops.shape(features)
        rows = ops.reshape(self._interleave(features, 1), (batch, height * self.factor, width, channels))
        return ops.reshape(self._interleave(rows, 2), (batch, height * self.factor, width * self.factor, channels))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        batch, height, width, channels = input_shape
        return (batch, *(side and side * self.factor for side in (height, width)), channels)

    def _interleave(self, x: Tensor, axis: int) -> Tensor:
        """Put the `factor` samples within each element of an axis on a new axis behind it."""
        indices, length = ops.arange(ops.shape(x)[axis], dtype="int32"), ops.shape(x)[axis]
        before = ops.take(x, ops.maximum(indices - 1, 0), axis=axis)
        after = ops.take(x, ops.minimum(indices + 1, length - 1), axis=axis)
        samples = []
        for phase in range(self.factor):
            shift = (phase + 0.5) / self.factor - 0.5  # from the centre of the element
            neighbour = before if shift < 0 else after
            samples.append((1 - abs(shift)) * x + abs(shift) * neighbour)
        return ops.stack(samples, axis=axis + 1)
