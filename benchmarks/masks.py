"""Time pasting and encoding the masks of an image, against doing it on whole images.

    python benchmarks/masks.py --data coco_train

100 detections with masks and box sizes of real objects, and the 10 largest objects stretched over the image: 640 x 480
pixels, grids of 128 x 128 cells. The whole-image way pastes every mask into an array of the image's size and encodes
that with pycocotools; both have to give the same bytes.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from centermask_keras.data.files.annotations import Annotations, load_annotations
from centermask_keras.data.samples.rasterize import rasterize_masks
from centermask_keras.masks import paste_mask, paste_rles

HW = (480, 640)
CELLS = 128
IDENTITY = np.array([1.0, 1.0, 0.0, 0.0])
DETECTIONS, FULL_SIZE = 100, 10
THRESHOLD = 0.4


def draw_detections(data: Path, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Choose real objects: masks float32 [K, M, M] on the grids of their boxes, and boxes float [K, 4], xyxy.

    Boxes have the size of their object and lie anywhere in the image; the last ones are as large as the image.
    """
    annotations = load_annotations(data / "annotations" / "instances.json", data / "images").under("drop")
    area = np.prod(annotations.boxes[:, 2:] - annotations.boxes[:, :2], axis=1)
    chosen = np.concatenate([rng.choice(len(area), DETECTIONS), np.argsort(area)[-FULL_SIZE:]])
    masks = np.concatenate([draw_mask(annotations, index) for index in chosen])
    sizes = annotations.boxes[chosen[:DETECTIONS], 2:] - annotations.boxes[chosen[:DETECTIONS], :2]
    sizes = np.minimum(sizes, HW[::-1])
    corner = rng.uniform(0, 1, sizes.shape) * (np.array(HW[::-1]) - sizes)
    whole = rng.uniform(-3, 3, (FULL_SIZE, 4)) + [0, 0, HW[1], HW[0]]
    return masks, np.concatenate([np.concatenate([corner, corner + sizes], axis=1), whole])


def draw_mask(annotations: Annotations, index: int) -> np.ndarray:
    """Draw the mask of an object on the grid of its box: float32 [1, M, M], coverage in [0, 1]."""
    image = np.searchsorted(annotations.object_start, index, side="right") - 1
    segmentation, box = annotations.segmentations[index], annotations.boxes[index]
    drawn = rasterize_masks([segmentation], box[None], IDENTITY, annotations.image_hw[image], CELLS)
    return drawn.astype(np.float32) / 255


def paste_whole_images(masks: np.ndarray, boxes: np.ndarray) -> list[dict]:
    """Paste every mask into an array of the image's size and encode all of them."""
    stack = np.zeros((*HW, len(masks)), np.uint8, order="F")
    for index, (mask, box) in enumerate(zip(masks, boxes, strict=True)):
        crop, (top, left) = paste_mask(mask, box, HW, THRESHOLD)
        stack[top : top + crop.shape[0], left : left + crop.shape[1], index] = crop
    return coco_mask.encode(stack)


def median_milliseconds(call: Callable[[], object], repeats: int) -> float:
    """Time a call on one thread: median of its processor time, which other processes do not add to."""
    seconds = []
    for _ in range(repeats):
        begin = time.thread_time()
        call()
        seconds.append(time.thread_time() - begin)
    return 1000 * statistics.median(seconds)


def main() -> None:
    """Parse, compare, time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with annotations/instances.json and images/")
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    masks, boxes = draw_detections(arguments.data, np.random.default_rng(0))
    found, whole = paste_rles(masks, boxes, HW, THRESHOLD), paste_whole_images(masks, boxes)
    same = all(a["counts"] == b["counts"] and a["size"] == b["size"] for a, b in zip(found, whole, strict=True))
    print(f"{len(boxes)} masks, {sum(len(rle['counts']) for rle in found):,} bytes, equal to whole images: {same}")
    in_boxes = median_milliseconds(lambda: paste_rles(masks, boxes, HW, THRESHOLD), arguments.repeats)
    full = median_milliseconds(lambda: paste_whole_images(masks, boxes), arguments.repeats)
    print(f"paste and encode: in boxes {in_boxes:.1f} ms, whole images {full:.1f} ms, ratio {full / in_boxes:.1f}")


if __name__ == "__main__":
    main()
