"""`bbox` and `area` of annotations that have a mask and lack them: both follow from the mask.

Stage: data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from centermask_keras.data.files.coco_json import is_id
from centermask_keras.data.files.segmentations import check_masks
from centermask_keras.masks import segmentation_to_rle


def add_measures(records: list[Any], image_ids: np.ndarray, image_hw: np.ndarray) -> list[Any]:
    """Return the annotations of a file, completed by what is absent or null and follows from their masks.

    Args:
        records: the list of the json.
        image_ids: int64 [I], of the images of the file.
        image_hw: int32 [I, 2].

    Returns:
        The records. `bbox` is around the points of polygons, or the pixels of an RLE; `area` counts the pixels. Those
        without a sound mask or image stay as they are, and are at fault as before.
    """
    lacking = [
        row
        for row, record in enumerate(records)
        if type(record) is dict and record.get("segmentation") and None in (record.get("bbox"), record.get("area"))
    ]
    if not lacking:
        return records
    hw_of = dict(zip(image_ids.tolist(), image_hw.tolist(), strict=True))
    lacking = [row for row in lacking if is_id(records[row].get("image_id")) and records[row]["image_id"] in hw_of]
    sizes = [hw_of[records[row]["image_id"]] for row in lacking]
    masks = [records[row]["segmentation"] for row in lacking]
    masks = [mask if type(mask) in (list, dict) else None for mask in masks]
    found = check_masks(masks, sizes, lambda *fault: None)  # noted where the masks are read
    completed = list(records)
    for row, mask, hw in zip(lacking, found, sizes, strict=True):
        if mask:
            measures = _measure(mask, hw)
            absent = {key: value for key, value in measures.items() if records[row].get(key) is None}
            completed[row] = {**records[row], **absent}
    return completed


def _measure(mask: list | dict, hw: list[int]) -> dict[str, Any]:
    rle = segmentation_to_rle(mask, tuple(hw))
    box = coco_mask.toBbox(rle).tolist()
    if isinstance(mask, list):
        points = np.concatenate([np.asarray(part, float).reshape(-1, 2) for part in mask])
        low, high = points.min(axis=0), points.max(axis=0)
        box = [*low.tolist(), *(high - low).tolist()]
    return {"bbox": box, "area": float(coco_mask.area(rle))}
