"""Boundary AP: boundaries pixel by pixel, overlaps and AP against loops, and against another implementation."""

import json

import naive
import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster
from pycocotools import mask as coco_mask

from centermask_keras.evaluation.boundary import boundary_overlaps, boundary_rle, boundary_width
from centermask_keras.evaluation.coco import evaluate_coco
from centermask_keras.masks import encode_crop, rle_to_bitmap

HW = (60, 80)
EMPTY = np.zeros(HW, bool)


def draw_mask(random) -> np.ndarray:
    """Draw a blob: an ellipse with a ragged edge that may reach beyond the image, sometimes with a hole."""
    y, x = np.mgrid[: HW[0], : HW[1]]
    center, radius = random.uniform((0, 0), HW), random.uniform(5, 22, 2)
    distance = ((y - center[0]) / radius[0]) ** 2 + ((x - center[1]) / radius[1]) ** 2
    return (distance < 1 + random.normal(0, 0.05, HW)) & (distance > random.choice([0, 0.1]))


def encode(mask):
    return encode_crop(mask, (0, 0), HW)


@pytest.mark.parametrize(
    ("hw", "width"),
    [((60, 80), 2), ((3, 4), 1), ((480, 640), 16), ((375, 500), 12), ((105, 140), 4), ((45, 60), 2)],  # 12.5, 3.5, 1.5
)
def test_width_is_2_percent_of_the_diagonal_rounded_half_to_even(hw, width):
    assert boundary_width(hw) == width


def test_boundaries_equal_the_loop_over_pixels():
    random = np.random.default_rng(3)
    edges = [np.ones(HW, bool), EMPTY.copy(), EMPTY.copy(), EMPTY.copy()]
    edges[1][:, 70:] = True  # reaches three borders
    edges[2][59, 79] = True  # one pixel in a corner
    edges[3][10:20, 5:9], edges[3][40:60, 60:] = True, True  # two parts
    for mask in [*edges, *(draw_mask(random) for _ in range(8))]:
        assert mask.any()
        np.testing.assert_array_equal(rle_to_bitmap(boundary_rle(encode(mask))), naive.inner_boundary(mask, 2))
    assert boundary_rle(encode(EMPTY)) == encode(EMPTY)


def test_boundaries_of_real_masks_equal_those_of_the_whole_image(coco_tiny):
    """Photos of several sizes; the whole image is eroded here, first along its columns, then along its rows."""
    data = json.loads((coco_tiny / "annotations" / "instances.json").read_text())
    hw_of = {image["id"]: (image["height"], image["width"]) for image in data["images"]}
    for row in data["annotations"][:60]:
        hw, parts = hw_of[row["image_id"]], row["segmentation"]
        rle = coco_mask.frPyObjects(parts, *hw)
        rle = coco_mask.merge(rle) if isinstance(parts, list) else rle
        mask, d = coco_mask.decode(rle), boundary_width(hw)
        padded = np.pad(mask, d)
        rows = np.lib.stride_tricks.sliding_window_view(padded, 2 * d + 1, axis=0).min(axis=-1)
        inner = np.lib.stride_tricks.sliding_window_view(rows, 2 * d + 1, axis=1).min(axis=-1)
        np.testing.assert_array_equal(coco_mask.decode(boundary_rle(rle)), mask - inner)


@pytest.fixture(scope="module")
def case():
    """Draw 4 images of 2 classes: masks [image][class] of objects with crowd flags, and of detections with scores."""
    random = np.random.default_rng(11)
    images = {}
    for pair in [(image, category) for image in range(1, 5) for category in (1, 2)]:
        objects = [(draw_mask(random), index == 3) for index in range(4)]
        detections = []
        for mask, _ in objects[:3] * 2 + objects[3:]:
            shifted = np.roll(mask, random.integers(-1, 2, 2), axis=(0, 1))
            detections.append((shifted & (random.uniform(size=HW) > 0.01), round(float(random.uniform()), 1)))
        detections.append((draw_mask(random), 0.5))
        images[pair] = objects, detections
    return images


def as_rows(case):
    objects, results = [], []
    for (image, category), (masks, detections) in case.items():
        place = {"image_id": image, "category_id": category}
        for mask, crowd in masks:
            rle, area = encode(mask), int(mask.sum())
            objects.append({**place, "id": len(objects), "segmentation": rle, "area": area, "iscrowd": int(crowd)})
        results += [{**place, "segmentation": encode(mask), "score": score} for mask, score in detections]
    return objects, results


@pytest.mark.slow
def test_overlaps_equal_the_loop_where_masks_overlap_by_half(case):
    objects, results = as_rows(case)
    overlaps = boundary_overlaps(objects, results, limit=6)
    assert overlaps.keys() == case.keys()
    lowered = 0
    for pair, (masks, detections) in case.items():
        assert overlaps[pair].shape == (6, 4)
        for row, (found, _) in zip(overlaps[pair], sorted(detections, key=lambda d: -d[1]), strict=False):
            for received, (true, crowd) in zip(row, masks, strict=True):
                overlap = naive.mask_overlap(found, true, crowd)
                expected = naive.boundary_overlap(found, true, crowd, 2)
                if overlap >= 0.5:
                    assert received == pytest.approx(expected, abs=1e-12)
                    lowered += expected < overlap
                else:
                    assert received <= overlap + 1e-12
    assert lowered > 10


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["faster", "pycocotools"])
def test_figures_equal_an_independent_computation(case, tmp_path, backend):
    objects, results = as_rows(case)
    path = tmp_path / "truth.json"
    for row in objects:
        row["segmentation"] = {**row["segmentation"], "counts": row["segmentation"]["counts"].decode()}
    images = [{"id": image, "height": HW[0], "width": HW[1]} for image in range(1, 6)]  # one of them empty
    categories = [{"id": index, "name": name} for index, name in ((1, "cup"), (2, "cat"), (3, "dog"))]
    path.write_text(json.dumps({"images": images, "categories": categories, "annotations": objects}))
    figures = evaluate_coco(path, results, iou_type="boundary", backend=backend)

    per_class = {1: [], 2: [], 3: []}
    for (_, category), (masks, detections) in case.items():
        detections = sorted(detections, key=lambda detection: -detection[1])
        table = [[naive.boundary_overlap(found, *true, 2) for true in masks] for found, _ in detections]
        per_class[category].append(([score for _, score in detections], table, [crowd for _, crowd in masks]))
    for row in figures["per_class"]:
        images = per_class[row["category_id"]]
        assert row["boundary_ap"] == pytest.approx(naive.average_precision(images), abs=1e-9), row["name"]
        assert row["boundary_ap50"] == pytest.approx(naive.average_precision(images, [0.5]), abs=1e-9)
    mean = np.mean([row["boundary_ap"] for row in figures["per_class"][:2]])
    assert figures["boundary_ap"] == pytest.approx(mean, abs=1e-9)
    assert 0.1 < figures["boundary_ap"] < evaluate_coco(path, results, backend=backend)["mask_ap"] - 0.05


@pytest.mark.slow
def test_figures_equal_another_implementation_on_real_photos(coco_eval_reference):
    """faster-coco-eval has a boundary measure of its own, which decodes and erodes whole images."""
    truth = coco_eval_reference / "instances_val2014_100.json"
    results = coco_eval_reference / "instances_val2014_fakesegm100_results.json"
    annotations = COCO(str(truth))
    evaluator = COCOeval_faster(annotations, annotations.loadRes(str(results)), "boundary")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    for backend in ("faster", "pycocotools"):
        figures = evaluate_coco(truth, results, iou_type="boundary", backend=backend)
        figures.pop("per_class")
        np.testing.assert_allclose(list(figures.values()), evaluator.stats[:12], rtol=0, atol=1e-9)
