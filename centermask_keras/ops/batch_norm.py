"""Batch normalisation in one fused operation, or synchronised over replicas.

Keras composes it of a dozen elementwise operations in float32, whatever the precision around it, and keeps float32
copies of every map. The fused operation of TensorFlow normalises in bfloat16, with statistics in float32.
"""

from __future__ import annotations

import keras
from keras import ops

from centermask_keras.ops.replicas import num_replicas, sum_over_replicas
from centermask_keras.structures import Tensor


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation over the last axis, with the fused operation of TensorFlow where that is the backend.

    Input and output are in the compute dtype, statistics and parameters in float32. Under a strategy each replica
    normalises by its own statistics and the averages move by the mean of them; `synchronized` takes the statistics of
    the whole batch. Under `keras.distribution` (JAX) they always are those of the whole batch.
    Deviations: the moving variance is the unbiased one (n / (n - 1)), as in PyTorch and so in the CenterNet release.

    Call arguments:
        inputs: float [B, h, w, F].
        training: normalise by the statistics of the batch and move the averages, or by the averages.

    Returns:
        Compute dtype [B, h, w, F].
    """

    def call(self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            return super().call(inputs, training=training, mask=mask)
        from_batch = bool(training and self.trainable)
        fused = keras.backend.backend() == "tensorflow"
        if not from_batch:
            return self._fused(inputs)[0] if fused else super().call(inputs, training=False)
        fused = fused and not (self.synchronized and num_replicas() > 1)
        outputs, mean, variance = self._fused(inputs, from_batch=True) if fused else self._composed(inputs)
        mean, variance = (total / num_replicas() for total in sum_over_replicas([mean, variance]))
        self._move(self.moving_mean, mean)
        self._move(self.moving_variance, variance)
        return outputs

    def _fused(self, inputs: Tensor, from_batch: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Normalise by one operation; return the mean and the unbiased variance of the batch as well."""
        import tensorflow as tf

        statistics = {} if from_batch else {"mean": self.moving_mean, "variance": self.moving_variance}
        return tf.compat.v1.nn.fused_batch_norm(
            inputs,
            ops.convert_to_tensor(self.gamma),
            ops.convert_to_tensor(self.beta),
            **{name: ops.convert_to_tensor(value) for name, value in statistics.items()},
            epsilon=self.epsilon,
            is_training=from_batch,
        )

    def _composed(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalise by the statistics of all replicas; return mean and unbiased variance as well.

        Two passes, the mean first: the difference of the mean square and the squared mean would lose digits.
        """
        values = ops.cast(inputs, "float32")
        count = ops.cast(ops.prod(ops.shape(values)[:3]), "float32") * num_replicas()
        mean = sum_over_replicas(ops.sum(values, axis=(0, 1, 2))) / count
        centered = values - mean
        variance = sum_over_replicas(ops.sum(ops.square(centered), axis=(0, 1, 2))) / count
        outputs = centered * (ops.rsqrt(variance + self.epsilon) * self.gamma) + self.beta
        return ops.cast(outputs, self.compute_dtype), mean, variance * (count / ops.maximum(count - 1.0, 1.0))

    def _move(self, average: keras.Variable, value: Tensor) -> None:
        average.assign(average * self.momentum + ops.stop_gradient(value) * (1.0 - self.momentum))
