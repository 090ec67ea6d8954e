"""One COCO or LVIS file -> train, val and test: groups of images stay whole, classes and sizes are balanced.

Stage: data. The rows of the file are kept as they are, ids and unknown keys included.
Source: the greedy order is that of Sechidis, Tsoumakas and Vlahavas, On the stratification of multi-label data, 2011:
what is rarest is given away first. Here whole groups are given, each to the part where the squared errors of all
classes and sizes stay smallest, and each is reconsidered once all have been given.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from centermask_keras.data.files.annotations import Annotations, read_annotations
from centermask_keras.data.files.coco_json import read_json
from centermask_keras.data.files.image_groups import group_by_content, group_by_name, join_groups
from centermask_keras.errors import CenterMaskError, DataError
from centermask_keras.files import write_file

PARTS = ("train", "val", "test")
SIZES = ("small", "medium", "large")
PASSES = 5  # further ones change nothing that shows


@dataclass(frozen=True)
class Split:
    """Which image is in which part; `print` gives the table for the terminal.

    Attributes:
        names: file names by part, in the order of the file; `test` only if a share was asked for.
        groups: how many groups of images there are.
        grouped_images: how many images are in a group with others.
        size_borders: (small to medium, medium to large), pixels of the square root of the box area: thirds of all.
        table: rows of a name and its count in each part: images, the objects of each class, and of each of `SIZES`.
    """

    names: dict[str, list[str]]
    groups: int
    grouped_images: int
    size_borders: tuple[float, float]
    table: list[tuple[str, dict[str, int]]]

    def __str__(self) -> str:
        low, high = self.size_borders
        sizes = (f"small (side under {low:.0f} px)", "medium", f"large (from {high:.0f} px)")
        titles = [*(name for name, _ in self.table[: -len(SIZES)]), *sizes]
        width = max(map(len, titles))
        lines = [" " * width + "".join(f"{part:>16}" for part in self.names)]
        for title, (_, counts) in zip(titles, self.table, strict=True):
            total = max(1, sum(counts.values()))
            lines.append(f"{title:<{width}}" + "".join(f"{n:>9,} {n / total:>6.1%}" for n in counts.values()))
        for part in self.names:
            without = [name for name, counts in self.table[1 : -len(SIZES)] if counts[part] == 0]
            if without:
                lines.append(f"no object in {part}: {', '.join(without)}")
        others = f"{self.grouped_images:,} images are in a group with others"
        return "\n".join([*lines, f"{self.groups:,} groups of images, none is divided; {others}"])


def split_dataset(
    annotations: str | Path,
    out: str | Path,
    *,
    val: float,
    test: float = 0.0,
    images: str | Path | None = None,
    group: str | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Split:
    """Split a dataset and write `train.json`, `val.json` and, if wanted, `test.json`.

    Args:
        annotations: a COCO or LVIS json.
        out: folder for the files; made if missing.
        val, test: shares of the images and of the objects of each class and size, 0 to 1.
        images: folder of the images, or of shards; with it near-duplicates by content stay together.
        group: regular expression; images whose names agree in its first group stay together.
        seed: decides between what is equally good; the same seed gives the same split.
        progress: called with (images read, images in all).

    Returns:
        What went where.

    Raises:
        CenterMaskError: shares that leave nothing to train on; too few groups; a pattern that matches nothing; a file
            in `out` that would be replaced or would contradict the new ones.
        DataError: faults in the file. ImageError: an image that cannot be read.
    """
    shares = {"train": 1 - val - test, "val": val} | ({"test": test} if test else {})
    if not (0 < val < 1 and 0 <= test < 1 and shares["train"] > 1e-9):
        raise CenterMaskError(
            f"--val, --test: expected shares above 0 that leave images to train on, such as --val 0.2, "
            f"received --val {val:g} --test {test:g}"
        )
    annotations, out = Path(annotations), Path(out)
    _check_out(annotations, out, shares)
    dataset, faults = read_annotations(annotations, images)
    if images is not None:
        faults += dataset.storage.find_faults(annotations, dataset.file_names)
    if faults:
        raise DataError(faults)
    groups = group_by_name(dataset.file_names, group)
    if images is not None:
        near = group_by_content(dataset.file_names, dataset.image_hw, dataset.storage, progress)
        groups = join_groups(len(dataset), [*groups, *near])
    labels, borders = count_labels(dataset)
    part_of = assign_groups(labels, groups, list(shares.values()), seed)
    for place, part in enumerate(shares):
        if not (part_of == place).any():
            raise CenterMaskError(
                f"{annotations}: expected enough images for {', '.join(shares)}, received {len(dataset):,} in "
                f"{len(groups):,} groups that may not be divided: {part} gets none. Choose other shares or another "
                f"--group, or annotate more images"
            )
    where = {part: part_of == place for place, part in enumerate(shares)}
    write_parts(annotations, {part: set(dataset.image_ids[chosen].tolist()) for part, chosen in where.items()}, out)
    return Split(
        names={part: [dataset.file_names[index] for index in np.flatnonzero(chosen)] for part, chosen in where.items()},
        groups=len(groups),
        grouped_images=sum(len(members) for members in groups if len(members) > 1),
        size_borders=borders,
        table=_make_table(labels, dataset.class_names, where),
    )


def count_labels(dataset: Annotations) -> tuple[np.ndarray, tuple[float, float]]:
    """Count what a split balances.

    Returns:
        int64 [I, 1 + C * 3]: per image 1, then its objects of each class and size, crowd regions included. The borders
        of the sizes, in pixels: thirds of all objects.
    """
    objects = dataset.file_objects
    sides = np.sqrt(objects.xywh[:, 2] * objects.xywh[:, 3])
    low, high = np.quantile(sides, [1 / 3, 2 / 3]).tolist() if len(sides) else (0.0, 0.0)
    columns = objects.classes * len(SIZES) + np.digitize(sides, [low, high])
    labels = np.zeros((len(dataset), 1 + dataset.num_classes * len(SIZES)), np.int64)
    labels[:, 0] = 1
    np.add.at(labels, (objects.images, 1 + columns), 1)
    return labels, (low, high)


def assign_groups(labels: np.ndarray, groups: list[list[int]], shares: list[float], seed: int) -> np.ndarray:
    """Choose the part of every image.

    Args:
        labels: [I, L], what each image has of each label.
        groups: indices of images that stay together; each image is in one.
        shares: the share of each part, of all labels.
        seed: decides between equals.

    Returns:
        int64 [I], index into `shares`.
    """
    per_group = np.stack([labels[members].sum(axis=0) for members in groups])
    per_group = per_group / np.maximum(1, per_group.sum(axis=0))  # share of all that there is of each label
    wanted = np.array(shares)
    lacking = np.outer(wanted, np.ones(labels.shape[1]))
    order = np.random.default_rng(seed).permutation(len(groups))
    order = order[np.argsort(-per_group[order].max(axis=1), kind="stable")]  # what is rare, or big, goes first
    chosen = np.full(len(groups), -1)
    for _ in range(PASSES):
        for index in order:
            if chosen[index] >= 0:
                lacking[chosen[index]] += per_group[index]
            # By how much sum(lacking ** 2) / share rises where the group is added.
            rises = (np.sum(per_group[index] ** 2) - 2 * lacking @ per_group[index]) / wanted
            chosen[index] = np.argmin(rises)
            lacking[chosen[index]] -= per_group[index]
    part_of = np.zeros(len(labels), np.int64)
    for members, part in zip(groups, chosen, strict=True):
        part_of[members] = part
    return part_of


def write_parts(annotations: Path, image_ids: dict[str, set[int]], out: Path) -> None:
    """Write one file per part: the rows of the images with these ids and of their objects, as they are."""
    document = read_json(annotations)
    out.mkdir(parents=True, exist_ok=True)
    for part, ids in image_ids.items():
        rows = [row for row in document["images"] if row["id"] in ids]
        objects = [row for row in document.get("annotations", []) if row["image_id"] in ids]
        text = json.dumps({**document, "images": rows, "annotations": objects})
        write_file(out, f"{part}.json", lambda path, text=text: path.write_text(text, encoding="utf-8"))


def _make_table(
    labels: np.ndarray, class_names: list[str], where: dict[str, np.ndarray]
) -> list[tuple[str, dict[str, int]]]:
    """Count images, objects by class and objects by size in each part (bool [I])."""
    objects = labels[:, 1:].reshape(len(labels), len(class_names), len(SIZES))
    columns = np.concatenate([labels[:, :1], objects.sum(axis=2), objects.sum(axis=1)], axis=1)
    counts = {part: columns[chosen].sum(axis=0).tolist() for part, chosen in where.items()}
    names = ["images", *class_names, *SIZES]
    return [(name, {part: counts[part][row] for part in where}) for row, name in enumerate(names)]


def _check_out(annotations: Path, out: Path, shares: dict[str, float]) -> None:
    """Refuse to replace the file that is split, and to leave a part of an earlier split beside the new ones."""
    for part in PARTS:
        path = out / f"{part}.json"
        if path.exists() and annotations.exists() and path.samefile(annotations):
            raise CenterMaskError(
                f"{path}: expected another folder than that of the file to split, which {path.name} "
                f"would replace; name a new folder with --out"
            )
        if path.exists() and part not in shares:
            raise CenterMaskError(
                f"{path}: expected no such file, because this split has no {part}, received one of an "
                f"earlier split, with images of the new parts; remove it or name a new folder with --out"
            )
