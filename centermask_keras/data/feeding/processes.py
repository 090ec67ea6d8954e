"""Worker processes that make the batches of a training, through PyGrain.

Stage: data. Each process makes whole batches, in turn with the others; their arrays come through shared memory, in
order. The processes are started anew (spawn) and know neither TensorFlow nor a GPU. They end with the dataset, and when
the training is gone, however it ended.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import resource_tracker, util
from types import ModuleType
from typing import Any

import numpy as np

from centermask_keras._cv2 import cv2
from centermask_keras.config import Config
from centermask_keras.data.feeding.rows import Share, make_train_batch
from centermask_keras.data.files.annotations import Annotations
from centermask_keras.data.samples.sample import Row, SampleCounters
from centermask_keras.errors import CenterMaskError, ConfigError
from centermask_keras.packages import install_hint

CAUSES = {
    signal.SIGKILL: "most often the system ends one when memory runs out. Try fewer of them",
    signal.SIGBUS: "most often there is no room left in shared memory, /dev/shm. Make it larger (docker run "
    "--shm-size=8g), or try fewer processes or a smaller train.batch_size",
}
SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Of Ctrl-C and of schedulers, to the whole group. What then happens is for the training to say: it may still save."""
ALIGNMENT = 64  # bytes, what TensorFlow wants of an array that it does not copy
EXIT_PRIORITY = 20  # above that of what PyGrain needs to clean up (`multiprocessing.pool` has 15)
_allocating = threading.Lock()
"""Held until the system's shared memory is known to the tracker of `multiprocessing`, which frees what nobody did."""
MAIN_GUARD = 'Every process imports the script that trains: its calls belong below `if __name__ == "__main__":`'


Packed = tuple[np.ndarray, list[tuple[str, str, tuple[int, ...], int]]]
"""A batch in one piece of memory, uint8; and of each array name, dtype, shape and where it begins."""


class BatchProcesses:
    """Batches of a share by their number, counted from step 0 on. Who asks for them in their order waits least.

    The first call starts the processes, a call out of order starts them anew.
    """

    def __init__(
        self, config: Config, annotations: Annotations, share: Share, counters: SampleCounters, processes: int
    ):
        """Start nothing yet.

        Args:
            config: the configuration.
            annotations: the training set; each process has a copy of what samples are made of.
            share: the part of each batch to make.
            counters: receive what is left out of the batches that are given.
            processes: how many processes make them.

        Raises:
            ConfigError: `processes` is no number of at least 0, or PyGrain is not installed.
        """
        self._grain = _import_grain(processes)
        self._source, self._counters = _Source(config, annotations, share), counters
        self._count, self._next, self._lock = processes, -1, threading.Lock()
        self._iterator, self._closed = None, False

    def close_with(self, user: object) -> None:
        """End the processes when an object is gone, or with the program, before it would wait for them."""
        util.Finalize(user, self._close, exitpriority=EXIT_PRIORITY)

    def make(self, number: int) -> Row | None:
        """Return a batch of arrays; nothing after the end.

        Raises:
            ImageError: a file that does not decode (`data.on_error` stop).
            CenterMaskError: a process ended before its time.
        """
        with self._lock:
            if self._closed:
                return None
            try:
                packed, counts = next(self._iterator) if number == self._next else self._start(number)
            except Exception as error:
                self._stop()
                code = re.search(r"terminated unexpectedly with exit code (-?\d+)", str(error))
                if code is None:
                    raise
                raise _explain(int(code[1]), self._count) from None
            self._next = number + 1
        self._counters.add_all(counts)
        return _unpack(*packed)

    def _stop(self) -> None:
        if self._iterator is not None:
            self._iterator.close()
        self._iterator, self._next = None, -1

    def _close(self) -> None:
        with self._lock:
            self._closed = True
            self._stop()

    def _start(self, first: int) -> tuple[Packed, dict[str, Any]]:
        """Start the processes anew and return the first batch, with what was left out of it."""
        self._stop()
        resource_tracker.ensure_running()  # which would let the signals through again
        # New processes inherit from this thread that signals wait, until `_start_worker` has them ignored.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            self._iterator = self._iterate(first)
            return next(self._iterator)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _iterate(self, first: int) -> Iterator[tuple[Packed, dict[str, Any]]]:
        grain, workers = self._grain, self._grain.MultiprocessingOptions(num_workers=self._count)
        one_by_one = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        batches = grain.MapDataset.source(replace(self._source, first=first)).to_iter_dataset(one_by_one)
        return iter(batches.mp_prefetch(workers, worker_init_fn=partial(_start_worker, os.getcwd())))


@dataclass(frozen=True)
class _Source:
    """The batches of a share from one of them on: a data source of PyGrain."""

    config: Config
    annotations: Annotations
    share: Share
    first: int = 0

    def __len__(self) -> int:
        return sys.maxsize // self.config.train.batch_size - self.first

    def __getitem__(self, number: int) -> tuple[Packed, dict[str, Any]]:
        batch_size, counters = self.config.train.batch_size, SampleCounters()
        position = self.share.first_position(self.first + number, batch_size)
        positions = range(position, position + batch_size // self.share.replicas)
        return _pack(make_train_batch(self.config, self.annotations, positions, counters)), counters.to_dict()


def _pack(batch: Row) -> Packed:
    """Put a batch into shared memory: one piece, as the process that trains has a file open for each."""
    from grain.multiprocessing import SharedMemoryArray

    layout, size = [], 0
    for name, values in batch.items():
        layout.append((name, values.dtype.str, values.shape, size))
        size += -(-values.nbytes // ALIGNMENT) * ALIGNMENT
    with _allocating:
        memory = SharedMemoryArray((size,), np.uint8)
    for name, dtype, shape, begin in layout:
        np.ndarray(shape, dtype, memory, begin)[...] = batch[name]
    return memory, layout


def _unpack(shared: np.ndarray, layout: list[tuple[str, str, tuple[int, ...], int]]) -> Row:
    """Copy a batch out of shared memory, to where TensorFlow takes its arrays as they are.

    Memory that TensorFlow holds is shared no more: it would be cleaned up after the interpreter.
    """
    memory = np.empty(len(shared) + ALIGNMENT, np.uint8)
    aligned = memory[-memory.ctypes.data % ALIGNMENT :][: len(shared)]
    np.copyto(aligned, shared)  # without the interpreter's lock
    return {name: np.ndarray(shape, dtype, aligned, begin) for name, dtype, shape, begin in layout}


def check_start(processes: int) -> None:
    """Refuse a training whose processes, so many, could not start, before it writes anything.

    Raises:
        ConfigError: PyGrain is not installed.
        CenterMaskError: a process is just starting and imports the script that trains; names what the script lacks.
    """
    # By this mark `multiprocessing` itself refuses to start a process, but only then: a run folder is open before.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise CenterMaskError(f"expected a training in the main program, received one in a new process. {MAIN_GUARD}")
    if type(processes) is not int or processes < 0:
        raise ConfigError(f"processes: expected a number of at least 0, received {processes!r}")
    if processes:
        _import_grain(processes)


def _import_grain(processes: int) -> ModuleType:
    try:
        import grain
        from absl import flags
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--processes: expected 0 without the package {error.name}, received {processes}. {install_hint(error)}"
        ) from None
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # PyGrain reads its own, whose defaults hold, and refuses before that
    return grain


def _start_worker(folder: str, number: int, count: int) -> None:
    """Prepare a process: the folder of the training, one core, no GPU, no signals, and no life after the training."""
    os.chdir(folder)  # a new process begins where the training did, before any chdir
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    cv2.setNumThreads(1)
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    threading.Thread(target=_end_with_training, daemon=True).start()


def _end_with_training() -> None:
    multiprocessing.parent_process().join()
    with _allocating:
        os._exit(1)


def _explain(code: int, count: int) -> CenterMaskError:
    """Say which end a process had: a negative code is a signal."""
    if code < 0:
        name = signal.Signals(-code).name
        received = f"one that {name} ended: {CAUSES.get(-code, 'its output may say more')}"
    else:
        received = f"one that ended with exit code {code}, its output says why. {MAIN_GUARD}"
    return CenterMaskError(
        f"--processes: expected {count} processes as long as the training lasts, received {received}. "
        "The same command continues the training"
    )
