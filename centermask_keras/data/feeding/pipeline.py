"""Datasets: annotations and images -> batches of ground truth for training, images for evaluation.

Stage: data. The samples of training have an endless order that the seed alone decides
(data/order.py). Everything about a sample follows from (seed, position), so that a dataset started at step s
gives what an uninterrupted one gives.
"""

from __future__ import annotations

import atexit
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache

import numpy as np
import tensorflow as tf

from centermask_keras.config import Config
from centermask_keras.cores import count_cores
from centermask_keras.data.feeding.processes import BatchProcesses
from centermask_keras.data.feeding.rows import OBJECTS, Share, make_train_batch, make_train_row, padded_objects
from centermask_keras.data.files.annotations import Annotations
from centermask_keras.data.samples.preprocess import preprocess_image
from centermask_keras.data.samples.sample import Row, SampleCounters, count_planes, read_annotated_image
from centermask_keras.data.samples.transform import make_eval_transform
from centermask_keras.errors import CenterMaskError, ImageError
from centermask_keras.inference_config import InferenceConfig
from centermask_keras.structures import ground_truth_forms

LAST_POSITION = np.iinfo(np.int64).max
MOST_THREADS = 16
"""Threads that make samples, on a host with more cores: by the interpreter lock they keep about three busy."""


class _Calls:
    """The calls of TensorFlow's threads into Python: none may be under way when the interpreter shuts down.

    One that is would wait for the interpreter forever, and the interpreter for it, where a dataset is still alive: the
    program would hang at its end, or after Ctrl-C.
    """

    def __init__(self) -> None:
        self.closed = False
        self._lock = threading.Lock()
        self._begun = self._active = 0

    def __enter__(self) -> None:
        with self._lock:
            self._begun += 1
            self._active += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._active -= 1

    def close(self) -> None:
        """Let calls return at once, and wait until the buffers of the datasets are full of that and no more come."""
        self.closed = True
        begun, quiet = 0, 0
        while quiet < 5:
            quiet = quiet + 1 if begun == self._begun and not self._active else 0
            begun = self._begun
            if begun:
                time.sleep(0.02)


@cache
def _prepare_program() -> _Calls:
    """Prepare the program for its first dataset, and return what counts the calls of all of them."""
    if "keras" in sys.modules and sys.modules["keras"].backend.backend() != "tensorflow":
        with suppress(RuntimeError):  # TensorFlow has begun to compute elsewhere, and cannot let go of them any more
            tf.config.set_visible_devices([], "GPU")  # it only reads here, and would take the backend's memory
    calls = _Calls()
    atexit.register(calls.close)
    return calls


def steps_per_epoch(config: Config, annotations: Annotations) -> int:
    """Return how many batches one epoch has: as configured, or the whole ones of a pass, and at least one."""
    return config.train.steps_per_epoch or max(
        1, annotations.under(config.data.crowd).order.length() // config.train.batch_size
    )


def make_train_dataset(
    config: Config,
    annotations: Annotations,
    *,
    start: int = 0,
    counters: SampleCounters | None = None,
    share: Share | None = None,
    processes: int = 0,
) -> tf.data.Dataset:
    """Make the endless dataset of training batches.

    Args:
        config: the configuration.
        annotations: the training set.
        start: the step to begin at; the batches are those that a dataset begun at 0 gives from this step on.
        counters: filled with what is left out, and with the error that ended the dataset: an `ImageError`, or that a
            worker process is lost.
        share: the part of each batch to make; the whole one by default.
        processes: how many processes make the batches (needs PyGrain); 0: threads of this one.

    Returns:
        `GroundTruth` batches of `train.batch_size` images, made in parallel by threads or by processes, in an order
        that does not depend on it; of a share, the parts of its replicas in turn. N is the multiple of `PADDING_STEP`,
        at most `data.max_objects`, that holds the objects of the batch.
        A file that does not decode ends it with a `tf.errors.OpError` (`data.on_error` stop), or the next file of the
        epoch takes its place (skip).
    """
    _prepare_program()
    counters, share, annotations = counters or SampleCounters(), share or Share(), annotations.under(config.data.crowd)
    batch_size = config.train.batch_size
    size = batch_size // share.replicas
    signature = _ground_truth_signature(config, annotations)
    numbers = tf.data.Dataset.range(start * share.parts, LAST_POSITION // batch_size)
    if processes:
        workers = BatchProcesses(config, annotations, share, counters, processes)
        workers.close_with(numbers)  # which lives as long as a dataset or an iterator that needs it
        batches = _map(numbers, workers.make, _batch_signature(signature, size), counters, parallel=False)
    else:
        places = tf.range(size, dtype=tf.int64)
        positions = numbers.map(lambda number: share.first_position(number, batch_size) + places).unbatch()

        def make_row(position: int) -> Row:
            return make_train_row(config, annotations, position, counters)

        batches = _map(positions, make_row, signature, counters).batch(size, drop_remainder=True).map(_trim_padding)
    return batches.prefetch(2).apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))


def _trim_padding(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Cut the padding of objects as `make_train_batch` does."""
    longest = tf.reduce_max(tf.reduce_sum(tf.cast(batch["valid"], tf.int32), axis=1))
    count = padded_objects(tf.maximum(longest, 1))
    return batch | {name: batch[name][:, :count] for name in OBJECTS}


def rebuild_batch(config: Config, annotations: Annotations, step: int) -> Row:
    """Make the batch of one step again: a `GroundTruth` of arrays.

    Raises:
        ImageError: a file that does not decode (`data.on_error` stop).
    """
    first = step * config.train.batch_size
    positions = range(first, first + config.train.batch_size)
    return make_train_batch(config, annotations, positions, SampleCounters())


def _batch_signature(signature: dict[str, tf.TensorSpec], size: int) -> dict[str, tf.TensorSpec]:
    """Return the signature of batches whose rows have one, with any number of objects."""
    shapes = {name: [size, *spec.shape] for name, spec in signature.items()}
    shapes |= {name: [size, None, *signature[name].shape[1:]] for name in OBJECTS}
    return {name: tf.TensorSpec(shapes[name], spec.dtype) for name, spec in signature.items()}


def iterate_eval_batches(config: Config | InferenceConfig, annotations: Annotations) -> Iterator[Row]:
    """Give the batches of `make_eval_dataset` as arrays.

    Raises:
        ImageError: a file that does not decode (`data.on_error` stop).
    """
    counters = SampleCounters()
    try:
        yield from make_eval_dataset(config, annotations, counters=counters).as_numpy_iterator()
    except tf.errors.OpError:
        if counters.error is None:
            raise
        raise counters.error from None  # without TensorFlow's account of it


def make_eval_dataset(
    config: Config | InferenceConfig, annotations: Annotations, *, counters: SampleCounters | None = None
) -> tf.data.Dataset:
    """Make the dataset of images to evaluate, in the order of the annotation file.

    Args:
        config: `eval.resize` says where an image lands on the input.
        annotations: the dataset.
        counters: `error` receives the `ImageError` that ended the dataset.

    Returns:
        Batches {image: uint8 [B, H, W, 3], readable: bool [B], transform: float64 [B, 4], image_hw: int32 [B, 2]
        (original), image_id: int64 [B], index: int64 [B] (in the annotations)} of `eval.batch_size` images, the last
        one as short as it comes. A file that does not decode ends it with
        a `tf.errors.OpError` (`data.on_error` stop), or is a black image that is not `readable` (skip).
    """
    _prepare_program()
    counters = counters or SampleCounters()
    fixed = config.eval.resize == "letterbox"
    height, width = config.data.input_hw if fixed else (None, None)
    signature = {
        "image": tf.TensorSpec([height, width, 3], tf.uint8),
        "readable": tf.TensorSpec([], tf.bool),
        "transform": tf.TensorSpec([4], tf.float64),
        "image_hw": tf.TensorSpec([2], tf.int32),
        "image_id": tf.TensorSpec([], tf.int64),
        "index": tf.TensorSpec([], tf.int64),
    }

    def make_row(index: int) -> Row:
        return _make_eval_row(config, annotations, index)

    rows = _map(tf.data.Dataset.range(len(annotations)), make_row, signature, counters)
    return rows.batch(config.eval.batch_size).prefetch(2)


def _make_eval_row(config: Config | InferenceConfig, annotations: Annotations, index: int) -> Row:
    height, width = (int(side) for side in annotations.image_hw[index])
    transform, canvas_hw = make_eval_transform((height, width), config)
    try:
        image = preprocess_image(read_annotated_image(annotations, index), transform, canvas_hw)
    except ImageError:
        if config.data.on_error == "stop":
            raise
        image = None
    return {
        "image": np.zeros((*canvas_hw, 3), np.uint8) if image is None else image,
        "readable": np.bool_(image is not None),
        "transform": transform,
        "image_hw": annotations.image_hw[index].astype(np.int32),
        "image_id": np.int64(annotations.image_ids[index]),
        "index": np.int64(index),
    }


def _ground_truth_signature(config: Config, annotations: Annotations) -> dict[str, tf.TensorSpec]:
    """Return the signature of a sample: that of `GroundTruth` with its sizes, without the batch axis."""
    one_size = config.data.multi_scale_hw is None
    height, width = config.data.input_hw if one_size else (None, None)
    rows, columns = config.grid_hw if one_size else (None, None)
    planes, ignored = count_planes(annotations, config)
    sizes = {"H": height, "W": width, "h": rows, "w": columns, "P": planes, "Q": ignored}
    sizes |= {"N": config.data.max_objects, "M": config.model.mask_size_train}
    if annotations.known_classes is not None:
        sizes["L"] = annotations.most_known
    return {
        name: tf.TensorSpec([sizes[axis] if axis.isalpha() else int(axis) for axis in axes[1:]], dtype)
        for name, (dtype, axes) in ground_truth_forms().items()
        if "L" in sizes or "L" not in axes
    }


def _map(
    numbers: tf.data.Dataset,
    make_row: Callable[[int], Row | None],
    signature: dict[str, tf.TensorSpec],
    counters: SampleCounters,
    *,
    parallel: bool = True,
) -> tf.data.Dataset:
    """Make a row of every number, or whatever has the signature; in order, one by one if not in parallel."""
    calls = _prepare_program()
    empty = [np.zeros([side or 1 for side in spec.shape], spec.dtype.as_numpy_dtype) for spec in signature.values()]

    def make_values(number: np.int64) -> list[np.ndarray | bytes]:
        row, message = None, "the program ends"
        with calls:
            if not calls.closed:
                try:
                    row = make_row(int(number))
                except CenterMaskError as error:
                    counters.error = counters.error or error
                    message = str(error)
        if row is None:
            return [message.encode(), *empty]
        return [b"", *(row[name] for name in signature)]

    def make_tensors(number: tf.Tensor) -> dict[str, tf.Tensor]:
        dtypes = [tf.string, *(spec.dtype for spec in signature.values())]
        message, *values = tf.numpy_function(make_values, [number], dtypes)
        # An exception that leaves a numpy_function is logged with its traceback; a failed assertion in one line.
        tf.debugging.Assert(tf.equal(message, b""), [message])
        pairs = zip(signature.items(), values, strict=True)
        return {name: tf.ensure_shape(value, spec.shape) for (name, spec), value in pairs}

    threads = min(count_cores(), MOST_THREADS) if parallel else 1
    options = tf.data.Options()
    # Its thread sleeps for up to a minute between looks at the dataset, and the end of the program waits for it.
    options.autotune.enabled = False
    return numbers.map(make_tensors, num_parallel_calls=threads, deterministic=True).with_options(options)
