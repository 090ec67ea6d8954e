"""`data check`: read everything that training would read, list what is wrong, and say what kind of dataset it is.

Unlike loading, which stops at the first bad image it comes to, this decodes all images and masks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from centermask_keras.config import Config
from centermask_keras.cores import count_cores
from centermask_keras.data.files.annotations import Annotations, compare_size, read_annotations
from centermask_keras.data.files.images import read_image
from centermask_keras.data.samples.transform import make_letterbox
from centermask_keras.errors import DataError, ImageError, Problem
from centermask_keras.evaluation.data_table import (
    ClassCounts,
    ConfigDrops,
    count_classes,
    count_drops,
    list_classes,
    list_problems,
)
from centermask_keras.geometry.boxes import clip_boxes
from centermask_keras.geometry.transform import apply_to_boxes
from centermask_keras.masks import segmentation_to_rle
from centermask_keras.outputs import is_own_picture, refuse_overwriting, save_picture
from centermask_keras.visualize import draw_ground_truth

SMALL_SIDE = 8  # input pixels, square root of the box area: two cells at stride 4
PICTURES = 16
REPORT = "report.json"
# An edge of a box may be off its mask by this share of the mask's longer side, or this many pixels.
BOX_TOLERANCE, BOX_TOLERANCE_PIXELS = 0.5, 4


@dataclass(frozen=True)
class CheckReport:
    """What `check_dataset` found; `print` gives the summary for the terminal.

    Attributes:
        images, objects, classes: counts of what is sound; crowd regions count as objects.
        crowd_regions: how many of the objects are crowd regions.
        images_without_objects: count.
        problems: faults that training would stop at.
        left_out: objects that training would leave out.
        doubtful: objects whose box and mask lie apart.
        objects_per_image_median, objects_per_image_max: crowd regions not counted, as in the figures below.
        objects_per_class: class name -> count.
        classes_table: a row for each class.
        config_drops: what the configuration would leave out; None without one.
        input_hw, stride: what the next two are measured at, images fitted in whole.
        small_share: share of objects under 8 input pixels (square root of the box area).
        collision_share: share of objects whose centre falls into the cell of another one of their class; None without
            a stride.
        pictures: names of the pictures in `out`, which the next check there removes.
        out: folder with report.json and pictures, or None.
    """

    images: int = 0
    objects: int = 0
    classes: int = 0
    crowd_regions: int = 0
    images_without_objects: int = 0
    problems: list[Problem] = field(default_factory=list)
    left_out: list[Problem] = field(default_factory=list)
    doubtful: list[Problem] = field(default_factory=list)
    objects_per_image_median: float = 0.0
    objects_per_image_max: int = 0
    objects_per_class: dict[str, int] = field(default_factory=dict)
    classes_table: list[ClassCounts] = field(default_factory=list)
    config_drops: ConfigDrops | None = None
    input_hw: tuple[int, int] = (512, 512)
    stride: int | None = 4
    small_share: float = 0.0
    collision_share: float | None = 0.0
    pictures: list[str] = field(default_factory=list)
    out: str | None = None

    def __str__(self) -> str:
        lines = [
            f"{_count(self.images, 'image')}, {_count(self.objects, 'object')}, {_count(self.classes, 'class')}; "
            f"{_count(self.images_without_objects, 'image')} without objects"
        ]
        lines += list_problems("problems that stop training", self.problems)
        lines += list_problems("objects or polygons left out", self.left_out)
        lines += list_problems("boxes that do not fit their masks", self.doubtful)
        height, width = self.input_hw
        size = f"{height}" if height == width else f"{height} x {width}"
        figures = [
            f"objects per image: median {self.objects_per_image_median:g}, max {self.objects_per_image_max:,}",
            f"smaller than {SMALL_SIDE} px at {size}: {self.small_share:.1%}",
        ]
        if self.stride is not None:
            figures.append(f"centre collisions at stride {self.stride}: {self.collision_share:.1%}")
        lines.append("  " + "     ".join(figures))
        lines += [str(self.config_drops)] if self.config_drops else []
        lines += list_classes(self.classes_table)
        if self.out is not None:
            lines.append(f"  pictures: {self.out}{os.sep}   report: {Path(self.out) / REPORT}")
        return "\n".join(lines)


def check_dataset(
    annotations_path: str | Path,
    images_dir: str | Path,
    *,
    input_hw: tuple[int, int] = (512, 512),
    stride: int | None = 4,
    config: Config | None = None,
    out: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Decode all images and masks of a COCO dataset, collect every problem, measure the objects.

    Args:
        annotations_path: json file; an `image_info` file without annotations is a fault of its own.
        images_dir: folder that its file names are relative to, or of shards.
        input_hw: size of the network's input that small objects and collisions are measured at.
        stride: input pixels per cell that holds one centre of each class; None where objects are not found by centres.
        config: gives the two above, and is held against the dataset: what would it drop?
        out: folder for report.json and pictures of the annotations of up to 16 images; made if missing. Pictures of an
            earlier check are removed.
        progress: called with (images done, images in all).

    Returns:
        The report. Bad data never raises.

    Raises:
        CenterMaskError: an output would replace a file of the dataset.
    """
    if config is not None:
        input_hw, stride = config.data.input_hw, config.model.center_stride
    if out is not None:
        refuse_overwriting([Path(out) / REPORT], [Path(annotations_path)])
        _remove_pictures(Path(out))
    try:
        annotations, problems = read_annotations(annotations_path, images_dir)
    except DataError as error:
        report = CheckReport(problems=error.problems, input_hw=input_hw, stride=stride, out=out and str(out))
        return _write_report(report, out)
    if out is not None:
        refuse_overwriting(_output_files(annotations, Path(out)), annotations.input_files())

    unreadable, doubtful = set(range(len(annotations))), []
    faults = annotations.storage.find_faults(annotations.path, annotations.file_names)
    if not faults:
        unreadable, faults, doubtful = _check_images(annotations, progress)
    problems += faults
    report = CheckReport(
        images=len(annotations),
        objects=len(annotations.boxes),
        classes=annotations.num_classes,
        problems=problems,
        left_out=annotations.drops,
        doubtful=doubtful,
        input_hw=input_hw,
        stride=stride,
        classes_table=count_classes(annotations),
        config_drops=config and count_drops(annotations, config),
        pictures=[] if out is None else _draw_pictures(annotations, unreadable, Path(out)),
        out=out and str(out),
        **_measure_objects(annotations, input_hw, stride),
    )
    return _write_report(report, out)


def _check_images(
    annotations: Annotations, progress: Callable[[int, int], None] | None
) -> tuple[set[int], list[Problem], list[Problem]]:
    """Check all images in parallel; return the indices of those at fault, the faults, the doubtful objects."""
    unreadable: set[int] = set()
    problems: list[Problem] = []
    doubtful: list[Problem] = []
    with ThreadPoolExecutor(count_cores()) as pool:  # decoding releases the interpreter lock
        checked = pool.map(lambda index: _check_image(annotations, index), range(len(annotations)))
        for index, (faults, doubts) in enumerate(checked):
            problems += faults
            doubtful += doubts
            if faults:
                unreadable.add(index)
            if progress is not None:
                progress(index + 1, len(annotations))
    return unreadable, problems, doubtful


def _check_image(annotations: Annotations, index: int) -> tuple[list[Problem], list[Problem]]:
    """Decode one image and its masks; return its faults and its doubtful objects."""
    file, rows = annotations.image_file(index), annotations.objects(index)
    try:
        hw = read_image(file).shape[:2]
    except ImageError as error:
        ids = ", ".join(map(str, annotations.annotation_ids[rows]))
        where = f"image {annotations.image_ids[index]} (annotation ids {ids or 'none'})"
        return [Problem(str(file), where, error.expected, error.reason)], []
    if problem := compare_size(annotations, index, hw):
        return [problem], []
    return [], _compare_masks(annotations, index)


def _compare_masks(annotations: Annotations, index: int) -> list[Problem]:
    """Return the objects of one image whose box lies far from the pixels of their mask."""
    rows, hw = annotations.objects(index), tuple(annotations.image_hw[index].tolist())
    rles = [segmentation_to_rle(segmentation, hw) for segmentation in annotations.segmentations[rows]]
    if not rles:
        return []
    boxes, found = annotations.boxes[rows].astype(float), coco_mask.toBbox(rles)  # xyxy and xywh
    longer_sides = found[:, 2:].max(axis=1)  # 0 for a mask without pixels
    found[:, 2:] += found[:, :2]
    tolerance = np.maximum(BOX_TOLERANCE_PIXELS, BOX_TOLERANCE * longer_sides)
    apart = np.abs(found - boxes).max(axis=1) > tolerance
    return [
        Problem(
            str(annotations.path),
            f"annotation {annotations.annotation_ids[rows][i]} (image {annotations.image_ids[index]})",
            f"a bbox around its mask, corners {found[i].tolist()}",
            f"corners {boxes[i].round(1).tolist()}",
        )
        for i in np.flatnonzero(apart)
    ]


def _measure_objects(annotations: Annotations, input_hw: tuple[int, int], stride: int | None) -> dict[str, object]:
    """Return the statistics of `CheckReport` that concern single objects."""
    image_of = np.repeat(np.arange(len(annotations)), np.diff(annotations.object_start))
    single = ~annotations.crowd
    per_image = np.bincount(image_of[single], minlength=len(annotations))
    boxes = np.zeros(annotations.boxes.shape)
    for index, hw in enumerate(annotations.image_hw.tolist()):
        rows = annotations.objects(index)
        boxes[rows] = apply_to_boxes(make_letterbox(hw, input_hw), annotations.boxes[rows])
    boxes = clip_boxes(boxes, input_hw)[single]
    sides = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
    classes = annotations.classes[single]
    count = max(1, len(boxes))
    per_class = np.bincount(classes, minlength=annotations.num_classes).tolist()
    return {
        "crowd_regions": int(annotations.crowd.sum()),
        "images_without_objects": int((np.diff(annotations.object_start) == 0).sum()),
        "objects_per_image_median": float(np.median(per_image)) if len(per_image) else 0.0,
        "objects_per_image_max": int(per_image.max(initial=0)),
        "objects_per_class": dict(zip(annotations.class_names, per_class, strict=True)),
        "small_share": float((sides < SMALL_SIDE).sum() / count),
        "collision_share": stride and _count_collisions(image_of[single], classes, boxes, stride) / count,
    }


def _count_collisions(image_of: np.ndarray, classes: np.ndarray, boxes: np.ndarray, stride: int) -> int:
    """Count the objects whose centre falls into the cell of an earlier one of their image and class."""
    cells = ((boxes[:, :2] + boxes[:, 2:]) / 2 // stride).astype(np.int64)
    return len(boxes) - len(np.unique(np.column_stack([image_of, classes, cells]), axis=0))


def _draw_pictures(annotations: Annotations, unreadable: set[int], out: Path) -> list[str]:
    """Draw the annotations of images spread over the file, those with objects first; return the names of the files."""
    out.mkdir(parents=True, exist_ok=True)
    readable = np.array([index for index in range(len(annotations)) if index not in unreadable], np.int64)
    empty = np.diff(annotations.object_start)[readable] == 0
    chosen = readable[~empty] if (~empty).any() else readable
    names = []
    for place in np.unique(np.linspace(0, len(chosen) - 1, PICTURES).round().astype(np.int64)) if len(chosen) else []:
        index = int(chosen[place])
        picture = draw_ground_truth(read_image(annotations.image_file(index)), annotations, index)
        file = _picture_file(annotations, index, out)
        save_picture(Image.fromarray(picture), file)
        names.append(file.name)
    return names


def _output_files(annotations: Annotations, out: Path) -> list[Path]:
    """List what a check may write: which of the pictures is known when all images have been read."""
    return [out / REPORT, *(_picture_file(annotations, index, out) for index in range(len(annotations)))]


def _picture_file(annotations: Annotations, index: int, out: Path) -> Path:
    return out / f"{annotations.image_ids[index]}.jpg"


def _remove_pictures(out: Path) -> None:
    """Remove the pictures that the report of an earlier check in this folder names, and nothing else."""
    try:
        names = json.loads((out / REPORT).read_text(encoding="utf-8"))["pictures"]
    except (OSError, ValueError, KeyError, TypeError):  # no earlier check, or none that names them
        return
    for name in names if isinstance(names, list) else []:
        if isinstance(name, str) and Path(name).name == name and is_own_picture(out / name):
            (out / name).unlink()


def _write_report(report: CheckReport, out: str | Path | None) -> CheckReport:
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        (Path(out) / REPORT).write_text(json.dumps(asdict(report), indent=2) + "\n")
    return report


def _count(count: int, noun: str) -> str:
    plural = "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{'' if count == 1 else plural}"
