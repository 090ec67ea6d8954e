"""Averaged weights: an exponential moving average of everything a model has learned.

Stage: training. The average lives in a second model of the same structure, which is what validation evaluates and
what is saved; training goes on from the raw weights and never sees it.
Deviations: Keras' `use_ema` averages only trainable variables, at micro-steps of gradient accumulation as well, with
no warm-up; here the moving statistics of batch normalisation are averaged too, once per update.
"""

from collections.abc import Callable

import keras
from keras import ops

from centermask_keras.structures import Tensor


class WeightAverage(keras.callbacks.Callback):
    """Keep the moving average of the trained model's weights in `averaged`.

    After update t (1, 2, ...) every float variable becomes d * average + (1 - d) * value with
    d = min(decay, (1 + t) / (10 + t)): the warm-up lets short runs forget their random initial weights.
    Without a decay `averaged` is a plain copy, made by `update`.

    Args:
        averaged: model of the same structure as the trained one; never compiled, so that its file has no optimizer.
        decay: 0..1, or None for no averaging.
        jit_compile: compile the update with XLA, like the training step (TensorFlow).
    """

    def __init__(self, averaged: keras.Model, *, decay: float | None, jit_compile: bool) -> None:
        super().__init__()
        self.averaged = averaged
        self._decay = decay
        self._move = _compiled(_move, jit_compile=jit_compile)

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._updates = int(ops.convert_to_numpy(self.model.optimizer.iterations))

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self._decay is None:
            return
        fill_variables(self.model)
        updates = int(ops.convert_to_numpy(self.model.optimizer.iterations))
        if updates == self._updates:  # a step that only accumulated gradients
            return
        self._updates = updates
        decay = min(self._decay, (1 + updates) / (10 + updates))
        pairs = zip(self.model.weights, self.averaged.weights, strict=True)
        values, averages = zip(*(pair for pair in pairs if keras.backend.is_float_dtype(pair[0].dtype)), strict=True)
        tensors = [[ops.convert_to_tensor(variable) for variable in group] for group in (values, averages)]
        for average, moved in zip(averages, self._move(*tensors, ops.convert_to_tensor(decay, "float32")), strict=True):
            average.assign(moved)

    def update(self) -> None:
        """Bring `averaged` to this moment; needed without a decay only."""
        if self._decay is None:
            self.averaged.set_weights(self.model.get_weights())


def fill_variables(model: keras.Model) -> None:
    """Let the variables of a model hold its values; with JAX they are empty while an epoch is trained."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()


def _move(values: list[Tensor], averages: list[Tensor], decay: Tensor) -> list[Tensor]:
    """Return the averages after one update."""
    shares = [ops.cast(1 - decay, value.dtype) for value in values]
    return [average + share * (value - average) for value, average, share in zip(values, averages, shares, strict=True)]


def _compiled(function: Callable, *, jit_compile: bool) -> Callable:
    """Return a function of tensors as one graph of the backend, of those that train."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    import tensorflow as tf

    return tf.function(function, jit_compile=jit_compile)
