"""Masks: RLE equals pycocotools byte for byte; pasting equals a loop over pixels and OpenCV's half-pixel resize."""

import json
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from centermask_keras._cv2 import cv2
from centermask_keras.masks import (
    RLEMasks,
    encode_crop,
    paste_mask,
    paste_rles,
    rle_to_bitmap,
    rle_to_json,
    segmentation_to_rle,
)

HW = (37, 53)


def encode_full(bitmap):
    """Encode a full mask with pycocotools, the oracle of every RLE here."""
    return coco_mask.encode(np.asfortranarray(bitmap.astype(np.uint8)))


def embed(crop, top_left, hw):
    full = np.zeros(hw, bool)
    top, left = top_left
    full[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    return full


def paste_naive(probability, box, hw, threshold):
    """Paste pixel by pixel into a full mask; also say where rounding may decide (values next to the threshold)."""
    x1, y1, x2, y2 = (float(edge) for edge in box)
    rows, columns = probability.shape
    mask, close = np.zeros(hw, bool), np.zeros(hw, bool)
    for y in range(hw[0]):
        for x in range(hw[1]):
            if not (x1 <= x + 0.5 < x2 and y1 <= y + 0.5 < y2):
                continue
            v = min(max((y + 0.5 - y1) / (y2 - y1) * rows - 0.5, 0), rows - 1)
            u = min(max((x + 0.5 - x1) / (x2 - x1) * columns - 0.5, 0), columns - 1)
            i, j = min(math.floor(v), max(rows - 2, 0)), min(math.floor(u), max(columns - 2, 0))
            value = 0.0
            for a in {i, min(i + 1, rows - 1)}:
                for b in {j, min(j + 1, columns - 1)}:
                    value += max(0, 1 - abs(v - a)) * max(0, 1 - abs(u - b)) * float(probability[a, b])
            mask[y, x] = value > threshold
            close[y, x] = abs(value - threshold) < 1e-5
    return mask, close


@st.composite
def crops(draw):
    """Draw an image size, a crop inside it that often spans it, and its pixels."""
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    top, left = draw(st.integers(0, height)), draw(st.integers(0, width))
    bottom, right = draw(st.integers(top, height)), draw(st.integers(left, width))
    bits = draw(st.integers(0, 2 ** ((bottom - top) * (right - left)) - 1))
    pixels = [bits >> place & 1 for place in range((bottom - top) * (right - left))]
    return np.array(pixels, bool).reshape(bottom - top, right - left), (top, left), (height, width)


@given(crops())
def test_encode_crop_equals_pycocotools_on_the_full_mask(case):
    crop, top_left, hw = case
    full = embed(crop, top_left, hw)
    rle = encode_crop(crop, top_left, hw)
    assert rle == encode_full(full)
    np.testing.assert_array_equal(rle_to_bitmap(rle), full)


@pytest.mark.parametrize("value", [False, True])
def test_encode_crop_of_a_whole_image_of_one_value(value):
    full = np.full((480, 640), value)
    assert encode_crop(full, (0, 0), full.shape) == encode_full(full)


@pytest.mark.parametrize("top_left", [(-1, 0), (0, -1), (33, 0), (0, 50)])
def test_encode_crop_beyond_the_image_is_an_error(top_left):
    with pytest.raises(ValueError, match=r"expected a crop inside 37x53, received \(5, 4\)"):
        encode_crop(np.ones((5, 4), bool), top_left, HW)


@pytest.mark.parametrize(
    "box",
    [
        (10, 8, 30, 28),  # pixel edges
        (9.7, 8.2, 31.4, 22.9),
        (-12.3, -7.7, 20.1, 15.2),  # beyond the upper left
        (30.5, 20.5, 90.0, 71.3),  # beyond the lower right; an edge on a pixel centre
        (-40.0, -30.0, 95.0, 80.0),  # around the image
        (17.6, 3.0, 18.4, 30.0),  # narrower than a pixel with a centre out of it
        (17.4, 3.2, 17.6, 3.7),  # one pixel
    ],
)
@pytest.mark.parametrize("size", [1, 2, 7, 28])
def test_paste_equals_a_loop_over_pixels(box, size):
    probability = np.random.uniform(size=(size, size)).astype(np.float32)
    crop, top_left = paste_mask(probability, box, HW, 0.45)
    expected, close = paste_naive(probability, box, HW, 0.45)
    assert close.sum() <= 2
    np.testing.assert_array_equal(embed(crop, top_left, HW) | close, expected | close)


def test_paste_at_pixel_edges_equals_half_pixel_resize():
    probability = np.random.uniform(size=(16, 16)).astype(np.float32)
    crop, top_left = paste_mask(probability, (5, 3, 45, 35), HW, 0.5)
    assert top_left == (3, 5)
    resized = cv2.resize(probability, (40, 32), interpolation=cv2.INTER_LINEAR)
    certain = np.abs(resized - 0.5) > 1e-3
    assert certain.mean() > 0.98
    np.testing.assert_array_equal(crop[certain], resized[certain] > 0.5)


def test_paste_needs_more_than_the_threshold():
    crop, _ = paste_mask(np.full((8, 8), 0.5, np.float32), (2, 2, 9, 9), HW, 0.5)
    assert crop.shape == (7, 7)
    assert not crop.any()
    assert paste_mask(np.full((8, 8), 0.501, np.float32), (2, 2, 9, 9), HW, 0.5)[0].all()


@pytest.mark.parametrize(
    "box",
    [
        (5, 5, 5, 9),
        (9, 5, 3, 9),
        (5.1, 5.1, 5.3, 5.4),
        (60, 5, 80, 9),
        (5, -9, 9, -1),
        (5, 40, 9, 50),
        (float("nan"), 5, 9, 9),
        (5, 5, float("inf"), 9),
        (1e30, 1e30, 2e30, 2e30),
    ],
)
def test_box_without_a_pixel_gives_an_empty_mask(box):
    (rle,) = paste_rles(np.ones((1, 8, 8), np.float32), np.array([box]), HW, 0.4)
    assert rle == encode_full(np.zeros(HW, bool))


def test_huge_box_costs_no_more_than_the_image():
    probability = np.zeros((8, 8), np.float32)
    probability[:, :4] = 1
    tracemalloc.start()
    crop, top_left = paste_mask(probability, (-1e6 + 20, -1e6, 1e6 + 20, 1e6), HW, 0.5)
    assert tracemalloc.get_traced_memory()[1] < 200_000
    tracemalloc.stop()
    expected = np.zeros(HW, bool)
    expected[:, :20] = True
    np.testing.assert_array_equal(embed(crop, top_left, HW), expected)


def test_paste_rles_equals_pasting_into_full_masks():
    probabilities = np.random.uniform(size=(20, 14, 14)).astype(np.float32)
    corners = np.random.uniform(-20, 60, (20, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1)
    rles = paste_rles(probabilities, boxes, HW, 0.4)
    for rle, probability, box in zip(rles, probabilities, boxes, strict=True):
        assert rle == encode_full(embed(*paste_mask(probability, box, HW, 0.4), HW))
    assert sum(rle_to_bitmap(rle).any() for rle in rles) > 10
    assert paste_rles(np.zeros((0, 14, 14)), np.zeros((0, 4)), HW, 0.4) == []


def test_paste_rles_makes_no_mask_of_the_size_of_the_image():
    boxes = np.random.uniform(0, 2500, (50, 2))
    boxes = np.concatenate([boxes, boxes + 100], axis=1)
    probabilities = np.random.uniform(size=(50, 32, 32)).astype(np.float32)
    tracemalloc.start()
    paste_rles(probabilities, boxes, (3000, 4000), 0.4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3000 * 4000 / 2  # one mask would take 3000 * 4000


def test_segmentations_of_real_photos_equal_pycocotools(coco_tiny):
    path = coco_tiny / "annotations" / "instances.json"
    document = json.loads(path.read_text())
    hw_of = {image["id"]: (image["height"], image["width"]) for image in document["images"]}
    kinds = set()
    for annotation in document["annotations"]:
        segmentation, hw = annotation["segmentation"], hw_of[annotation["image_id"]]
        expected = coco_mask.frPyObjects(segmentation, *hw)
        if isinstance(segmentation, list):
            expected = coco_mask.merge(expected)
        assert segmentation_to_rle(segmentation, hw) == expected
        kinds.add("RLE" if isinstance(segmentation, dict) else min(len(segmentation), 2))
    assert kinds == {"RLE", 1, 2}


def test_polygon_parts_are_united_and_parts_without_area_left_out():
    parts = [[2, 2, 12, 2, 12, 12, 2, 12], [8, 8, 20, 8, 20, 20, 8, 20]]
    expected = np.zeros(HW, bool)
    expected[2:12, 2:12] = expected[8:20, 8:20] = True
    for polygons in (parts, [[30, 30, 40, 35], *parts, [1, 1]], [np.array(part, np.float32) for part in parts]):
        np.testing.assert_array_equal(rle_to_bitmap(segmentation_to_rle(polygons, HW)), expected)
    for nothing in ([], [[30, 30, 40, 35]]):
        assert not rle_to_bitmap(segmentation_to_rle(nothing, HW)).any()


def test_every_form_of_rle_is_read():
    bitmap = np.random.uniform(size=HW) > 0.5
    rle = encode_full(bitmap)
    flat = bitmap.T.ravel()
    edges = np.flatnonzero(np.diff(flat, prepend=False)).tolist()
    runs = np.diff([0, *edges, flat.size]).tolist()
    assert segmentation_to_rle(rle, HW) == rle
    assert segmentation_to_rle({"size": list(HW), "counts": runs}, HW) == rle
    as_json = json.loads(json.dumps(rle_to_json(rle)))
    assert segmentation_to_rle(as_json, HW) == rle
    assert rle_to_json(as_json) == as_json


def test_rle_of_another_size_is_an_error():
    with pytest.raises(ValueError, match=r"expected an RLE of size \[53, 37\], received \[37, 53\]"):
        segmentation_to_rle(encode_full(np.ones(HW)), HW[::-1])


def test_rle_masks_behave_like_a_list_and_decode_on_demand():
    bitmaps = np.random.uniform(size=(3, *HW)) > 0.5
    rles = [encode_full(bitmap) for bitmap in bitmaps]
    masks = RLEMasks(rles, HW)
    assert len(masks) == 3
    assert list(masks) == rles
    assert masks[-1] == rles[2]
    assert "3 masks of 37x53" in repr(masks)
    np.testing.assert_array_equal(masks.dense(), bitmaps)
    assert masks.dense().dtype == bool
    np.testing.assert_array_equal(masks[1:].dense(), bitmaps[1:])
    assert RLEMasks([], HW).dense().shape == (0, *HW)
