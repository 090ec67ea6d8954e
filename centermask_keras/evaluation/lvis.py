"""The rules of the LVIS measure, as changes of what the COCO measure compares.

Stage: evaluation. Of a class that an image was not searched for, detections do not count. Of a class that is not
exhaustively annotated in an image, detections without an object do not count: a crowd region over the whole image,
which the COCO measure never asks anybody to find, takes them. So both measures share one matching, for masks, boxes
and boundaries, in either backend.
Source: Gupta et al. 2019, "LVIS" (arXiv 1908.03195), Section 3; a test holds the figures to those of its own package.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from centermask_keras.coco_categories import COCO_TO_LVIS, coco_categories
from centermask_keras.errors import CenterMaskError
from centermask_keras.evaluation.scoring_inputs import IouType, ScoringTruth
from centermask_keras.masks import segmentation_to_rle

LVIS_DETECTIONS = 300
"""Detections that count in an image, those of all classes together."""
EVERYWHERE = [-1e6, -1e6, 3e6, 3e6]
"""A box, xywh, around all that results may hold."""


def federate(
    truth: ScoringTruth, detections: list[dict[str, Any]], iou_type: IouType
) -> tuple[ScoringTruth, list[dict[str, Any]]]:
    """Apply the federated rules: of LVIS, the COCO measure of what comes back is the LVIS measure.

    Args:
        truth: of partial labels; of those of LVIS only the best detections of each image count.
        detections: results in the form of `ScoringTruth.objects`, with `score`.
        iou_type: what will be compared.

    Returns:
        The ground truth with a crowd region for each class and image that is not exhaustively annotated and has
        detections; the detections that count.
    """
    present = {(row["image_id"], row["category_id"]) for row in truth.objects}
    counted, partial = [], set()
    for row in _best_of_each_image(detections) if truth.federation.is_lvis else detections:
        image, category = row["image_id"], row["category_id"]
        if (image, category) not in present and category not in truth.federation.absent[image]:
            continue
        if category in truth.federation.partial[image]:
            if row["area"] == 0:  # nothing lies in a crowd region, and it can match no object either
                continue
            partial.add((image, category))
        counted.append(row)
    crowds = [_make_crowd(truth, *pair, iou_type) for pair in sorted(partial)]
    objects = [*truth.objects, *crowds]
    for number, row in enumerate(objects, 1):
        row["id"] = number
    return replace(truth, objects=objects), counted


def check_coco_classes(categories: Iterable[tuple[int, str]]) -> None:
    """Check that classes (id, name) are among COCO's.

    Raises:
        CenterMaskError: the first that is not.
    """
    known = coco_categories()
    for category, name in categories:
        if known.get(category) != name:
            raise CenterMaskError(
                f"--from-coco: expected a model of COCO's categories, received {name!r} (id {category})"
            )


def translate_coco(truth: ScoringTruth, detections: list[dict[str, Any]]) -> tuple[ScoringTruth, list[dict[str, Any]]]:
    """Give COCO detections the categories of an LVIS file, and leave out what has no counterpart, on both sides.

    Args:
        truth: of an LVIS file.
        detections: with COCO category ids.

    Returns:
        The ground truth of the categories that COCO has as well, and the detections of those, with LVIS ids.
    """
    if not any(truth.federation.synsets.values()):
        raise CenterMaskError("LVIS categories: expected a synset in each, to find those of COCO by, received none")
    category_of = {synset: category for category, synset in truth.federation.synsets.items()}
    to_lvis = {coco: category_of[synset] for coco, (_, synset) in COCO_TO_LVIS.items() if synset in category_of}
    common = set(to_lvis.values())
    class_names = {category: name for category, name in truth.class_names.items() if category in common}
    objects = [row for row in truth.objects if row["category_id"] in common]
    translated = [
        {**row, "category_id": to_lvis[row["category_id"]]} for row in detections if row["category_id"] in to_lvis
    ]
    return replace(truth, class_names=class_names, objects=objects), translated


def _best_of_each_image(detections: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the detections of highest score, at most `LVIS_DETECTIONS` per image; of equal scores the earlier."""
    images: dict[int, list[dict[str, Any]]] = {}
    for row in detections:
        images.setdefault(row["image_id"], []).append(row)
    for image, rows in images.items():
        if len(rows) > LVIS_DETECTIONS:
            images[image] = sorted(rows, key=lambda row: -row["score"])[:LVIS_DETECTIONS]
    return [row for rows in images.values() for row in rows]


def _make_crowd(truth: ScoringTruth, image: int, category: int, iou_type: IouType) -> dict[str, Any]:
    height, width = truth.image_hw[image]
    whole = {"size": [height, width], "counts": [0, height * width]}
    shape = (
        {"bbox": EVERYWHERE} if iou_type == "bbox" else {"segmentation": segmentation_to_rle(whole, (height, width))}
    )
    return {"image_id": image, "category_id": category, "iscrowd": 1, "area": height * width, **shape}
