"""Instance-id PNGs: for each image a PNG whose pixels hold the number of their object, 0 for none.

The PNG has the name of its image in another folder, or one with `_masks`, `_mask`, `_labels`, `_label`, `_instances` or
`_ids` behind it; Cellpose has `_img` behind the image's. All objects are of one class, which such files do not name.
"""

from __future__ import annotations

import re
from pathlib import Path

from centermask_keras.convert.image_names import IMAGE_SUFFIXES, list_files
from centermask_keras.convert.open_files import read_mask_values
from centermask_keras.convert.outlines import encode_ids
from centermask_keras.convert.source import Source, SourceObject, find_part
from centermask_keras.errors import ImageError

ONLY_CLASS = "object"
MASK_FOLDERS = {"masks", "mask", "labels", "label", "instances", "instance_ids", "ids", "annotations", "gt", "id_maps"}
ENDING = re.compile(r"_(masks?|labels?|instances?|ids?|instance_ids?|id_map)$")


def recognises(path: Path) -> bool:
    """Say whether a folder holds images and, by their names, PNGs of object numbers."""
    return path.is_dir() and bool(find_pairs(list_files(path, IMAGE_SUFFIXES), path))


def read(path: Path) -> Source:
    """Read a folder."""
    source = Source(path, path)
    pairs = find_pairs(source.finder.files, path)
    for image, mask in pairs:
        hw = source.read_size(image)
        if hw is None:
            continue
        try:
            rles = encode_ids(read_mask_values(mask, hw))
        except ImageError as error:
            source.fault(mask, "", error.expected, error.reason)
            continue
        objects = [SourceObject(ONLY_CLASS, rle) for rle in rles.values()]
        source.add_image(image, hw, objects, find_part(*image.relative_to(path).parts[:-1]))
    left = len(source.finder.files) - 2 * len(pairs)
    if left:
        source.notes.append(f"images without a PNG of object numbers are left out: {left:,}")
    if pairs and all(len(image.objects) <= 1 for image in source.images):
        source.notes.append("no PNG has more than one number: pixels of one number are one object, touching or not")
    return source


def find_pairs(files: list[Path], folder: Path) -> list[tuple[Path, Path]]:
    """Return pairs of (image, PNG of object numbers) of a folder's files."""
    masks: dict[tuple[str, ...], Path] = {}
    images = []
    for path in files:
        folders = path.relative_to(folder).parts[:-1]
        lowered = [name.lower() for name in folders]
        is_mask = path.suffix.lower() == ".png" and (
            ENDING.search(path.stem) is not None or bool(MASK_FOLDERS & set(lowered))
        )
        if is_mask:
            masks[(*_without(folders, MASK_FOLDERS), ENDING.sub("", path.stem))] = path
        else:
            images.append(((*_without(folders, {"images", "image", "imgs", "img"}), path.stem), path))
    pairs = []
    for key, path in images:
        bare = (*key[:-1], key[-1].removesuffix("_img").removesuffix("_image"))
        mask = masks.get(key) or masks.get(bare)
        if mask is not None:
            pairs.append((path, mask))
    return pairs


def _without(folders: tuple[str, ...], names: set[str]) -> list[str]:
    return [name for name in folders if name.lower() not in names]
