"""One image and its annotations -> one row of ground truth: image, objects, saliency planes, ignore planes.

Stage: data. Source: Wang et al. 2020 (arXiv 2004.04446), sections 3.2 to 3.4, for what is learned from.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from centermask_keras.config import Config
from centermask_keras.data.files.annotations import Annotations
from centermask_keras.data.files.images import read_image
from centermask_keras.data.samples.augment import jitter_colors
from centermask_keras.data.samples.preprocess import preprocess_image
from centermask_keras.data.samples.rasterize import rasterize_masks, rasterize_planes
from centermask_keras.errors import CenterMaskError, ImageError
from centermask_keras.geometry.boxes import clip_boxes
from centermask_keras.geometry.transform import apply_to_boxes

Row = dict[str, np.ndarray]
"""One image of a `GroundTruth` batch: the same keys, without the batch axis."""

LEAST_SIDE = 1.0  # input pixels; a clipped box with a shorter side is not an object


@dataclass
class SampleCounters:
    """What the pipeline left out, counted over all samples that it made (it runs ahead of the training).

    Attributes:
        samples: samples made.
        objects: objects in them.
        over_max_objects: objects beyond `data.max_objects`.
        collisions: objects whose centre shares class and cell with an earlier object's.
        too_small: objects outside of the crop, or with a side under 1 input pixel inside of it.
        no_mask_cell: objects whose box is in the crop while their mask is not.
        skipped: file -> times it was skipped because it does not decode.
        error: the error that ended the dataset.
    """

    samples: int = 0
    objects: int = 0
    over_max_objects: int = 0
    collisions: int = 0
    too_small: int = 0
    no_mask_cell: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    error: CenterMaskError | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def add(self, **counts: int) -> None:
        """Add to counts, given by name."""
        with self._lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)

    def add_skipped(self, path: str, times: int = 1) -> None:
        """Count a file that does not decode."""
        with self._lock:
            self.skipped[path] = self.skipped.get(path, 0) + times

    def add_all(self, counts: dict[str, Any]) -> None:
        """Add what other counters gave as `to_dict`."""
        counts = dict(counts)
        for path, times in counts.pop("skipped").items():
            self.add_skipped(path, times)
        self.add(**counts)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts, ready for `json.dump`."""
        with self._lock:
            counts = {name: value for name, value in vars(self).items() if isinstance(value, int)}
            return counts | {"skipped": dict(self.skipped)}


def make_sample(
    annotations: Annotations,
    index: int,
    *,
    config: Config,
    transform: np.ndarray,
    input_hw: tuple[int, int],
    mask_size: int,
    rng: np.random.Generator | None = None,
    counters: SampleCounters | None = None,
) -> Row:
    """Make the ground truth of one image as a transform shows it.

    Args:
        annotations: the dataset.
        index: which image of it.
        config: what is made of crowd regions, limits and, with `rng`, the colour jitter.
        transform: float64 [4], from original to input pixels.
        input_hw: height and width of the input, pixels.
        mask_size: M, cells per side of the grid of each mask.
        rng: source of the colour jitter; without it the colours stay.
        counters: receives what is left out.

    Returns:
        One image of a `GroundTruth` batch, `position` 0.

    Raises:
        ImageError: the file does not decode, or is not of the annotated size.
    """
    augmentation, annotations = config.data.augmentation, annotations.under(config.data.crowd)
    image = read_annotated_image(annotations, index)
    # Before it lands on the canvas, whose padding is black in inference as well.
    if rng is not None and augmentation.invert > 0 and rng.random() < augmentation.invert:
        image = 255 - image
    image = preprocess_image(image, transform, input_hw)
    if rng is not None:
        image = jitter_colors(image, rng, color=augmentation.color, lighting=augmentation.lighting)
    counters = counters or SampleCounters()
    return {
        "image": image,
        **_make_objects(annotations, index, config, transform, input_hw, mask_size, counters),
        **_make_planes(annotations, index, config, transform, input_hw),
        "transform": np.asarray(transform, np.float32),
        "image_hw": annotations.image_hw[index].astype(np.int32),
        "image_id": np.int64(annotations.image_ids[index]),
        "position": np.int64(0),
        **_list_known_classes(annotations, index),
    }


def count_planes(annotations: Annotations, config: Config) -> tuple[int, int]:
    """Return P and Q of all samples of a dataset."""
    specific, ignored = annotations.under(config.data.crowd).most_classes
    return specific if config.model.saliency == "class_specific" else 1, ignored


def read_annotated_image(annotations: Annotations, index: int) -> np.ndarray:
    """Read one image of a dataset: uint8 [height, width, 3], RGB. Its errors name the id of the image.

    Raises:
        ImageError: the file does not decode, or is not of the annotated size.
    """
    file, image_id = annotations.image_file(index), int(annotations.image_ids[index])
    try:
        image = read_image(file)
    except ImageError as error:
        raise ImageError(file, error.reason, error.expected, image_id) from error
    expected, received = (" x ".join(str(side) for side in hw) for hw in (annotations.image_hw[index], image.shape[:2]))
    if expected != received:
        raise ImageError(file, received, f"{expected} pixels as annotated", image_id)
    return image


def _make_objects(
    annotations: Annotations,
    index: int,
    config: Config,
    transform: np.ndarray,
    input_hw: tuple[int, int],
    mask_size: int,
    counters: SampleCounters,
) -> Row:
    """Make boxes, classes, valid and masks of the objects that can be learned from, in annotation order."""
    limit = config.data.max_objects
    chosen, boxes = choose_objects(annotations, index, config, transform, input_hw, counters)
    segmentations = [annotations.segmentations[i] for i in chosen]
    masks = rasterize_masks(segmentations, boxes, transform, annotations.image_hw[index], mask_size)
    visible = masks.any(axis=(1, 2))
    kept = int(visible.sum())
    counters.add(samples=1, objects=kept, no_mask_cell=len(chosen) - kept)
    return {
        "boxes": _pad(boxes[visible].astype(np.float32), limit),
        "classes": _pad(annotations.classes[chosen][visible].astype(np.int32), limit),
        "valid": np.arange(limit) < kept,
        "masks": _pad(masks[visible], limit),
    }


def choose_objects(
    annotations: Annotations,
    index: int,
    config: Config,
    transform: np.ndarray,
    input_hw: tuple[int, int],
    counters: SampleCounters,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the objects of an image that its sample has, as far as their boxes tell.

    Args:
        annotations: the dataset, under the crowd policy of the configuration.
        index, config, transform, input_hw: as for `make_sample`.
        counters: receives what is too small, collides or is beyond `data.max_objects`.

    Returns:
        int64 [n], rows of the objects; float64 [n, 4], their boxes in the input, clipped to it.
    """
    objects = annotations.objects(index)
    ordinary = objects.start + np.flatnonzero(~annotations.crowd[objects])
    boxes = clip_boxes(apply_to_boxes(transform, annotations.boxes[ordinary]), input_hw)
    large = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= LEAST_SIDE
    chosen, boxes = ordinary[large], boxes[large]
    first = _first_of_cell(boxes, annotations.classes[chosen], config.model.center_stride)
    kept = first[: config.data.max_objects]
    counters.add(
        too_small=int(len(large) - large.sum()),
        collisions=int(large.sum()) - len(first),
        over_max_objects=len(first) - len(kept),
    )
    return chosen[kept], boxes[kept]


def _first_of_cell(boxes: np.ndarray, classes: np.ndarray, stride: int | None) -> np.ndarray:
    """Return the rows, in order, that are the first with their class and cell of the centre; all rows without cells."""
    if stride is None:
        return np.arange(len(boxes))
    centers = (boxes[:, :2] + boxes[:, 2:]).astype(np.float32) / (2 * stride)
    cells = np.column_stack([np.floor(centers), classes])
    return np.sort(np.unique(cells, axis=0, return_index=True)[1])


def _make_planes(
    annotations: Annotations, index: int, config: Config, transform: np.ndarray, input_hw: tuple[int, int]
) -> Row:
    """Make the saliency planes of the objects and the ignore planes of the crowd regions of an image."""
    objects, stride = annotations.objects(index), config.model.stride
    crowd, classes = annotations.crowd[objects], annotations.classes[objects]
    labels = classes if config.model.saliency == "class_specific" else np.zeros_like(classes)
    made = {}
    for name, chosen, labels_of, count in zip(
        ("saliency", "ignore"), (~crowd, crowd), (labels, classes), count_planes(annotations, config), strict=True
    ):
        present, planes = np.unique(labels_of[chosen], return_inverse=True)
        drawn = rasterize_planes(
            [annotations.segmentations[i] for i in objects.start + np.flatnonzero(chosen)],
            planes,
            transform,
            annotations.image_hw[index],
            count=len(present),
            grid_hw=(input_hw[0] // stride, input_hw[1] // stride),
            stride=stride,
        )
        made |= {
            f"{name}_planes": _pad(drawn, count),
            f"{name}_classes": _pad(present.astype(np.int32), count),
            f"{name}_valid": np.arange(count) < len(present),
        }
    return made


def _list_known_classes(annotations: Annotations, index: int) -> Row:
    """List the classes whose absence from a place of the image is known; nothing where that is true of all (COCO)."""
    if annotations.known_classes is None:
        return {}
    known, count = annotations.known_classes[index], annotations.most_known
    return {"known_classes": _pad(known, count), "known_valid": np.arange(count) < len(known)}


def _pad(values: np.ndarray, count: int) -> np.ndarray:
    padded = np.zeros((count, *values.shape[1:]), values.dtype)
    padded[: len(values)] = values
    return padded
