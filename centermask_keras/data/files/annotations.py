"""A COCO or LVIS annotation file and its images -> compact columns, checked before anything trains on them.

Stage: data. Two kinds of fault: those that mean that the file is not what its author thinks stop with the full list;
objects that cannot be learned from are dropped and counted.
Source: the COCO data format, https://cocodataset.org/#format-data; for LVIS see data/files/lvis_json.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from centermask_keras.data.files.coco_columns import (
    FOR_SAMPLES,
    FileObjects,
    LeftOut,
    learned_columns,
    name_annotation,
    open_document,
    read_categories,
    read_images,
    read_objects,
)
from centermask_keras.data.files.lvis_json import ClassLists, LvisFacts, find_known_classes, is_lvis, read_facts
from centermask_keras.data.files.segmentations import Segmentations
from centermask_keras.data.files.shards import ImageFile, ImageShards
from centermask_keras.data.files.storage import ImageFolder, open_images
from centermask_keras.data.order import SampleOrder, repeat_factors
from centermask_keras.errors import DataError, ImageError, Problem

Crowd = Literal["train", "ignore", "drop"]
"""What samples make of crowd regions: ordinary objects; neither object nor background; nothing."""


@dataclass(frozen=True, eq=False)
class Annotations:
    """A dataset of I images, O objects and C classes. The objects of one image lie next to each other, in file order.

    In a process that makes batches it holds what samples are made of: neither `file_objects` nor `class_lists`,
    nor what was left out.

    Attributes:
        path: the json file.
        storage: where the images are; None where only the annotations were read.
        image_ids: int64 [I], as in the file, in file order.
        file_names: I names of image files in `storage`.
        image_hw: int32 [I, 2].
        class_names: C names; class c is the category with the c-th lowest id.
        category_ids: int64 [C], rising: from class to category id.
        object_start: int64 [I + 1], image i owns the objects object_start[i] : object_start[i + 1].
        boxes: float32 [O, 4], xyxy in original pixels, as annotated: they may reach beyond the image.
        classes: int32 [O], contiguous from 0.
        crowd: bool [O], as in the file.
        annotation_ids: int64 [O], as in the file.
        segmentations: O masks, see `Segmentations`.
        left_out: the objects, or polygons of objects, that cannot be learned from.
        file_objects: all objects of the file, for scoring; None in a process that makes batches.
        has_annotations: whether the file has annotations at all; an `image_info` file has none.
        known_classes: for each image the classes of which all objects are annotated, int32, rising; None if that is
            true of all classes in all images, as in COCO. Partial labels, as those of LVIS, know some classes of each.
        class_lists: the lists in the file that say so, for scoring; None if there are none.
        lvis: what an LVIS file says of its categories; None of others.
        crowd_policy: what is made of crowd regions here, see `under`; files are read with "ignore".
    """

    path: Path
    storage: ImageFolder | ImageShards | None
    image_ids: np.ndarray
    file_names: list[str]
    image_hw: np.ndarray
    class_names: list[str]
    category_ids: np.ndarray
    object_start: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    annotation_ids: np.ndarray
    segmentations: Segmentations
    left_out: list[LeftOut]
    file_objects: FileObjects | None
    has_annotations: bool
    known_classes: list[np.ndarray] | None
    class_lists: ClassLists | None
    lvis: LvisFacts | None
    crowd_policy: Crowd = "ignore"

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.image_ids)

    def __getstate__(self) -> dict[str, Any]:
        """Give another process what samples are made of, and nothing that can be made again."""
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        return state | {"file_objects": None, "class_lists": None, "left_out": []}

    @property
    def num_classes(self) -> int:
        """Number of classes C."""
        return len(self.class_names)

    def image_file(self, index: int) -> ImageFile:
        """Return the file of one image."""
        return self.storage.file(self.file_names[index])

    def input_files(self) -> list[Path]:
        """Return all files that the dataset is read from."""
        return [self.path, *self.storage.files(self.file_names)]

    def objects(self, index: int) -> slice:
        """Return the rows of one image's objects in the columns of length O."""
        return slice(int(self.object_start[index]), int(self.object_start[index + 1]))

    @property
    def drops(self) -> list[Problem]:
        """What was left out, one by one, each with its id."""
        return [entry.problem for entry in self.left_out]

    @property
    def dropped(self) -> dict[str, int]:
        """How many objects (or polygons) were left out for each reason."""
        return dict(Counter(entry.reason for entry in self.left_out))

    @cached_property
    def order(self) -> SampleOrder:
        """The order of its training samples: images of LVIS with rare classes come more often."""
        factors = np.ones(len(self))
        if self.lvis is not None:
            factors = repeat_factors(self.object_start, self.classes, self.num_classes)
        return SampleOrder(self.image_hw, factors)

    @cached_property
    def most_classes(self) -> tuple[int, int]:
        """The most classes, and the most classes of crowd regions, in one image; at least 1 each."""
        image = np.repeat(np.arange(len(self)), np.diff(self.object_start))
        counts = []
        for chosen in (~self.crowd, self.crowd):
            pairs = np.unique(np.stack([image[chosen], self.classes[chosen]]), axis=1)
            counts.append(max(1, int(np.bincount(pairs[0], minlength=1).max())))
        return counts[0], counts[1]

    @cached_property
    def most_known(self) -> int:
        """L: the most classes whose objects are all annotated in one image of partial labels; at least 1."""
        return max(1, max(len(classes) for classes in self.known_classes))

    def under(self, policy: Crowd) -> Annotations:
        """Return the dataset as samples see it under a crowd policy; what is scored stays the same.

        Args:
            policy: "ignore" keeps crowd regions flagged, "train" makes them ordinary objects, "drop" leaves them out.
        """
        if policy in ("ignore", self.crowd_policy):
            return self
        return self._trained_on_crowds if policy == "train" else self._without_crowds

    @cached_property
    def _trained_on_crowds(self) -> Annotations:
        return replace(self, crowd=np.zeros_like(self.crowd), crowd_policy="train")

    @cached_property
    def _without_crowds(self) -> Annotations:
        rows = np.flatnonzero(~self.crowd)
        object_start = np.concatenate([[0], np.cumsum(~self.crowd)])[self.object_start]
        known, classes = self.known_classes, self.classes[rows]
        if known is not None:
            known = find_known_classes(self.class_lists, self.category_ids, object_start, classes)
        return replace(
            self,
            object_start=object_start,
            boxes=self.boxes[rows],
            classes=classes,
            crowd=self.crowd[rows],
            annotation_ids=self.annotation_ids[rows],
            segmentations=self.segmentations.select(rows),
            left_out=[*self._list_crowds(), *(entry for entry in self.left_out if not entry.crowd)],
            known_classes=known,
            crowd_policy="drop",
        )

    def _list_crowds(self) -> list[LeftOut]:
        """List the crowd regions of the file as what is left out."""
        objects, expected = self.file_objects, "single objects (crowd policy drop)"
        places = [
            name_annotation(objects.annotation_ids[row], self.image_ids[objects.images[row]])
            for row in np.flatnonzero(objects.crowd)
        ]
        problems = [Problem(str(self.path), place, expected, "a crowd region") for place in places]
        return [LeftOut("crowd region", problem, True) for problem in problems]


def load_annotations(
    path: str | Path,
    images_dir: str | Path,
    *,
    require_annotations: bool = True,
) -> Annotations:
    """Load a COCO or LVIS annotation file and check it against its images.

    Args:
        path: json file with `images`, `categories` and `annotations`. An LVIS file is known by the frequency of its
            categories.
        images_dir: folder that the file names are relative to, or of shards. With LVIS 1.0 that is the folder of
            train2017 and val2017.
        require_annotations: False accepts an `image_info` file, which has no `annotations`.

    Returns:
        The columns. Left out of them and counted in `dropped`: boxes without area or outside of the image, polygons of
        under 3 points, objects without a segmentation.

    Raises:
        DataError: with all problems found: unreadable json, NaN, a wrong form, unknown or repeated ids, an RLE or an
            image file of another size, a missing or undecodable image file, shards that are not whole or not of these
            images. States file, id, expected and received.
    """
    annotations, problems = read_annotations(path, images_dir, require_annotations=require_annotations)
    problems += _check_files(annotations)
    if problems:
        raise DataError(problems)
    return annotations


def read_annotations(
    path: str | Path,
    images_dir: str | Path | None = None,
    *,
    require_annotations: bool = True,
    needs: Collection[str] = FOR_SAMPLES,
) -> tuple[Annotations, list[Problem]]:
    """Read a COCO or LVIS annotation file without looking at its images, leaving out what is at fault.

    Args:
        path, images_dir, require_annotations: as for `load_annotations`; without a folder there are no images.
        needs: which columns of `FOR_SAMPLES` have to be sound; the others are not looked at and hold nothing.

    Returns:
        The columns of everything sound, and the faults.

    Raises:
        DataError: not json, or without one of its lists; shards without a readable index.
    """
    path, storage = Path(path), None if images_dir is None else open_images(images_dir)
    document, faults = open_document(path, require_annotations=require_annotations)
    category_ids, class_names = read_categories(document["categories"], faults)
    images = read_images(document["images"], category_ids, faults, needs, lvis=is_lvis(document))
    objects, left_out = read_objects(document.get("annotations", []), images, category_ids, faults, needs)
    columns = learned_columns(objects, len(images.ids))
    known = lvis = None
    if images.class_lists:
        known = find_known_classes(images.class_lists, category_ids, columns["object_start"], columns["classes"])
    if is_lvis(document):
        lvis = read_facts(document["categories"], category_ids, faults)
    annotations = Annotations(
        path=path,
        storage=storage,
        image_ids=images.ids,
        file_names=images.file_names,
        image_hw=images.hw,
        class_names=class_names,
        category_ids=category_ids,
        **columns,
        left_out=left_out,
        file_objects=objects,
        has_annotations="annotations" in document,
        known_classes=known,
        class_lists=images.class_lists,
        lvis=lvis,
    )
    return annotations, faults.problems


def _check_files(annotations: Annotations) -> list[Problem]:
    """Look for every image file and compare its size with the annotations."""
    storage = annotations.storage
    if problems := storage.find_faults(annotations.path, annotations.file_names):
        return problems
    for index, (image_id, name) in enumerate(zip(annotations.image_ids, annotations.file_names, strict=True)):
        try:
            hw = storage.hw(name)
        except ImageError as error:
            problems.append(Problem(error.path, f"image {image_id}", error.expected, error.reason))
            continue
        if problem := compare_size(annotations, index, hw):
            problems.append(problem)
    return problems


def compare_size(annotations: Annotations, index: int, hw: tuple[int, int]) -> Problem | None:
    """Return the fault if an image file has another (height, width) than the annotations say."""
    height, width = annotations.image_hw[index].tolist()
    if hw == (height, width):
        return None
    return Problem(
        str(annotations.path),
        f"image {annotations.image_ids[index]} ({annotations.file_names[index]})",
        f"width {hw[1]}, height {hw[0]} as in the file (EXIF orientation applied)",
        f"width {width}, height {height}",
    )
