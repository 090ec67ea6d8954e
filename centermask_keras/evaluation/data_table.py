"""What `data check` counts: objects by class, what a configuration would drop, problems by kind."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from centermask_keras.config import Config
from centermask_keras.data.files.annotations import Annotations
from centermask_keras.data.samples.sample import SampleCounters, choose_objects
from centermask_keras.data.samples.transform import make_keep, make_letterbox
from centermask_keras.errors import Problem

SHOWN_EXAMPLES = 3  # of each kind of problem
_NUMBERS = re.compile(r"-?\d+(?:[.,]\d+)*")
_NAME_WIDTH = 40


@dataclass(frozen=True)
class ClassCounts:
    """One class of a dataset; crowd regions are not counted.

    Attributes:
        id: of the category in the file.
        name: its name.
        objects: how many.
        images: how many have one.
        median_side: median square root of the box area, original pixels; 0 without objects.
    """

    id: int
    name: str
    objects: int
    images: int
    median_side: float


@dataclass(frozen=True)
class ConfigDrops:
    """What a configuration would leave out of a dataset, every image whole, at the scale of training without zoom.

    Attributes:
        too_small: objects with a side under one input pixel.
        collisions: objects whose centre shares class and cell with an earlier one's.
        over_max_objects: objects beyond N.
        images_over_max_detections: images with more objects than K.
        max_objects, max_detections: N and K.
    """

    too_small: int
    collisions: int
    over_max_objects: int
    images_over_max_detections: int
    max_objects: int
    max_detections: int

    def __str__(self) -> str:
        return (
            f"  this configuration drops: {self.too_small:,} objects under one input pixel, "
            f"{self.collisions:,} whose centre is in the cell of another one, "
            f"{self.over_max_objects:,} beyond data.max_objects {self.max_objects:,}\n"
            f"  images with more objects than model.max_detections {self.max_detections:,}: "
            f"{self.images_over_max_detections:,}"
        )


def count_classes(annotations: Annotations) -> list[ClassCounts]:
    """Count the objects of each class, in the order of the ids."""
    image_of = np.repeat(np.arange(len(annotations)), np.diff(annotations.object_start))
    sides = np.sqrt(np.prod(annotations.boxes[:, 2:] - annotations.boxes[:, :2], axis=1))
    rows = []
    for label, (category, name) in enumerate(zip(annotations.category_ids, annotations.class_names, strict=True)):
        chosen = (annotations.classes == label) & ~annotations.crowd
        median = float(np.median(sides[chosen])) if chosen.any() else 0.0
        images = len(np.unique(image_of[chosen]))
        rows.append(ClassCounts(int(category), name, int(chosen.sum()), images, round(median, 1)))
    return rows


def count_drops(annotations: Annotations, config: Config) -> ConfigDrops:
    """Count what training would leave out of whole images, with the code of training."""
    annotations, counters = annotations.under(config.data.crowd), SampleCounters()
    over = 0
    for index, hw in enumerate(annotations.image_hw.tolist()):
        view = make_letterbox(hw, config.data.input_hw), config.data.input_hw
        if config.data.augmentation.crop == "window":  # at the resolution of the image
            view = make_keep(hw, config.model.input_multiple)
        choose_objects(annotations, index, config, *view, counters)
        single = int((~annotations.crowd[annotations.objects(index)]).sum())
        over += single > config.model.max_detections
    return ConfigDrops(
        too_small=counters.too_small,
        collisions=counters.collisions,
        over_max_objects=counters.over_max_objects,
        images_over_max_detections=over,
        max_objects=config.data.max_objects,
        max_detections=config.model.max_detections,
    )


def list_classes(rows: list[ClassCounts]) -> list[str]:
    """Return the lines of the table of classes."""
    if not rows:
        return []
    names = [" ".join(row.name.split())[:_NAME_WIDTH] for row in rows]
    width = max(5, *map(len, names))
    lines = [f"  {'id':>6}  {'class':<{width}}{'objects':>10}{'images':>9}   median size"]
    for row, name in zip(rows, names, strict=True):
        size = f"{row.median_side:,.0f} px" if row.objects else "-"
        lines.append(f"  {row.id:>6}  {name:<{width}}{row.objects:>10,}{row.images:>9,}{size:>14}")
    return lines


def list_problems(title: str, problems: list[Problem]) -> list[str]:
    """Return the lines for some problems: a count for each kind, by what was expected, and three examples of it."""
    if not problems:
        return []
    kinds: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        kinds[_NUMBERS.sub("#", " ".join(problem.expected.split()))].append(problem)
    lines = [f"  {title}: {len(problems):,}"]
    for kind, found in sorted(kinds.items(), key=lambda item: -len(item[1])):
        lines.append(f"    {len(found):,} x expected {kind}")
        lines += [f"      {problem}" for problem in found[:SHOWN_EXAMPLES]]
        if len(found) > SHOWN_EXAMPLES:
            lines.append(f"      and {len(found) - SHOWN_EXAMPLES:,} more")
    return lines
