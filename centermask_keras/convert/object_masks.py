"""One mask PNG per object: ID/images/ID.png with ID/masks/*.png (Data Science Bowl 2018), or images/NAME.jpg with
masks/NAME/*.png. What is not 0 belongs to the object. All objects are of one class, which such files do not name.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from centermask_keras.convert.image_names import IMAGE_SUFFIXES, list_files
from centermask_keras.convert.open_files import read_mask_values
from centermask_keras.convert.outlines import encode_inside
from centermask_keras.convert.source import Source, SourceObject, find_part
from centermask_keras.errors import ImageError
from centermask_keras.masks import SizeHW

ONLY_CLASS = "object"
IMAGES, MASKS = "images", "masks"


def recognises(path: Path) -> bool:
    """Say whether a folder holds images with folders of their masks."""
    return path.is_dir() and bool(_find_images(path))


def read(path: Path) -> Source:
    """Read a folder."""
    source = Source(path, path)
    for image, masks in _find_images(path):
        hw = source.read_size(image)
        if hw is not None:
            rles = [_read_mask(mask, hw, source) for mask in list_files(masks, {".png"})]
            objects = [SourceObject(ONLY_CLASS, rle) for rle in rles if rle is not None]
            source.add_image(image, hw, objects, find_part(*image.relative_to(path).parts[:-1]))
    return source


def _find_images(folder: Path) -> list[tuple[Path, Path]]:
    """Return pairs of (image, folder of its masks)."""
    pairs = []
    for image in list_files(folder, IMAGE_SUFFIXES):
        above = image.parent
        if above.name != IMAGES:
            continue
        own = above.parent / MASKS / image.stem
        alone = above.parent / MASKS
        if own.is_dir():
            pairs.append((image, own))
        elif above.parent.name == image.stem and alone.is_dir():
            pairs.append((image, alone))
    return pairs


def _read_mask(path: Path, hw: SizeHW, source: Source) -> dict[str, object] | None:
    try:
        bitmap = read_mask_values(path, hw) > 0
    except ImageError as error:
        source.fault(path, "", error.expected, error.reason)
        return None
    rows, columns = np.flatnonzero(bitmap.any(axis=1)), np.flatnonzero(bitmap.any(axis=0))
    if not len(rows):
        source.lost["empty masks"] += 1
        return None
    crop = bitmap[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return encode_inside(crop, int(columns[0]), int(rows[0]), hw)
