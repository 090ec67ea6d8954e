"""A position in the endless order of training samples -> its row of ground truth; positions -> a batch of arrays.

Stage: data. Everything about a sample follows from (seed, position), whichever thread or process makes it. Nothing here
knows TensorFlow, so that worker processes (data/feeding/processes.py) start without it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from centermask_keras.config import Config
from centermask_keras.config.sections import AugmentationConfig
from centermask_keras.data.files.annotations import Annotations
from centermask_keras.data.samples.sample import Row, SampleCounters, make_sample
from centermask_keras.data.samples.transform import make_letterbox, make_random_crop, make_random_window, mirror
from centermask_keras.errors import ImageError
from centermask_keras.structures import ground_truth_forms

PADDING_STEP = 64  # objects: few enough sizes to compile a step for each, and little padding
OBJECTS = tuple(name for name, (_, axes) in ground_truth_forms().items() if "N" in axes)
"""What a batch holds of each object."""
# What keeps the random numbers of samples and steps apart from those of epochs (data/order.py).
SAMPLE_STREAM, SIZE_STREAM = 1, 2


@dataclass(frozen=True)
class Share:
    """The part of each batch that one process trains on: the whole, unless said otherwise.

    Attributes:
        worker: this process.
        workers: processes that take equal parts, in their order.
        replicas: equal parts over all workers, which are batches of their own; a multiple of `workers`.
    """

    worker: int = 0
    workers: int = 1
    replicas: int = 1

    @property
    def parts(self) -> int:
        """Batches of each step."""
        return self.replicas // self.workers

    def first_position(self, number: int, batch_size: int) -> int:
        """Return where a batch of this share begins, counted from step 0 on; an integer tensor gives a tensor."""
        step, part = number // self.parts, number % self.parts
        return step * batch_size + (self.worker * self.parts + part) * (batch_size // self.replicas)


def make_train_batch(
    config: Config, annotations: Annotations, positions: Iterable[int], counters: SampleCounters
) -> Row:
    """Make the batch of some positions: a `GroundTruth` of arrays, its objects padded to `padded_objects`.

    Raises:
        ImageError: a file that does not decode (`data.on_error` stop).
    """
    rows = [make_train_row(config, annotations, position, counters) for position in positions]
    count = padded_objects(max(1, *(int(row["valid"].sum()) for row in rows)))
    return {name: np.stack([row[name][:count] if name in OBJECTS else row[name] for row in rows]) for name in rows[0]}


def padded_objects(longest: int) -> int:
    """Return the multiple of `PADDING_STEP` that holds so many objects; an integer tensor gives a tensor."""
    return -(-longest // PADDING_STEP) * PADDING_STEP


def make_train_row(config: Config, annotations: Annotations, position: int, counters: SampleCounters) -> Row:
    """Make the sample of a position: one image of a `GroundTruth` batch.

    Raises:
        ImageError: a file that does not decode (`data.on_error` stop), or none of the epoch that does (skip).
    """
    annotations = annotations.under(config.data.crowd)
    order, place, input_hw = _find_place(config, annotations, position)
    for later in range(len(order)):
        index = int(order[(place + later) % len(order)])
        rng = np.random.default_rng([config.train.seed, SAMPLE_STREAM, position])
        hw = tuple(int(side) for side in annotations.image_hw[index])
        transform = make_train_transform(hw, input_hw, config.data.augmentation, rng)
        try:
            row = make_sample(
                annotations,
                index,
                config=config,
                transform=transform,
                input_hw=input_hw,
                mask_size=config.model.mask_size_train,
                rng=rng,
                counters=counters,
            )
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
    settings, sizes, orders = config.train, config.data.multi_scale_hw, annotations.order
    if sizes is None:
        epoch, place = divmod(position, orders.length())
        return orders.epoch(settings.seed, epoch), place, config.data.input_hw
    step, slot = divmod(position, settings.batch_size)
    wide, high = orders.length("wide"), orders.length("high")
    # Of the first n steps, n times the share of high images, rounded down, are for them.
    before, after = (count * high // (wide + high) for count in (step, step + 1))
    turned = after > before
    earlier = before if turned else step - before
    epoch, place = divmod(earlier * settings.batch_size + slot, high if turned else wide)
    order = orders.epoch(settings.seed, epoch, "high" if turned else "wide")
    rng = np.random.default_rng([settings.seed, SIZE_STREAM, step])
    height, width = sizes[rng.integers(len(sizes))]
    return order, place, (width, height) if turned else (height, width)


def make_train_transform(
    image_hw: tuple[int, int], input_hw: tuple[int, int], augmentation: AugmentationConfig, rng: np.random.Generator
) -> np.ndarray:
    """Choose where an image lands on the training input: float64 [4], from original to input pixels."""
    if augmentation.crop == "none":
        transform = make_letterbox(image_hw, input_hw)
    else:
        make_crop = {"random": make_random_crop, "window": make_random_window}[augmentation.crop]
        transform = make_crop(image_hw, input_hw, scale=augmentation.scale, rng=rng)
    horizontal = rng.random() < augmentation.flip
    # What is switched off draws nothing, so that a configuration's samples do not change with new augmentations.
    vertical = augmentation.flip_vertical > 0 and rng.random() < augmentation.flip_vertical
    return mirror(transform, input_hw, horizontal=horizontal, vertical=vertical)
