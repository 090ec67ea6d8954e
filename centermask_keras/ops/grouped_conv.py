"""Grouped convolution with the native kernel of TensorFlow.

Stage: kernels; used by ResNeXt.
Keras 3.15 sends every grouped convolution on TensorFlow through XLA, where the gradient of its kernel takes hundreds of
times as long on a CPU. The native kernels of TensorFlow 2.21 are right in both directions; the test holds them to it.
"""

from __future__ import annotations

import keras

from centermask_keras.structures import Tensor


class GroupedConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` (channels last, no dilation) that calls TensorFlow's own kernel where it is the backend."""

    def convolution_op(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """Convolve inputs float [B, h, w, C] with a kernel [side, side, C / groups, F]."""
        if keras.backend.backend() != "tensorflow":
            return super().convolution_op(inputs, kernel)
        import tensorflow as tf

        return tf.nn.conv2d(inputs, tf.convert_to_tensor(kernel), strides=self.strides, padding=self.padding.upper())
