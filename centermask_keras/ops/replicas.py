"""Sums over the replicas that share a training step.

A strategy of TensorFlow runs the step once per replica, on a share of the batch each: what is summed over the batch
needs a collective. On one device, and under `keras.distribution` (JAX), the step sees the whole batch: nothing is to be
added.
"""

from __future__ import annotations

from typing import TypeVar

import keras
from keras import ops

from centermask_keras.structures import Tensor

Tensors = TypeVar("Tensors")
"""A tensor, or a list of tensors."""


def num_replicas() -> int:
    """Return how many replicas share the step that is being traced: 1 outside of a strategy."""
    context = _replica_context()
    return context.num_replicas_in_sync if context else 1


def sum_over_replicas(values: Tensors) -> Tensors:
    """Add up what the replicas hold, float32 of the same shapes; its gradient is added up likewise."""
    if num_replicas() == 1:
        return values
    return _replica_context().all_reduce("SUM", values)


def count_over_replicas(mask: Tensor) -> Tensor:
    """Count the True of a bool mask of any shape in the whole batch: float32 scalar, at least 1."""
    return ops.maximum(sum_over_replicas(ops.sum(ops.cast(mask, "float32"))), 1.0)


def _replica_context():
    """Return TensorFlow's replica context; None on other backends and between replicas."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    return tf.distribute.get_replica_context()
