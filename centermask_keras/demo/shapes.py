"""A generated dataset of overlapping shapes, for trying everything where no images are at hand.

Writes what `data/files/annotations.py` reads: COCO json and PNG files on disk.
Shapes are laid on top of each other, and a mask holds exactly the pixels where its object is seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from centermask_keras._cv2 import cv2
from centermask_keras.errors import ConfigError

CLASS_NAMES = ("circle", "square", "triangle", "star", "ring")
OBJECTS_PER_IMAGE = (3, 8)
OCCLUDED = 0.2  # an object counts as occluded if other objects hide this share of it

_CORNERS = {"circle": 48, "square": 4, "triangle": 3, "star": 10, "ring": 48, "pentagon": 5, "hexagon": 6}
_OCCLUDED_OBJECTS = 0.33  # share of the objects to be occluded; one placement may hide two, which makes it about 0.36
_MIN_VISIBLE = 0.5  # of the object; what shows less can hardly be told apart
_MIN_RIM = 0.3  # of the edge of a ring's hole; without it a ring cannot be told from a circle
_MIN_AREA = 0.005  # of the image: 82 pixels at 128 x 128
_RADIUS = (0.13, 0.25)  # of the image's short side: 17 to 32 pixels at 128 x 128
_MIN_SIDE = 64  # pixels; below, rings lose their hole
_PLACEMENTS = 60  # positions tried for one object


@dataclass(frozen=True)
class ShapesImage:
    """One generated picture and what is seen in it; the lists have one entry per object, back to front."""

    image: np.ndarray
    """uint8 [H, W, 3], RGB."""
    labels: np.ndarray
    """int16 [H, W], index of the object seen at each pixel, -1 for background."""
    class_names: tuple[str, ...]
    """The classes drawn from."""
    classes: list[int]
    """Indices into `class_names`."""
    outlines: list[list[float]]
    """COCO polygon (x, y, x, y, ...) of the whole object in pixels; the outer edge for a ring."""
    occlusions: list[float]
    """Share of the object that other objects hide, in [0, 1]."""


def make_shapes(
    out_dir: str | Path,
    *,
    train: int,
    val: int,
    hw: tuple[int, int] = (128, 128),
    seed: int = 0,
    class_names: Sequence[str] = CLASS_NAMES,
) -> dict[str, Any]:
    """Write `train.json`, `val.json` and the folders `train/` and `val/` of PNG images.

    An object that is seen whole and has no hole is stored as a polygon, every other one as compressed RLE; both decode
    to the visible pixels. Boxes enclose the visible pixels. The extra key `occlusion` is the hidden share of an object.

    Args:
        out_dir: folder to write to; made if it is missing, files of the same name are replaced.
        train, val: number of images. The two draw from different random streams.
        hw: height and width of the images in pixels, at least 64 each.
        seed: the same seed gives the same dataset; image i does not depend on how many images are made.
        class_names: the classes to draw from, in the order of the dataset's categories. "pentagon" and "hexagon" look
            alike, which makes a harder dataset than the default.

    Returns:
        `classes` (names) and, for each of "train" and "val": `images`, `objects`, `objects_per_image_min`, `..._median`
        and `..._max`, `occluded_fraction` (share of the objects hidden by 20% or more), `with_holes` (objects whose
        mask has a hole).

    Raises:
        ConfigError: a side under 64 pixels, fewer than 1 image, or a class that is unknown or named twice
            (expected ..., received ...).
    """
    if min(hw) < _MIN_SIDE:
        raise ConfigError(f"shapes: hw: expected at least {_MIN_SIDE} pixels per side, received {hw[0]} x {hw[1]}")
    splits = {"train": train, "val": val}
    for split, count in splits.items():
        if count < 1:
            raise ConfigError(f"shapes: {split}: expected at least 1 image, received {count}")
    class_names = tuple(class_names)
    if not class_names or not set(class_names) <= _CORNERS.keys() or len(set(class_names)) < len(class_names):
        raise ConfigError(
            f"shapes: class_names: expected some of {', '.join(_CORNERS)}, each once, "
            f"received {', '.join(class_names) or 'none'}"
        )
    out_dir = Path(out_dir)
    statistics: dict[str, Any] = {"classes": list(class_names)}
    for stream, (split, count) in enumerate(splits.items()):
        (out_dir / split).mkdir(parents=True, exist_ok=True)
        generators = (np.random.default_rng([seed, stream, index]) for index in range(count))
        pictures = (make_image(rng, hw, class_names) for rng in generators)
        dataset, statistics[split] = _write_split(out_dir / split, pictures, class_names)
        (out_dir / f"{split}.json").write_text(json.dumps(dataset), encoding="utf-8")
    return statistics


def make_image(
    rng: np.random.Generator, hw: tuple[int, int], class_names: tuple[str, ...] = CLASS_NAMES
) -> ShapesImage:
    """Draw one picture of 3 to 8 overlapping, textured shapes on a textured background.

    Colours and textures say nothing about the class. Each object shows at least half of itself, and a ring enough
    of its hole.
    """
    labels, shapes = _place_shapes(rng, hw, class_names)
    colors = [rng.uniform(30, 225, 3)]
    image = _texture(rng, colors[0], hw, contrast=30) + _texture(rng, np.zeros(3), hw, contrast=15)
    for index in range(len(shapes)):
        candidates = rng.uniform(20, 235, (8, 3))
        distances = np.linalg.norm(candidates[:, None] - np.array(colors), axis=2).min(axis=1)
        colors.append(candidates[distances.argmax()])  # the one that stands out most from all used so far
        seen = labels == index
        image[seen] = _texture(rng, colors[-1], hw, contrast=22)[seen]
    image = cv2.GaussianBlur(image, (3, 3), 0.6)  # soft edges, as a lens makes them
    image += rng.normal(0, 4, (*hw, 1)).astype(np.float32)
    return ShapesImage(
        image=np.clip(np.rint(image), 0, 255).astype(np.uint8),
        labels=labels,
        class_names=class_names,
        classes=[class_names.index(shape.name) for shape in shapes],
        outlines=[shape.outline for shape in shapes],
        occlusions=[1 - np.count_nonzero(labels == index) / shape.mask.sum() for index, shape in enumerate(shapes)],
    )


@dataclass(frozen=True)
class _Shape:
    """A whole object, whatever hides it."""

    name: str
    outline: list[float]
    mask: np.ndarray  # bool [H, W]
    rim: np.ndarray  # bool [H, W], pixels along the edge of the hole; none without a hole


def _place_shapes(
    rng: np.random.Generator, hw: tuple[int, int], class_names: tuple[str, ...]
) -> tuple[np.ndarray, list[_Shape]]:
    """Lay objects on top of each other; returns the labels and the objects, back to front."""
    while True:
        wanted = int(rng.integers(OBJECTS_PER_IMAGE[0], OBJECTS_PER_IMAGE[1] + 1))
        # The last object is never hidden, so the others have to be hidden that much more often.
        occlude_probability = _OCCLUDED_OBJECTS * wanted / (wanted - 1)
        labels = np.full(hw, -1, np.int16)
        shapes: list[_Shape] = []
        for _ in range(wanted):
            occlude = bool(shapes) and rng.random() < occlude_probability
            name = class_names[rng.integers(len(class_names))]
            shape = _find_place(rng, name, labels, shapes, occlude=occlude)
            if shape is not None:  # else the picture is full
                labels[shape.mask] = len(shapes)
                shapes.append(shape)
        if len(shapes) >= OBJECTS_PER_IMAGE[0]:
            return labels, shapes


def _find_place(
    rng: np.random.Generator, name: str, labels: np.ndarray, shapes: list[_Shape], *, occlude: bool
) -> _Shape | None:
    """Try random sizes and positions until one hides another object (`occlude`), or hides none, as asked for."""
    height, width = labels.shape
    whole = np.array([shape.mask.sum() for shape in shapes], np.int64)
    rims = np.array([shape.rim.sum() for shape in shapes], np.int64)
    least_visible = np.maximum(_MIN_VISIBLE * whole, _MIN_AREA * labels.size)
    visible_before = _count_labels(labels, len(shapes))
    seen_rims = np.full_like(labels, -1)
    for index, shape in enumerate(shapes):
        seen_rims[shape.rim & (labels == index)] = index
    low, high = np.array(_RADIUS) * min(height, width)
    for attempt in range(_PLACEMENTS):
        radius = rng.uniform(low, high - (high - low) * attempt / _PLACEMENTS)  # smaller if it does not fit
        center = rng.uniform((radius, radius), (width - radius, height - radius))
        shape = _make_shape(rng, name, center, radius, labels.shape)
        visible = visible_before - _count_labels(labels[shape.mask], len(shapes))
        if np.any(visible < least_visible):
            continue
        if np.any(_count_labels(seen_rims[~shape.mask], len(shapes)) < _MIN_RIM * rims):
            continue
        newly_occluded = (visible <= (1 - OCCLUDED) * whole) & (visible_before > (1 - OCCLUDED) * whole)
        if newly_occluded.any() == occlude:
            return shape
    return None


def _count_labels(labels: np.ndarray, count: int) -> np.ndarray:
    return np.bincount(labels[labels >= 0], minlength=count)


def _make_shape(rng: np.random.Generator, name: str, center: np.ndarray, radius: float, hw: tuple[int, int]) -> _Shape:
    """Draw a whole shape at a random angle, with the pixels that pycocotools gives its outline."""
    angle = rng.uniform(0, 2 * np.pi)
    radii = np.full(_CORNERS[name], radius)
    if name == "star":
        radii[1::2] *= 0.45
    outline = _polygon(center, radii, angle)
    mask, rim = _rasterize(outline, hw), np.zeros(hw, bool)
    if name == "ring":
        hole = _rasterize(_polygon(center, radii * rng.uniform(0.45, 0.6), angle), hw)
        mask &= ~hole
        rim = mask & cv2.dilate(hole.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    return _Shape(name, outline, mask, rim)


def _polygon(center: np.ndarray, radii: np.ndarray, angle: float) -> list[float]:
    angles = angle + np.arange(len(radii)) * (2 * np.pi / len(radii))
    points = center + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return points.round(2).ravel().tolist()  # as written to the file


def _rasterize(polygon: list[float], hw: tuple[int, int]) -> np.ndarray:
    return coco_mask.decode(coco_mask.frPyObjects([polygon], *hw))[..., 0].astype(bool)


def _texture(rng: np.random.Generator, color: np.ndarray, hw: tuple[int, int], *, contrast: float) -> np.ndarray:
    """Return float32 [H, W, 3]: a colour with stripes, checks, or clouds in a random tint, `contrast` grey levels."""
    kind = rng.integers(3)
    if kind == 2:
        coarse = rng.uniform(-1, 1, rng.integers(3, 14, 2)).astype(np.float32)
        pattern = cv2.resize(coarse, hw[::-1], interpolation=cv2.INTER_CUBIC)
    else:
        angle, period = rng.uniform(0, np.pi), rng.uniform(0.05, 0.2) * min(hw)
        cosine, sine = np.float32([np.cos(angle), np.sin(angle)]) * np.float32(2 * np.pi / period)
        y, x = np.arange(hw[0], dtype=np.float32)[:, None], np.arange(hw[1], dtype=np.float32)
        pattern = np.sin(x * cosine + y * sine)
        if kind == 1:
            pattern = np.sign(pattern * np.sin(y * cosine - x * sine))
    tint = rng.uniform(0.3, 1, 3) * contrast
    return color.astype(np.float32) + pattern[..., None] * tint.astype(np.float32)


def _write_split(
    folder: Path, pictures: Iterable[ShapesImage], class_names: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write the images and return the COCO json and the statistics."""
    images, annotations = [], []
    for image_id, picture in enumerate(pictures, start=1):
        file_name = f"{image_id:06d}.png"
        (folder / file_name).write_bytes(cv2.imencode(".png", picture.image[..., ::-1])[1].tobytes())
        height, width = picture.labels.shape
        images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
        for index in range(len(picture.classes)):
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **_annotation(picture, index)})
    categories = [{"id": index, "name": name} for index, name in enumerate(class_names, start=1)]
    counts = np.bincount([annotation["image_id"] for annotation in annotations])[1:]
    statistics = {
        "images": len(images),
        "objects": len(annotations),
        "objects_per_image_min": int(counts.min()),
        "objects_per_image_median": float(np.median(counts)),
        "objects_per_image_max": int(counts.max()),
        "occluded_fraction": float(np.mean([annotation["occlusion"] >= OCCLUDED for annotation in annotations])),
        "with_holes": sum(_has_hole(annotation["segmentation"]) for annotation in annotations),
    }
    return {"images": images, "annotations": annotations, "categories": categories}, statistics


def _annotation(picture: ShapesImage, index: int) -> dict[str, Any]:
    """Return the COCO fields of one object, from the pixels where it is seen."""
    seen = picture.labels == index
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    class_index, occlusion = picture.classes[index], picture.occlusions[index]
    if occlusion == 0 and picture.class_names[class_index] != "ring":
        segmentation = [picture.outlines[index]]
    else:
        rle = coco_mask.encode(np.asfortranarray(seen, dtype=np.uint8))
        segmentation = {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}
    return {
        "category_id": class_index + 1,
        "segmentation": segmentation,
        "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
        "area": int(seen.sum()),
        "iscrowd": 0,
        "occlusion": float(occlusion),
    }


def _has_hole(segmentation: list[Any] | dict[str, Any]) -> bool:
    if isinstance(segmentation, list):  # polygons are written for shapes without a hole
        return False
    hierarchy = cv2.findContours(coco_mask.decode(segmentation), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)[1]
    return bool((hierarchy[0, :, 3] >= 0).any())  # a contour with a parent is the edge of a hole
