"""Images and objects -> a COCO json file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from centermask_keras.convert.source import SourceImage, SourceObject
from centermask_keras.data.files.lvis_json import ABSENT, PARTIAL
from centermask_keras.masks import rle_to_json


def write_document(path: Path, images: list[SourceImage], classes: list[str]) -> tuple[int, int]:
    """Write a COCO json; ids of images, objects and categories count from 1.

    Args:
        path: file to write.
        images: `name` becomes `file_name`; with `known` each gets the lists of partial labels.
        classes: in the order of their ids.

    Returns:
        How many objects it holds, and how many of them are crowd regions.
    """
    id_of = {name: number for number, name in enumerate(classes, 1)}
    rows, annotations = [], []
    for number, image in enumerate(images, 1):
        row = {"id": number, "file_name": image.name, "height": image.hw[0], "width": image.hw[1]}
        if image.known is not None:
            row |= _class_lists(image, id_of)
        rows.append(row)
        for item in image.objects:
            base = {"id": len(annotations) + 1, "image_id": number, "category_id": id_of[item.name]}
            annotations.append({**base, "iscrowd": int(item.crowd), **_measure(item)})
    categories = [{"id": number, "name": name} for name, number in id_of.items()]
    document = {"images": rows, "categories": categories, "annotations": annotations}
    path.write_text(json.dumps(document), encoding="utf-8")
    return len(annotations), sum(row["iscrowd"] for row in annotations)


def _class_lists(image: SourceImage, id_of: dict[str, int]) -> dict[str, list[int]]:
    present = {item.name for item in image.objects}
    return {
        ABSENT: sorted(id_of[name] for name in image.known - present),
        PARTIAL: sorted(id_of[name] for name in present - image.known),
    }


def _measure(item: SourceObject) -> dict[str, Any]:
    """Return mask, box and area of an object as COCO json has them; the area of polygons is that of their outlines."""
    mask = item.segmentation
    if isinstance(mask, dict):
        box, area = coco_mask.toBbox(mask).tolist(), int(coco_mask.area(mask))
        return {"segmentation": rle_to_json(mask), "bbox": box, "area": area}
    points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in mask])
    low, high = points.min(axis=0), points.max(axis=0)
    area = sum(_area(np.reshape(polygon, (-1, 2))) for polygon in mask)
    return {"segmentation": mask, "bbox": [*low.tolist(), *(high - low).tolist()], "area": area}


def _area(points: np.ndarray) -> float:
    x, y = (points - points[0]).T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
