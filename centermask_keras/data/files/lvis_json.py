"""Partial labels, for which classes each image was searched; and what an LVIS json says beyond: how rare they are.

Stage: data. Annotators of an image may have looked for some classes only. Of a class that is neither annotated in an
image nor listed as absent nothing is known; of one that is listed as not exhaustive not all objects are annotated. Two
lists of an image say that, under the keys of LVIS; alone they mean partial labels. A file of LVIS, whose images all
have them in version 0.5 and 1.0, is known by the `frequency` of its categories; it has its own measure and repeats.
Source: Gupta et al. 2019, "LVIS" (arXiv 1908.03195), Section 3; the released annotation files for keys and file names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from centermask_keras.data.files.coco_json import Faults, Table, is_id, is_text
from centermask_keras.errors import Problem

ABSENT, PARTIAL = "neg_category_ids", "not_exhaustive_category_ids"
FREQUENCIES = {"r": "rare", "c": "common", "f": "frequent"}
"""By how many training images have a class: up to 10, up to 100, more."""
COCO_2014_NAME = "COCO_"
NUMBER_AND_SUFFIX = len("000000266409.jpg")


class ClassLists(NamedTuple):
    """What is known of the classes of each image.

    Attributes:
        absent: for each image the ids of the categories that were searched for and not found.
        partial: for each image the ids of the categories whose objects are not all annotated.
    """

    absent: list[list[int]]
    partial: list[list[int]]


def has_class_lists(image_records: list[Any]) -> bool:
    """Say whether the `images` of a json file have lists of classes: partial labels."""
    return any(type(record) is dict and (ABSENT in record or PARTIAL in record) for record in image_records)


def is_lvis(document: dict[str, Any]) -> bool:
    """Say whether a json file is one of LVIS: partial labels, with categories that have a frequency."""
    frequent = any(type(record) is dict and "frequency" in record for record in document["categories"])
    return frequent and has_class_lists(document["images"])


def read_class_lists(images: Table, category_ids: set[int], *, lvis: bool) -> ClassLists:
    """Return the lists of each image; both are required in LVIS, elsewhere that of absent classes."""

    def is_list(value: object) -> bool:
        return type(value) is list and all(is_id(entry) and entry in category_ids for entry in value)

    expected, optional = "a list of ids of categories in this file", {} if lvis else {"default": []}
    absent = images.column(ABSENT, is_list, expected, instead=[])
    return ClassLists(absent, images.column(PARTIAL, is_list, expected, instead=[], **optional))


@dataclass(frozen=True)
class LvisFacts:
    """What an LVIS file says of its categories.

    Attributes:
        frequencies: of each class, `rare`, `common` or `frequent`.
        synsets: of each class; empty where there is none.
        faults: those of the synsets, at which scoring stops.
    """

    frequencies: list[str]
    synsets: list[str]
    faults: list[Problem]


def read_facts(categories: list[Any], category_ids: np.ndarray, faults: Faults) -> LvisFacts:
    """Read what the categories say, in the order of the classes."""
    later = Faults(faults.file)
    letters = Table(categories, "categories", faults).column(
        "frequency", lambda value: value in list(FREQUENCIES), "r, c or f", instead="r"
    )
    synsets = Table(categories, "categories", later).column(
        "synset", lambda value: type(value) is str, "a name", default="", instead=""
    )
    ids = [record.get("id") if type(record) is dict else None for record in categories]
    row_of = {value: row for row, value in enumerate(ids) if is_id(value)}
    rows = [row_of[category] for category in category_ids.tolist()]
    frequencies = [FREQUENCIES[letters[row]] for row in rows]
    return LvisFacts(frequencies, [synsets[row] for row in rows], later.problems)


def name_files(image_records: list[Any], *, lvis: bool) -> list[Any]:
    """Return the records with paths relative to the folder of images, of LVIS that of COCO's 2017 images.

    Version 1.0 has the address of an image instead of a name; its last folder (train2017, val2017) is part of the path.
    Version 0.5 has names of COCO's 2014 release, such as COCO_val2014_000000266409.jpg; the 2017 release has kept their
    numbers.
    """
    return [_name_file(record, lvis) if type(record) is dict else record for record in image_records]


def find_known_classes(
    lists: ClassLists,
    category_ids: np.ndarray,
    object_start: np.ndarray,
    classes: np.ndarray,
) -> list[np.ndarray]:
    """Return for each image the classes of which all objects are annotated: int32, rising.

    Args:
        lists: of each image.
        category_ids: int64 [C], from class to category id.
        object_start: int64 [I + 1], where the objects of each image begin.
        classes: int32 [O], of the objects.
    """
    class_of = {int(category): index for index, category in enumerate(category_ids)}
    known = []
    for image, (without, some) in enumerate(zip(*lists, strict=True)):
        present = classes[object_start[image] : object_start[image + 1]].tolist()
        complete = {class_of[category] for category in without}.union(present) - {
            class_of[category] for category in some
        }
        known.append(np.array(sorted(complete), np.int32))
    return known


def _name_file(record: dict[str, Any], lvis: bool) -> dict[str, Any]:
    name, address = record.get("file_name"), record.get("coco_url")
    if name is None and is_text(address) and "/" in address:
        return {**record, "file_name": "/".join(address.split("/")[-2:])}
    if lvis and is_text(name) and name.startswith(COCO_2014_NAME):
        return {**record, "file_name": name[-NUMBER_AND_SUFFIX:]}
    return record
