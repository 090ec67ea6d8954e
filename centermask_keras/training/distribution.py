"""Replicas: the devices and processes that share the steps of a training.

Stage: training. TensorFlow: one replica per device, under `MirroredStrategy` on one machine and
`MultiWorkerMirroredStrategy` on several. JAX: `keras.distribution.DataParallel` over the devices of one machine.
Each replica normalises its losses by the objects of the whole batch (`ops/replicas.py`): gradients are added up.
Deviations: Keras' own `fit` clips the gradients of each replica before it adds them up, and fails across machines
(keras-team/keras#20585); both are put right here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from centermask_keras.config import Config
from centermask_keras.data.feeding.rows import Share
from centermask_keras.errors import CenterMaskError, ConfigError
from centermask_keras.ops.replicas import sum_over_replicas


@dataclass(frozen=True)
class Replicas:
    """What trains together.

    Attributes:
        count: replicas over all workers.
        strategy: TensorFlow's, None without one.
        worker: this process among `workers`; 0 is the chief, the only one that writes.
        workers: processes.
    """

    count: int = 1
    strategy: tf.distribute.Strategy | None = None
    worker: int = 0
    workers: int = 1

    @property
    def is_chief(self) -> bool:
        return self.worker == 0

    def scope(self):
        """Return the context in which the trained model and its optimizer are built."""
        return self.strategy.scope() if self.strategy else nullcontext()

    def distribute(self, make_dataset: Callable[[Share], tf.data.Dataset]) -> Any:
        """Return the dataset of this process: its batches are those of its replicas, one after the other."""
        if self.strategy is None:
            return make_dataset(Share())
        share = Share(self.worker, self.workers, self.count)
        return self.strategy.distribute_datasets_from_function(lambda context: make_dataset(share))

    def prepare(self, model: keras.Model) -> None:
        """Give a compiled model the step that all replicas take together."""
        if self.strategy is None:
            return
        _reduce_before_clipping(model.optimizer)
        model.train_function = _make_train_function(model, self.strategy)
        # Keras must not know of the strategy: what it does with one before the first step fails across machines.
        model._distribute_strategy = None

    def check_agreement(self, facts: Mapping[str, str]) -> None:
        """Hold what this worker works with against the same of the chief; all workers call it at the same time.

        Raises:
            CenterMaskError: names the first worker that differs, and in what; the same one on every worker.
        """
        if self.workers == 1:
            return
        digests = np.array([0, *(_digest(text) for text in facts.values())])
        gathered = self._gather(digests)
        for worker, row in enumerate(gathered):
            for name, same in zip(facts, (row == gathered[0])[1:], strict=True):
                if not same:
                    raise CenterMaskError(
                        f"worker {worker}: expected the {name} of worker 0, received another one. "
                        "All workers need the same command, files and versions, and a run folder that they share"
                    )

    def wait(self) -> None:
        """Wait until all workers have come here."""
        self.any_worker(False)

    def any_worker(self, flag: bool) -> bool:
        """Say whether a flag is set on a worker; all workers call it at the same time."""
        return flag if self.workers == 1 else bool(self._gather(np.array([flag], np.int64)).any())

    def of_chief(self, value: float) -> float:
        """Return the value of the chief on every worker; all workers call it at the same time."""
        if self.workers == 1:
            return value
        bits = np.array([value], np.float64).view(np.int64)
        return float(self._gather(bits)[0].view(np.float64)[0])

    def _gather(self, values: np.ndarray) -> np.ndarray:
        """Return the int64 vectors [V] of all workers: [workers, V]."""
        gathered = _make_gather(self.strategy)(tf.constant(values))
        everywhere = self.strategy.experimental_local_results(gathered)[0].numpy()
        return everywhere[:: self.count // self.workers]


@cache
def _make_gather(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], Any]:
    """Return what gathers a vector [V] from every replica: one graph for all calls, [replicas, V] on each of them."""

    @tf.function
    def gather(values):
        return strategy.run(lambda v: tf.distribute.get_replica_context().all_gather(v[None], axis=0), [values])

    return gather


def _digest(text: str) -> np.int64:
    return np.frombuffer(hashlib.sha256(text.encode()).digest()[:8], np.int64)[0]


@contextmanager
def start_replicas(config: Config, name: str) -> Iterator[Replicas]:
    """Find the devices that a configuration asks for, and let them be used as long as the context lasts.

    Args:
        config: the configuration; `distribution` chooses.
        name: what errors call it.

    Raises:
        ConfigError: the batch does not divide by the replicas; or the backend or the environment has no such replicas.
        CenterMaskError: a worker does not come, or is lost on the way.
    """
    backend = keras.backend.backend()
    if backend not in ("tensorflow", "jax"):
        raise ConfigError(
            f"{name}: KERAS_BACKEND: expected tensorflow or jax for training, received {backend}. PyTorch only detects"
        )
    if backend == "jax" and config.distribution == "mirrored":
        with _data_parallel() as count:
            yield _checked(Replicas(count), config, name)
        return
    if config.distribution == "none":
        yield Replicas()
    elif backend != "tensorflow":
        raise ConfigError(
            f"{name}: distribution: expected none or mirrored with the backend {backend}, received "
            f"{config.distribution}"
        )
    elif config.distribution == "mirrored":
        strategy = _mirrored_strategy()
        yield _checked(Replicas(strategy.num_replicas_in_sync, strategy), config, name)
    else:
        with _workers(name) as replicas:
            yield _checked(replicas, config, name)


@contextmanager
def _workers(name: str) -> Iterator[Replicas]:
    """Train with other processes."""
    from centermask_keras.extra.workers.connect import connect_workers, watch_workers

    strategy, worker, workers, watch = connect_workers(name)
    replicas = Replicas(strategy.num_replicas_in_sync, strategy, worker, workers)
    with watch_workers(watch):
        yield replicas
        replicas.wait()  # the chief writes at the end: TensorFlow takes those who leave before for lost


@cache
def _mirrored_strategy() -> tf.distribute.Strategy:
    """Return the strategy of this process: a second one would count its collectives from 0 again.

    On the logical GPUs, or without any the logical CPUs, of which TensorFlow would choose one.
    """
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _checked(replicas: Replicas, config: Config, name: str) -> Replicas:
    """Return replicas that a batch can be divided among."""
    size = config.train.batch_size
    if size % replicas.count:
        raise ConfigError(
            f"{name}: train.batch_size: expected a multiple of {replicas.count} (the replicas of distribution "
            f"{config.distribution}), received {size}"
        )
    if replicas.strategy and config.train.accumulation_steps > 1:
        raise ConfigError(
            f"{name}: train.accumulation_steps: expected 1 with distribution {config.distribution}, received "
            f"{config.train.accumulation_steps}"
        )
    return replicas


@contextmanager
def _data_parallel() -> Iterator[int]:
    """Spread batches over the devices of JAX; gives their number."""
    before = keras.distribution.distribution()
    devices = keras.distribution.list_devices()
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
    try:
        yield len(devices)
    finally:
        keras.distribution.set_distribution(before)


def _reduce_before_clipping(optimizer: keras.optimizers.Optimizer) -> None:
    """Add up the gradients of the replicas before they are clipped, and not again afterwards."""
    clip = optimizer._clip_gradients
    optimizer._clip_gradients = lambda gradients: clip(sum_over_replicas(list(gradients)))
    optimizer._all_reduce_sum_gradients = lambda gradients_and_variables: gradients_and_variables


def _make_train_function(model: keras.Model, strategy: tf.distribute.Strategy) -> Callable[[Iterator], dict]:
    """Return what `fit` calls for a step: all replicas take it, the metrics are their mean."""

    @tf.function(reduce_retracing=True)
    def step(batch):
        logs = strategy.run(model.train_step, args=(batch,))
        return {name: strategy.reduce("MEAN", value, axis=None) for name, value in logs.items()}

    return lambda iterator: step(next(iterator))
