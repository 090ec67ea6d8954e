"""Time pasting and encoding the masks of an image, against doing it on whole images.

    python benchmarks/masks.py --annotations coco_train/annotations/instances.json

100 detections with box sizes drawn from real objects and 10 as large as the image, 640 x 480 pixels, 128 x 128 cells.
The whole-image way pastes every mask into an array of the image's size and encodes that with pycocotools; both have to
give the same bytes.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from centermask_keras.masks import paste_mask, paste_rles

HW = (480, 640)
CELLS = 128
DETECTIONS, FULL_SIZE = 100, 10
THRESHOLD = 0.4


def draw_boxes(annotations: Path, rng: np.random.Generator) -> np.ndarray:
    """Place boxes with the sizes of real objects anywhere in the image, and boxes of its size: float [K, 4], xyxy."""
    rows = json.loads(annotations.read_text())["annotations"]
    sizes = np.array([row["bbox"][2:] for row in rows if not row["iscrowd"]])
    sizes = np.minimum(rng.choice(sizes, DETECTIONS), HW[::-1])
    corner = rng.uniform(0, 1, sizes.shape) * (np.array(HW[::-1]) - sizes)
    whole = rng.uniform(-3, 3, (FULL_SIZE, 4)) + [0, 0, HW[1], HW[0]]
    return np.concatenate([np.concatenate([corner, corner + sizes], axis=1), whole])


def draw_masks(count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw blobs with soft edges, as a network makes them: float32 [count, M, M] in [0, 1]."""
    grid = (np.arange(CELLS) + 0.5) / CELLS - 0.5
    angle = np.arctan2(grid[:, None], grid)
    radius = np.hypot(grid[:, None], grid)
    shape = (count, 1, 1)
    waves = sum(rng.uniform(0, 0.06, shape) * np.sin(n * angle + rng.uniform(0, 6.3, shape)) for n in range(1, 6))
    return (1 / (1 + np.exp(40 * (radius - 0.42 - waves)))).astype(np.float32)


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
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    boxes = draw_boxes(arguments.annotations, rng)
    masks = draw_masks(len(boxes), rng)
    found, whole = paste_rles(masks, boxes, HW, THRESHOLD), paste_whole_images(masks, boxes)
    same = all(a["counts"] == b["counts"] and a["size"] == b["size"] for a, b in zip(found, whole, strict=True))
    print(f"{len(boxes)} masks, {sum(len(rle['counts']) for rle in found):,} bytes, equal to whole images: {same}")
    in_boxes = median_milliseconds(lambda: paste_rles(masks, boxes, HW, THRESHOLD), arguments.repeats)
    full = median_milliseconds(lambda: paste_whole_images(masks, boxes), arguments.repeats)
    print(f"paste and encode: in boxes {in_boxes:.1f} ms, whole images {full:.1f} ms, ratio {full / in_boxes:.1f}")


if __name__ == "__main__":
    main()
