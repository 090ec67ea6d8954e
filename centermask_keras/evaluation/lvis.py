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

from centermask_keras.errors import CenterMaskError
from centermask_keras.evaluation.records import GroundTruth, IouType
from centermask_keras.masks import segmentation_to_rle

LVIS_DETECTIONS = 300
"""Detections that count in an image, those of all classes together."""
EVERYWHERE = [-1e6, -1e6, 3e6, 3e6]
"""A box, xywh, around all that results may hold."""

COCO_TO_LVIS = {
    1: ("person", "person.n.01"),
    2: ("bicycle", "bicycle.n.01"),
    3: ("car", "car.n.01"),
    4: ("motorcycle", "motorcycle.n.01"),
    5: ("airplane", "airplane.n.01"),
    6: ("bus", "bus.n.01"),
    7: ("train", "train.n.01"),
    8: ("truck", "truck.n.01"),
    9: ("boat", "boat.n.01"),
    10: ("traffic light", "traffic_light.n.01"),
    11: ("fire hydrant", "fireplug.n.01"),
    13: ("stop sign", "stop_sign.n.01"),
    14: ("parking meter", "parking_meter.n.01"),
    15: ("bench", "bench.n.01"),
    16: ("bird", "bird.n.01"),
    17: ("cat", "cat.n.01"),
    18: ("dog", "dog.n.01"),
    19: ("horse", "horse.n.01"),
    20: ("sheep", "sheep.n.01"),
    21: ("cow", "beef.n.01"),
    22: ("elephant", "elephant.n.01"),
    23: ("bear", "bear.n.01"),
    24: ("zebra", "zebra.n.01"),
    25: ("giraffe", "giraffe.n.01"),
    27: ("backpack", "backpack.n.01"),
    28: ("umbrella", "umbrella.n.01"),
    31: ("handbag", "bag.n.04"),
    32: ("tie", "necktie.n.01"),
    33: ("suitcase", "bag.n.06"),
    34: ("frisbee", "frisbee.n.01"),
    35: ("skis", "ski.n.01"),
    36: ("snowboard", "snowboard.n.01"),
    37: ("sports ball", "ball.n.06"),
    38: ("kite", "kite.n.03"),
    39: ("baseball bat", "baseball_bat.n.01"),
    40: ("baseball glove", "baseball_glove.n.01"),
    41: ("skateboard", "skateboard.n.01"),
    42: ("surfboard", "surfboard.n.01"),
    43: ("tennis racket", "tennis_racket.n.01"),
    44: ("bottle", "bottle.n.01"),
    46: ("wine glass", "wineglass.n.01"),
    47: ("cup", "cup.n.01"),
    48: ("fork", "fork.n.01"),
    49: ("knife", "knife.n.01"),
    50: ("spoon", "spoon.n.01"),
    51: ("bowl", "bowl.n.03"),
    52: ("banana", "banana.n.02"),
    53: ("apple", "apple.n.01"),
    54: ("sandwich", "sandwich.n.01"),
    55: ("orange", "orange.n.01"),
    56: ("broccoli", "broccoli.n.01"),
    57: ("carrot", "carrot.n.01"),
    58: ("hot dog", "frank.n.02"),
    59: ("pizza", "pizza.n.01"),
    60: ("donut", "doughnut.n.02"),
    61: ("cake", "cake.n.03"),
    62: ("chair", "chair.n.01"),
    63: ("couch", "sofa.n.01"),
    64: ("potted plant", "pot.n.04"),
    65: ("bed", "bed.n.01"),
    67: ("dining table", "dining_table.n.01"),
    70: ("toilet", "toilet.n.02"),
    72: ("tv", "television_receiver.n.01"),
    73: ("laptop", "laptop.n.01"),
    74: ("mouse", "mouse.n.04"),
    75: ("remote", "remote_control.n.01"),
    76: ("keyboard", "computer_keyboard.n.01"),
    77: ("cell phone", "cellular_telephone.n.01"),
    78: ("microwave", "microwave.n.02"),
    79: ("oven", "oven.n.01"),
    80: ("toaster", "toaster.n.02"),
    81: ("sink", "sink.n.01"),
    82: ("refrigerator", "electric_refrigerator.n.01"),
    84: ("book", "book.n.01"),
    85: ("clock", "clock.n.01"),
    86: ("vase", "vase.n.01"),
    87: ("scissors", "scissors.n.01"),
    88: ("teddy bear", "teddy.n.01"),
    89: ("hair drier", "hand_blower.n.01"),
    90: ("toothbrush", "toothbrush.n.01"),
}
"""COCO category id -> its name, and the WordNet synset that LVIS has for the same thing.

Source: the table in data/coco_to_synset.json of the LVIS API. Version 0.5 of LVIS has no category for oven.n.01, and
neither 0.5 nor 1.0 one for frank.n.02 (hot dog). In version 0.5 the category of person.n.01 is called baby.
"""


def federate(
    truth: GroundTruth, detections: list[dict[str, Any]], iou_type: IouType
) -> tuple[GroundTruth, list[dict[str, Any]]]:
    """Apply the federated rules, so that the COCO measure of what comes back is the LVIS measure.

    Args:
        truth: of an LVIS file.
        detections: results in the form of `GroundTruth.objects`, with `score`.
        iou_type: what will be compared.

    Returns:
        The ground truth with a crowd region for each class and image that is not exhaustively annotated and has
        detections; the detections that count.
    """
    present = {(row["image_id"], row["category_id"]) for row in truth.objects}
    counted, partial = [], set()
    for row in _best_of_each_image(detections):
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


def coco_categories() -> dict[int, str]:
    """Return the names of COCO's 80 categories by their ids."""
    return {category: name for category, (name, _) in COCO_TO_LVIS.items()}


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


def translate_coco(truth: GroundTruth, detections: list[dict[str, Any]]) -> tuple[GroundTruth, list[dict[str, Any]]]:
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


def _make_crowd(truth: GroundTruth, image: int, category: int, iou_type: IouType) -> dict[str, Any]:
    height, width = truth.image_hw[image]
    whole = {"size": [height, width], "counts": [0, height * width]}
    shape = (
        {"bbox": EVERYWHERE} if iou_type == "bbox" else {"segmentation": segmentation_to_rle(whole, (height, width))}
    )
    return {"image_id": image, "category_id": category, "iscrowd": 1, "area": height * width, **shape}
