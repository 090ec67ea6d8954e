"""Datasets: annotations and images -> batches of ground truth for training, images for evaluation.

Stage: data. The samples of training have an endless order that the seed alone decides (data/order.py). Everything about
a sample follows from (seed, position), so that a dataset started at step s gives what an uninterrupted one gives.
"""

from __future__ import annotations

import atexit
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from centermask_keras.config import Config
from centermask_keras.data.annotations import Annotations
from centermask_keras.data.order import epoch_length, epoch_order
from centermask_keras.data.preprocess import preprocess_image
from centermask_keras.data.sample import (
    Row,
    SampleCounters,
    count_known,
    count_planes,
    make_sample,
    read_annotated_image,
)
from centermask_keras.data.transform import (
    make_eval_transform,
    make_letterbox,
    make_random_crop,
    make_random_window,
    mirror,
)
from centermask_keras.errors import ImageError
from centermask_keras.inference_config import InferenceConfig

PADDING_STEP = 64  # objects: few enough sizes to compile a step for each, and little padding
SAMPLE_STREAM, SIZE_STREAM = 1, 2  # keep the random numbers of samples and steps apart from epochs' (data/order.py)

if "keras" in sys.modules and sys.modules["keras"].backend.backend() != "tensorflow":
    tf.config.set_visible_devices([], "GPU")  # TensorFlow only reads here, and would take the backend's memory


@dataclass(frozen=True)
class Share:
    """The part of each batch that one process reads: the whole, unless said otherwise.

    Attributes:
        worker: this process.
        workers: processes that read equal parts, in their order.
        replicas: equal parts over all workers, which are batches of their own; a multiple of `workers`.
    """

    worker: int = 0
    workers: int = 1
    replicas: int = 1


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


_calls = _Calls()
atexit.register(_calls.close)


def steps_per_epoch(config: Config, annotations: Annotations) -> int:
    """Return how many batches one epoch has: as configured, or the whole ones of a pass, and at least one."""
    return config.train.steps_per_epoch or max(1, epoch_length(annotations) // config.train.batch_size)


def make_train_dataset(
    config: Config,
    annotations: Annotations,
    *,
    start: int = 0,
    counters: SampleCounters | None = None,
    share: Share | None = None,
) -> tf.data.Dataset:
    """Make the endless dataset of training batches.

    Args:
        config: the configuration.
        annotations: the training set.
        start: the step to begin at; the batches are those that a dataset begun at 0 gives from this step on.
        counters: filled with what is left out, and with the `ImageError` that ended the dataset.
        share: the part of each batch to make; the whole one by default.

    Returns:
        `GroundTruth` batches of `train.batch_size` images, made in parallel, in an order that does not depend on it; of
        a share, the parts of its replicas in turn. N
        is the multiple of `PADDING_STEP`, at most `data.max_objects`, that holds the objects of the batch.
        A file that does not decode ends it with a `tf.errors.OpError` (`data.on_error` stop), or the next file of the
        epoch takes its place (skip).
    """
    counters, share = counters or SampleCounters(), share or Share()
    batch_size = config.train.batch_size
    positions = _positions(start, batch_size, share)
    signature = _ground_truth_signature(config, annotations)

    def make_row(position: int) -> Row:
        return _make_train_row(config, annotations, position, counters)

    rows = _map(positions, make_row, signature, counters)
    batches = rows.batch(batch_size // share.replicas, drop_remainder=True).map(_trim_padding).prefetch(2)
    return batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))


def _positions(start: int, batch_size: int, share: Share) -> tf.data.Dataset:
    """Count the positions of a share from a step on: int64 [], without an end."""
    per_worker = batch_size // share.workers
    steps = tf.data.Dataset.range(start, np.iinfo(np.int64).max // batch_size)
    first = [share.worker * per_worker + place for place in range(per_worker)]
    return steps.map(lambda step: step * batch_size + tf.constant(first, tf.int64)).unbatch()


def _trim_padding(batch: dict[str, Any]) -> dict[str, Any]:
    """Cut the objects of a batch, tensors or arrays, down to a multiple of `PADDING_STEP` that holds the valid ones."""
    longest = tf.reduce_max(tf.reduce_sum(tf.cast(batch["valid"], tf.int32), axis=1))
    count = tf.maximum(-(-longest // PADDING_STEP), 1) * PADDING_STEP
    return batch | {name: batch[name][:, :count] for name in ("boxes", "classes", "valid", "masks")}


def rebuild_batch(config: Config, annotations: Annotations, step: int) -> Row:
    """Make the batch of one step again: a `GroundTruth` of arrays.

    Raises:
        ImageError: a file that does not decode (`data.on_error` stop).
    """
    first, counters = step * config.train.batch_size, SampleCounters()
    positions = range(first, first + config.train.batch_size)
    rows = [_make_train_row(config, annotations, position, counters) for position in positions]
    return _trim_padding({name: np.stack([row[name] for row in rows]) for name in rows[0]})


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
    return rows.batch(config.eval.batch_size).prefetch(tf.data.AUTOTUNE)


def _make_train_row(config: Config, annotations: Annotations, position: int, counters: SampleCounters) -> Row:
    order, place, input_hw = _find_place(config, annotations, position)
    config = config.at_size(input_hw)
    for later in range(len(order)):
        index = int(order[(place + later) % len(order)])
        rng = np.random.default_rng([config.train.seed, SAMPLE_STREAM, position])
        hw = tuple(int(side) for side in annotations.image_hw[index])
        transform = make_train_transform(hw, config, rng)
        try:
            row = make_sample(annotations, index, config=config, transform=transform, rng=rng, counters=counters)
            return row | {"position": np.int64(position)}
        except ImageError as error:
            if config.data.on_error == "stop":
                raise
            counters.add_skipped(error.path)
            last_error = error
    raise last_error


def _find_place(config: Config, annotations: Annotations, position: int) -> tuple[np.ndarray, int, tuple[int, int]]:
    """Return the order of the images that a position belongs to, its place there, and the size of the input.

    With one size an order is a pass over the images. With several, the images of a step share a size, which is drawn,
    and lie the same way, each way as often as images do; the images of a way come in passes over them alone.
    """
    settings, sizes = config.train, config.data.multi_scale_hw
    if sizes is None:
        epoch, place = divmod(position, epoch_length(annotations))
        return epoch_order(annotations, settings.seed, epoch), place, config.data.input_hw
    step, slot = divmod(position, settings.batch_size)
    wide, high = epoch_length(annotations, "wide"), epoch_length(annotations, "high")
    # Of the first n steps, n times the share of high images, rounded down, are for them.
    before, after = (count * high // (wide + high) for count in (step, step + 1))
    turned = after > before
    earlier = before if turned else step - before
    epoch, place = divmod(earlier * settings.batch_size + slot, high if turned else wide)
    order = epoch_order(annotations, settings.seed, epoch, "high" if turned else "wide")
    rng = np.random.default_rng([settings.seed, SIZE_STREAM, step])
    height, width = sizes[rng.integers(len(sizes))]
    return order, place, (width, height) if turned else (height, width)


def make_train_transform(image_hw: tuple[int, int], config: Config, rng: np.random.Generator) -> np.ndarray:
    """Choose where an image lands on the training input: float64 [4], from original to input pixels."""
    augmentation, canvas_hw = config.data.augmentation, config.data.input_hw
    if augmentation.crop == "none":
        transform = make_letterbox(image_hw, canvas_hw)
    else:
        make_crop = {"random": make_random_crop, "window": make_random_window}[augmentation.crop]
        transform = make_crop(image_hw, canvas_hw, scale=augmentation.scale, rng=rng)
    horizontal = rng.random() < augmentation.flip
    # What is switched off draws nothing, so that a configuration's samples do not change with new augmentations.
    vertical = augmentation.flip_vertical > 0 and rng.random() < augmentation.flip_vertical
    return mirror(transform, canvas_hw, horizontal=horizontal, vertical=vertical)


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
    one_size = config.data.multi_scale_hw is None
    height, width = config.data.input_hw if one_size else (None, None)
    grid_hw = config.grid_hw if one_size else (None, None)
    objects, size = config.data.max_objects, config.model.mask_size_train
    saliency, ignored = count_planes(annotations, config.model.saliency == "class_specific")
    known = {}
    if annotations.known_classes is not None:
        classes = count_known(annotations)
        known = {
            "known_classes": tf.TensorSpec([classes], tf.int32),
            "known_valid": tf.TensorSpec([classes], tf.bool),
        }
    return {
        "image": tf.TensorSpec([height, width, 3], tf.uint8),
        "boxes": tf.TensorSpec([objects, 4], tf.float32),
        "classes": tf.TensorSpec([objects], tf.int32),
        "valid": tf.TensorSpec([objects], tf.bool),
        "masks": tf.TensorSpec([objects, size, size], tf.uint8),
        "saliency_planes": tf.TensorSpec([saliency, *grid_hw], tf.uint8),
        "saliency_classes": tf.TensorSpec([saliency], tf.int32),
        "saliency_valid": tf.TensorSpec([saliency], tf.bool),
        "ignore_planes": tf.TensorSpec([ignored, *grid_hw], tf.uint8),
        "ignore_classes": tf.TensorSpec([ignored], tf.int32),
        "ignore_valid": tf.TensorSpec([ignored], tf.bool),
        "transform": tf.TensorSpec([4], tf.float32),
        "image_hw": tf.TensorSpec([2], tf.int32),
        "image_id": tf.TensorSpec([], tf.int64),
        "position": tf.TensorSpec([], tf.int64),
        **known,
    }


def _map(
    numbers: tf.data.Dataset,
    make_row: Callable[[int], Row],
    signature: dict[str, tf.TensorSpec],
    counters: SampleCounters,
) -> tf.data.Dataset:
    """Make a row of every number, in parallel and in order."""
    empty = {name: np.zeros([side or 1 for side in spec.shape], spec.dtype.name) for name, spec in signature.items()}

    def make_values(number: np.int64) -> list[np.ndarray | bytes]:
        row, message = empty, "the program ends"
        with _calls:
            if not _calls.closed:
                try:
                    row, message = make_row(int(number)), ""
                except ImageError as error:
                    counters.error = counters.error or error
                    message = str(error)
        return [message.encode(), *(row[name] for name in signature)]

    def make_tensors(number: tf.Tensor) -> dict[str, tf.Tensor]:
        dtypes = [tf.string, *(spec.dtype for spec in signature.values())]
        message, *values = tf.numpy_function(make_values, [number], dtypes)
        # An exception that leaves a numpy_function is logged with its traceback; a failed assertion in one line.
        tf.debugging.Assert(tf.equal(message, b""), [message])
        pairs = zip(signature.items(), values, strict=True)
        return {name: tf.ensure_shape(value, spec.shape) for (name, spec), value in pairs}

    return numbers.map(make_tensors, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
