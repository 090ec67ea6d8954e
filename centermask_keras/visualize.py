"""Pictures of objects and ground truth, for people to look at.

Stage: none; used by the commands, the evaluation and the training log. NumPy, OpenCV and Pillow only.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pycocotools import mask as coco_mask

from centermask_keras._cv2 import cv2
from centermask_keras.errors import one_line
from centermask_keras.masks import segmentation_to_rle

LEGIBLE_SIDE = 512  # pixels; smaller images are enlarged towards it, so that names can be read
LABELLED_OBJECTS = 60  # with more objects, boxes and names would hide what they describe

_FILL = 0.45  # share of the instance's colour inside its mask
_FONT_SIZE = 13
_GAP = 4  # pixels between pictures and around text


class GroundTruthColumns(Protocol):
    """What `draw_ground_truth` reads of a loaded annotation file."""

    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    segmentations: Sequence[Any]
    class_names: list[str]

    def objects(self, index: int) -> slice:
        """Return the rows of one image."""


def draw_instances(
    image: np.ndarray,
    *,
    boxes: np.ndarray,
    classes: np.ndarray,
    masks: Sequence[Mapping[str, Any]] | np.ndarray,
    class_names: Sequence[str] | Mapping[int, str],
    scores: np.ndarray | None = None,
) -> np.ndarray:
    """Draw masks, boxes and names of objects, each object in a colour of its own.

    The object with the highest score lies on top; without scores, the last one. Names that would cover each other or
    the whole of a small object are left out; above 60 objects only the masks are drawn.

    Args:
        image: uint8 [H, W, 3], RGB.
        boxes: float [K, 4], xyxy, image pixels.
        classes: int [K], indices into `class_names`.
        masks: K COCO RLE dictionaries of the whole image, or bool [K, H, W].
        class_names: name of each class.
        scores: float [K] in [0, 1], written behind the names.

    Returns:
        uint8 [f * H, f * W, 3], RGB, a new array. f is the whole factor that brings the longer side nearest to 512
        pixels from below; 1 for larger images.

    Raises:
        ValueError: the image is not uint8 [H, W, 3], the counts differ, or a mask has another size than the image
            (expected ..., received ...).
    """
    canvas, factor = _enlarge(image)
    _check_counts(len(boxes), classes=classes, masks=masks, scores=scores)
    colors = _instance_colors(len(boxes))
    order = range(len(boxes)) if scores is None else np.argsort(scores, kind="stable").tolist()
    for index in order:
        _draw_mask(canvas, masks[index], colors[index], factor, image.shape[:2])
    if len(boxes) > LABELLED_OBJECTS:
        return canvas
    corners = np.rint(np.asarray(boxes, np.float64).reshape(-1, 4) * factor).astype(int)
    for index in order:
        x1, y1, x2, y2 = corners[index].tolist()
        cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), colors[index].tolist(), 1)
    labels = [one_line(str(class_names[int(class_index)])) for class_index in classes]
    if scores is not None:
        labels = [f"{label} {score:.2f}" for label, score in zip(labels, scores, strict=True)]
    return _draw_labels(canvas, labels, corners, colors, order[::-1])


def draw_ground_truth(image: np.ndarray, annotations: GroundTruthColumns, index: int) -> np.ndarray:
    """Draw the annotated objects of one image; crowd regions carry "(crowd)" behind the name.

    Args:
        image: uint8 [H, W, 3], RGB, the image of that index in original size.
        annotations: a loaded annotation file (`data.annotations.Annotations`).
        index: place of the image in `annotations`.

    Returns:
        uint8 [f * H, f * W, 3], RGB, as from `draw_instances`.

    Raises:
        ValueError: as from `draw_instances`.
    """
    rows = annotations.objects(index)
    names = annotations.class_names
    return draw_instances(
        image,
        boxes=annotations.boxes[rows],
        classes=annotations.classes[rows] + len(names) * annotations.crowd[rows],
        masks=[segmentation_to_rle(segmentation, image.shape[:2]) for segmentation in annotations.segmentations[rows]],
        class_names=[*names, *(f"{name} (crowd)" for name in names)],
    )


def draw_side_by_side(images: Sequence[np.ndarray], titles: Sequence[str]) -> np.ndarray:
    """Set images in a row on white, each under its title; all are brought to the height of the tallest.

    Args:
        images: uint8 [H, W, 3] each, RGB.
        titles: one per image.

    Returns:
        uint8 [height, width, 3], RGB.

    Raises:
        ValueError: no images, or not as many titles as images.
    """
    if not images or len(images) != len(titles):
        raise ValueError(f"expected one title per image and at least one, received {len(images)} and {len(titles)}")
    height = max(image.shape[0] for image in images)
    widths = [max(1, round(image.shape[1] * height / image.shape[0])) for image in images]
    top = _FONT_SIZE + 2 * _GAP
    sheet = Image.new("RGB", (sum(widths) + _GAP * (len(images) + 1), top + height + _GAP), "white")
    draw, left = ImageDraw.Draw(sheet), _GAP
    for image, title, width in zip(images, titles, widths, strict=True):
        if image.shape[:2] != (height, width):
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        sheet.paste(Image.fromarray(image), (left, top))
        draw.text((left, top // 2), one_line(title), fill="black", font=_font(), anchor="lm")
        left += width + _GAP
    return np.array(sheet)


def _enlarge(image: np.ndarray) -> tuple[np.ndarray, int]:
    """Return a copy of the image, repeated to a size where text can be read, and the factor."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image: expected uint8 [H, W, 3], received {image.dtype} {list(image.shape)}")
    factor = max(1, LEGIBLE_SIDE // max(image.shape[:2]))
    return _repeat(image, factor).copy(), factor


def _repeat(pixels: np.ndarray, factor: int) -> np.ndarray:
    return pixels if factor == 1 else pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def _check_counts(expected: int, **columns: Any) -> None:
    for name, column in columns.items():
        if column is not None and len(column) != expected:
            raise ValueError(f"{name}: expected {expected} rows (one per box), received {len(column)}")


def _instance_colors(count: int) -> np.ndarray:
    """Return uint8 [count, 3] RGB; neighbours in the list differ most."""
    golden = 0.618034  # steps of this share of the colour wheel stay apart from the steps before
    saturation, brightness = (0.95, 0.6, 0.8), (1.0, 0.95, 0.75)
    colors = [
        colorsys.hsv_to_rgb((0.02 + index * golden) % 1, saturation[index % 3], brightness[index % 3])
        for index in range(count)
    ]
    return (np.array(colors).reshape(-1, 3) * 255).astype(np.uint8)


def _draw_mask(canvas: np.ndarray, mask: Any, color: np.ndarray, factor: int, hw: tuple[int, int]) -> None:
    """Fill and outline one mask on the canvas, in place; only the pixels around the object are touched."""
    bitmap, x, y = _mask_region(mask, hw)
    if bitmap.size == 0:
        return
    bitmap = _repeat(bitmap, factor)
    height, width = bitmap.shape
    region = canvas[y * factor : y * factor + height, x * factor : x * factor + width]
    region[bitmap] = np.rint((1 - _FILL) * region[bitmap] + _FILL * color).astype(np.uint8)
    inside = cv2.erode(
        bitmap.astype(np.uint8), np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0
    )
    region[bitmap & (inside == 0)] = color


def _mask_region(mask: Any, hw: tuple[int, int]) -> tuple[np.ndarray, int, int]:
    """Return the part of a mask that holds its object, bool, and the x and y where it starts."""
    is_rle = isinstance(mask, Mapping)
    size = tuple(mask["size"]) if is_rle else mask.shape
    if size != tuple(hw):
        raise ValueError(f"mask: expected the image's size {list(hw)}, received {list(size)}")
    if is_rle:
        x, y, width, height = coco_mask.toBbox(mask).astype(int).tolist()
        bitmap = coco_mask.decode(mask)
    else:
        x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
        bitmap = mask
    return np.ascontiguousarray(bitmap[y : y + height, x : x + width], dtype=bool), x, y


def _draw_labels(
    canvas: np.ndarray, labels: list[str], corners: np.ndarray, colors: np.ndarray, order: Sequence[int]
) -> np.ndarray:
    """Write the labels in this order, each where it covers no earlier one: above, inside, or below its box."""
    sheet = Image.fromarray(canvas)
    draw = ImageDraw.Draw(sheet)
    taken = np.zeros(canvas.shape[:2], bool)
    for index in order:
        x1, y1, x2, y2 = corners[index].tolist()
        width, height = round(draw.textlength(labels[index], font=_font())) + 2 * _GAP, _FONT_SIZE + _GAP
        if (x2 - x1) * (y2 - y1) < 1.5 * width * height:
            continue
        left = max(0, min(x1, canvas.shape[1] - width))
        for top in (y1 - height, y1, y2 - height, y2):
            place = (slice(top, top + height), slice(left, left + width))
            if 0 <= top <= canvas.shape[0] - height and not taken[place].any():
                taken[place] = True
                color = tuple(colors[index].tolist())
                ink = "black" if np.dot(color, (0.299, 0.587, 0.114)) > 120 else "white"
                draw.rectangle((left, top, left + width - 1, top + height - 1), fill=color)
                draw.text((left + _GAP, top + height // 2), labels[index], fill=ink, font=_font(), anchor="lm")
                break
    return np.array(sheet)


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_FONT_SIZE)
