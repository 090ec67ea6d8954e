"""A COCO or LVIS annotation file and its images -> compact columns, checked before anything trains on them.

Stage: data. Two kinds of fault: those that mean that the file is not what its author thinks stop with the full list;
objects that cannot be learned from are dropped and counted.
Source: the COCO data format, https://cocodataset.org/#format-data; for LVIS see data/lvis_json.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from centermask_keras.data.coco_columns import Crowd, read_categories, read_images, read_objects
from centermask_keras.data.coco_json import Faults, Table, check_lists, read_json
from centermask_keras.data.lvis_json import find_known_classes, read_frequencies
from centermask_keras.data.segmentations import Segmentations
from centermask_keras.data.shards import ImageFile, ImageShards
from centermask_keras.data.storage import ImageFolder, open_images
from centermask_keras.errors import DataError, ImageError, Problem


@dataclass(frozen=True, eq=False)
class Annotations:
    """A dataset of I images, O objects and C classes. The objects of one image lie next to each other, in file order.

    Attributes:
        path: the json file.
        storage: where the images are.
        image_ids: int64 [I], as in the file, in file order.
        file_names: I names of image files in `storage`.
        image_hw: int32 [I, 2].
        class_names: C names; class c is the category with the c-th lowest id.
        category_ids: int64 [C], rising: from class to category id.
        object_start: int64 [I + 1], image i owns the objects object_start[i] : object_start[i + 1].
        boxes: float32 [O, 4], xyxy in original pixels, as annotated: they may reach beyond the image.
        classes: int32 [O], contiguous from 0.
        crowd: bool [O].
        annotation_ids: int64 [O], as in the file.
        segmentations: O masks, see `Segmentations`.
        dropped: reason -> how many objects (or polygons) were left out for it.
        drops: each of those, with its id.
        has_annotations: whether the file has annotations at all; an `image_info` file has none.
        known_classes: for each image the classes of which all objects are annotated, int32, rising; None if that is
            true of all classes in all images, as in COCO. LVIS knows some classes of each image only.
    """

    path: Path
    storage: ImageFolder | ImageShards
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
    dropped: dict[str, int]
    drops: list[Problem]
    has_annotations: bool
    known_classes: list[np.ndarray] | None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.image_ids)

    @property
    def num_classes(self) -> int:
        """Number of classes C."""
        return len(self.class_names)

    def image_file(self, index: int) -> ImageFile:
        """Return the file of one image."""
        return self.storage.file(self.file_names[index])

    def objects(self, index: int) -> slice:
        """Return the rows of one image's objects in the columns of length O."""
        return slice(int(self.object_start[index]), int(self.object_start[index + 1]))


def load_annotations(
    path: str | Path,
    images_dir: str | Path,
    *,
    crowd: Crowd = "ignore",
    require_annotations: bool = True,
) -> Annotations:
    """Load a COCO or LVIS annotation file and check it against its images.

    Args:
        path: json file with `images`, `categories` and `annotations`. An LVIS file is known by the lists of categories
            that its images have.
        images_dir: folder that the file names are relative to, or of shards. With LVIS 1.0 that is the folder of
            train2017 and val2017.
        crowd: "ignore" keeps crowd regions flagged, "train" makes them ordinary objects, "drop" leaves them out.
        require_annotations: False accepts an `image_info` file, which has no `annotations`.

    Returns:
        The columns. Left out and counted in `dropped`: boxes without area or outside of the image, polygons of under
        3 points, objects without a segmentation.

    Raises:
        DataError: with all problems found: unreadable json, NaN, a wrong form, unknown or repeated ids, an RLE or an
            image file of another size, a missing or undecodable image file, shards that are not whole or not of these
            images. States file, id, expected and received.
    """
    annotations, problems = read_annotations(path, images_dir, crowd=crowd, require_annotations=require_annotations)
    problems += _check_files(annotations)
    if problems:
        raise DataError(problems)
    return annotations


def read_annotations(
    path: str | Path, images_dir: str | Path, *, crowd: Crowd, require_annotations: bool
) -> tuple[Annotations, list[Problem]]:
    """Read a COCO annotation file without its images, leaving out what is at fault.

    Args:
        path, images_dir, crowd, require_annotations: as for `load_annotations`.

    Returns:
        The columns of everything sound, and the faults.

    Raises:
        DataError: not json, or without one of its lists; shards without a readable index.
    """
    path, storage = Path(path), open_images(images_dir)
    document = read_json(path)
    faults = Faults(path)
    has_annotations = "annotations" in document
    check_lists(document, faults, require_annotations=require_annotations)
    if faults.problems:
        raise DataError(faults.problems)  # what remains would only repeat that
    category_ids, class_names = read_categories(document["categories"], faults)
    images = read_images(document["images"], category_ids, faults)
    objects, drops = read_objects(document.get("annotations", []), images, category_ids, crowd, faults)
    known = None
    if images.class_lists:
        read_frequencies(Table(document["categories"], "categories", faults))  # scoring needs them, after the training
        known = find_known_classes(*images.class_lists, category_ids, objects["object_start"], objects["classes"])
    annotations = Annotations(
        path=path,
        storage=storage,
        image_ids=images.ids,
        file_names=images.file_names,
        image_hw=images.hw,
        class_names=class_names,
        category_ids=category_ids,
        **objects,
        dropped=dict(drops.counts),
        drops=drops.problems,
        has_annotations=has_annotations,
        known_classes=known,
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
