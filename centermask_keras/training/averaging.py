"""Averaged weights: an exponential moving average of everything a model has learned.

Stage: training. The average lives in a second model of the same structure, which is what validation evaluates and
what is saved; training goes on from the raw weights and never sees it.
Deviations: Keras' `use_ema` averages only trainable variables, at micro-steps of gradient accumulation as well, with
no warm-up; here the moving statistics of batch normalisation are averaged too, once per update.
"""

import keras
import tensorflow as tf
from keras import ops


class WeightAverage(keras.callbacks.Callback):
    """Keep the moving average of the trained model's weights in `averaged`.

    After update t (1, 2, ...) every float variable becomes d * average + (1 - d) * value with
    d = min(decay, (1 + t) / (10 + t)): the warm-up lets short runs forget their random initial weights.
    Without a decay `averaged` is a plain copy, made by `update`.

    Args:
        averaged: model of the same structure as the trained one; never compiled, so that its file has no optimizer.
        decay: 0..1, or None for no averaging.
        jit_compile: compile the update with XLA, like the training step.
    """

    def __init__(self, averaged: keras.Model, *, decay: float | None, jit_compile: bool) -> None:
        super().__init__()
        self.averaged = averaged
        self._decay = decay
        self._move = tf.function(self._assign_averages, jit_compile=jit_compile)

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._updates = int(self.model.optimizer.iterations)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        updates = int(self.model.optimizer.iterations)
        if self._decay is None or updates == self._updates:  # equal: a step that only accumulated gradients
            return
        self._updates = updates
        self._move(tf.constant(min(self._decay, (1 + updates) / (10 + updates)), "float32"))

    def update(self) -> None:
        """Bring `averaged` to this moment; needed without a decay only."""
        if self._decay is None:
            self.averaged.set_weights(self.model.get_weights())

    def _assign_averages(self, decay: tf.Tensor) -> None:
        for value, average in zip(self.model.weights, self.averaged.weights, strict=True):
            if keras.backend.is_float_dtype(value.dtype):
                share = ops.cast(1 - decay, value.dtype)
                average.assign(average + share * (value - average))
