"""Pictures of an evaluation: ground truth beside what was found."""

from __future__ import annotations

from typing import Any

import numpy as np

from centermask_keras.data.files.annotations import Annotations
from centermask_keras.data.files.images import read_image
from centermask_keras.errors import ImageError
from centermask_keras.inference_config import SCORE_THRESHOLD
from centermask_keras.visualize import draw_ground_truth, draw_instances, draw_side_by_side


def draw_examples(
    annotations: Annotations, results: list[dict[str, Any]], *, count: int, score_threshold: float = SCORE_THRESHOLD
) -> np.ndarray:
    """Draw the ground truth of the first readable images beside what was found in them.

    Args:
        annotations: the dataset.
        results: COCO results.
        count: images to draw, one below the other.
        score_threshold: objects that score less are left out.

    Returns:
        uint8 [height, width, 3], RGB.
    """
    class_of = {int(category_id): index for index, category_id in enumerate(annotations.category_ids)}
    rows: list[np.ndarray] = []
    for index in range(len(annotations)):
        if len(rows) == count:
            break
        try:
            image = read_image(annotations.image_file(index))
        except ImageError:  # the evaluation has told, or stopped
            continue
        image_id = int(annotations.image_ids[index])
        found = [row for row in results if row["image_id"] == image_id and row["score"] >= score_threshold]
        boxes = np.array([row["bbox"] for row in found], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        drawn = draw_instances(
            image,
            boxes=boxes,
            classes=np.array([class_of[row["category_id"]] for row in found], np.int32),
            masks=[row["segmentation"] for row in found],
            class_names=annotations.class_names,
            scores=np.array([row["score"] for row in found], np.float32),
        )
        truth = draw_ground_truth(image, annotations, index)
        rows.append(draw_side_by_side([truth, drawn], ["ground truth", "predictions"]))
    return _stack(rows)


def _stack(pictures: list[np.ndarray]) -> np.ndarray:
    width = max((picture.shape[1] for picture in pictures), default=1)
    pictures = pictures or [np.full((1, 1, 3), 255, np.uint8)]
    padded = [np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in pictures]
    return np.concatenate(padded)
