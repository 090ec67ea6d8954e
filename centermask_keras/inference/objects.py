"""Objects of an image in original pixels, masks as RLE: what every way of running a model gives.

Stage: after the inference graph. NumPy, OpenCV and Pillow only: an exported file is used where Keras is not installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image

from centermask_keras.geometry.boxes import clip_boxes, xyxy_to_xywh
from centermask_keras.geometry.transform import apply_to_boxes, invert
from centermask_keras.masks import RLEMasks, paste_rles, rle_to_json
from centermask_keras.structures import Detections
from centermask_keras.visualize import draw_instances


@dataclass(frozen=True)
class Category:
    """A class: its name, and its id in the dataset that the model was trained on."""

    id: int
    name: str


class DatasetClasses(Protocol):
    """The classes of a dataset, as `Annotations` has them: their ids and names in one order."""

    category_ids: np.ndarray
    class_names: list[str]


def categories_of(dataset: DatasetClasses) -> list[Category]:
    """Return the categories of a dataset in the order of its classes."""
    rows = zip(dataset.category_ids, dataset.class_names, strict=True)
    return [Category(int(category_id), name) for category_id, name in rows]


@dataclass(frozen=True)
class Objects:
    """The objects of one image, in original pixels, by falling score.

    Attributes:
        boxes: float32 [K, 4], xyxy, clipped to the image.
        scores: float32 [K] in [0, 1].
        classes: int32 [K], contiguous from 0.
        class_names: the K names.
        category_ids: the K ids in the dataset that the model was trained on.
        masks: K RLE masks of the whole image; `.dense()` gives bool [K, H, W].
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    class_names: list[str]
    category_ids: list[int]
    masks: RLEMasks

    def __len__(self) -> int:
        return len(self.scores)

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """Return the objects as COCO results of one image (ready for `json.dump`)."""
        rows = zip(self.category_ids, xyxy_to_xywh(self.boxes), self.scores, self.masks, strict=True)
        return [
            {
                "image_id": int(image_id),
                "category_id": category_id,
                "bbox": [float(value) for value in box],
                "score": float(score),
                "segmentation": rle_to_json(mask),
            }
            for category_id, box, score, mask in rows
        ]


@dataclass(frozen=True)
class Result(Objects):
    """The objects of one image together with the image.

    Attributes:
        image: uint8 [H, W, 3], RGB.
    """

    image: np.ndarray

    def draw(self) -> Image.Image:
        """Return the image with boxes, masks, names and scores drawn on it."""
        canvas = draw_instances(
            self.image,
            boxes=self.boxes,
            classes=self.classes,
            masks=list(self.masks),
            class_names=dict(zip(self.classes.tolist(), self.class_names, strict=True)),
            scores=self.scores,
        )
        return Image.fromarray(canvas)


def to_objects(
    detections: Detections,
    row: int,
    transform: np.ndarray,
    image_hw: tuple[int, int],
    categories: Sequence[Category],
    mask_threshold: float,
) -> Objects:
    """Bring one row of a batch of detections back to the original image.

    Args:
        detections: arrays, as the inference graph gives them.
        row: which image of the batch.
        transform: float64 [4], from original to input pixels of that image.
        image_hw: size of the original image.
        categories: the classes in their order.
        mask_threshold: mask probabilities above it are inside.
    """
    keep = np.asarray(detections["valid"][row])
    boxes = apply_to_boxes(invert(transform), np.asarray(detections["boxes"][row])[keep].astype(np.float64))
    masks = paste_rles(np.asarray(detections["masks"][row])[keep], boxes, image_hw, mask_threshold)
    classes = np.asarray(detections["classes"][row])[keep]
    chosen = [categories[index] for index in classes]
    return Objects(
        boxes=clip_boxes(boxes, image_hw).astype(np.float32),
        scores=np.asarray(detections["scores"][row])[keep],
        classes=classes,
        class_names=[category.name for category in chosen],
        category_ids=[category.id for category in chosen],
        masks=RLEMasks(masks, image_hw),
    )
