"""Batch normalisation in one fused operation.

Keras composes it of a dozen elementwise operations in float32, whatever the precision around it, and keeps float32
copies of every map. The fused operation of TensorFlow normalises in bfloat16, with statistics in float32.
"""

from __future__ import annotations

import keras
from keras import ops

from centermask_keras.structures import Tensor


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation over the last axis with the fused operation of TensorFlow; as in Keras on other backends.

    Input and output are in the compute dtype, statistics and parameters in float32.
    Deviations: the moving variance is the unbiased one (n / (n - 1)), as in PyTorch and so in the CenterNet release.

    Call arguments:
        inputs: float [B, h, w, F].
        training: normalise by the statistics of the batch and move the averages, or by the averages.

    Returns:
        Compute dtype [B, h, w, F].
    """

    def call(self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        if keras.backend.backend() != "tensorflow" or self.synchronized or mask is not None:
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        from_batch = bool(training and self.trainable)
        statistics = {} if from_batch else {"mean": self.moving_mean, "variance": self.moving_variance}
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            ops.convert_to_tensor(self.gamma),
            ops.convert_to_tensor(self.beta),
            **{name: ops.convert_to_tensor(value) for name, value in statistics.items()},
            epsilon=self.epsilon,
            is_training=from_batch,
        )
        if from_batch:
            self._move(self.moving_mean, mean)
            self._move(self.moving_variance, variance)
        return outputs

    def _move(self, average: keras.Variable, value: Tensor) -> None:
        average.assign(average * self.momentum + ops.stop_gradient(value) * (1.0 - self.momentum))
