"""Coverage grids against pycocotools' full-size masks, averaged over the cells by an independent path."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from centermask_keras.data.samples.rasterize import rasterize_masks, rasterize_planes
from centermask_keras.data.samples.transform import make_letterbox, make_random_crop, mirror
from centermask_keras.geometry.boxes import clip_boxes, xywh_to_xyxy
from centermask_keras.geometry.transform import apply_to_boxes, compose, invert

IDENTITY = np.array([1.0, 1.0, 0.0, 0.0])
CANVAS = (512, 512)


def rasterize_plane(segmentations, transform, image_hw, grid_hw, stride):
    """Draw all masks into one plane."""
    planes = np.zeros(len(segmentations), np.int64)
    return rasterize_planes(segmentations, planes, transform, image_hw, count=1, grid_hw=grid_hw, stride=stride)[0]


def decode(segmentation, hw, zoom=1):
    """Decode to a full-size bitmap with pycocotools, polygons `zoom` times enlarged."""
    if isinstance(segmentation, dict):
        return coco_mask.decode(segmentation).astype(np.float64)
    parts = [(np.asarray(part, np.float64) * zoom).tolist() for part in segmentation]
    rles = coco_mask.frPyObjects(parts, hw[0] * zoom, hw[1] * zoom)
    return coco_mask.decode(coco_mask.merge(rles)).astype(np.float64)


def overlaps(edges, pixels):
    """Length that the cells between neighbouring edges share with each of the unit pixels: [cells, pixels]."""
    low, high = np.minimum(edges[:-1], edges[1:])[:, None], np.maximum(edges[:-1], edges[1:])[:, None]
    start = np.arange(pixels)[None]
    return np.clip(np.minimum(high, start + 1) - np.maximum(low, start), 0, None)


def average(bitmap, box, transform, cells_hw, zoom=1):
    """Average a bitmap of the original over a grid of cells on a box of the input."""
    back = invert(transform) * zoom
    rows = overlaps(np.linspace(box[1], box[3], cells_hw[0] + 1) * back[1] + back[3], bitmap.shape[0])
    columns = overlaps(np.linspace(box[0], box[2], cells_hw[1] + 1) * back[0] + back[2], bitmap.shape[1])
    cell = abs((box[3] - box[1]) * back[1] * (box[2] - box[0]) * back[0]) / (cells_hw[0] * cells_hw[1])
    return rows @ bitmap @ columns.T / cell


def real_objects(folder, *, crowd=False):
    """Yield (segmentation, box xyxy, image size) of the objects of a COCO file."""
    data = json.loads((folder / "annotations" / "instances.json").read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in data["images"]}
    for row in data["annotations"]:
        if bool(row["iscrowd"]) == crowd:
            hw, segmentation = sizes[row["image_id"]], row["segmentation"]
            if isinstance(segmentation, dict):
                if isinstance(segmentation["counts"], list):
                    segmentation = coco_mask.frPyObjects(segmentation, *hw)
                counts = segmentation["counts"]
                counts = counts.encode() if isinstance(counts, str) else counts
                segmentation = {"size": list(hw), "counts": counts}
            else:
                segmentation = [np.array(part, np.float32) for part in segmentation]
            yield segmentation, xywh_to_xyxy(np.array(row["bbox"])), hw


def moments(coverage):
    """Return area, and the centre of mass (x, y) in cells."""
    ys, xs = np.indices(coverage.shape) + 0.5
    return coverage.sum(), np.array([(coverage * xs).sum(), (coverage * ys).sum()]) / coverage.sum()


def decode_around(segmentation, box, hw, zoom):
    """Decode polygons on the part of the image around a box: the bitmap and the (x, y) of its corner."""
    x0, y0 = np.maximum(np.floor(box[:2]) - 2, 0).astype(int)
    x1, y1 = np.minimum(np.ceil(box[2:]) + 2, hw[::-1]).astype(int)
    return decode([part - np.tile([x0, y0], len(part) // 2) for part in segmentation], (y1 - y0, x1 - x0), zoom), (
        x0,
        y0,
    )


def random_view(hw, rng):
    """Choose a random crop, mirrored or not along both axes."""
    transform = make_random_crop(hw, CANVAS, scale=(0.6, 1.3), rng=rng)
    return mirror(transform, CANVAS, horizontal=rng.random() < 0.5, vertical=rng.random() < 0.5)


def compare_objects(folder, mask_size, *, every, zoom):
    """Compare augmented objects: mean absolute error, mean signed error per boundary cell, shift in enlarged pixels."""
    rng = np.random.default_rng(mask_size)
    errors, signed, shifts = [], [], []
    for segmentation, box, hw in list(real_objects(folder))[::every]:
        transform = random_view(hw, rng)
        input_box = clip_boxes(apply_to_boxes(transform, box), CANVAS)
        if min(input_box[2:] - input_box[:2]) < 8:
            continue
        bitmap, corner = decode_around(segmentation, box, hw, zoom)
        cropped = compose(np.array([1.0, 1.0, *corner]), transform)
        expected = average(bitmap, input_box, cropped, (mask_size, mask_size), zoom)
        found = rasterize_masks([segmentation], input_box[None], transform, hw, mask_size)[0] / 255
        if expected.sum() < 0.05 * mask_size**2:
            continue
        errors.append(np.abs(found - expected).mean())
        boundary = ((expected > 0.02) & (expected < 0.98)).sum()
        signed.append((found - expected).sum() / max(boundary, mask_size))
        pixels_per_cell = (input_box[2:] - input_box[:2]) / mask_size / transform[:2] * zoom
        shifts.append((moments(found)[1] - moments(expected)[1]) * pixels_per_cell)
    assert len(errors) > 40
    return np.mean(errors), np.mean(signed), np.mean(shifts, axis=0)


@pytest.mark.parametrize("mask_size", [32, 64, 128])
def test_polygons_of_photos_are_covered_as_pycocotools_does(coco_train, mask_size):
    """Enlarged four times, pycocotools' own rounding to pixels is small beside a cell."""
    error, signed, shift = compare_objects(coco_train, mask_size, every=10, zoom=4)
    assert error < 0.006  # mean over all cells
    assert abs(signed) < 0.01  # of a boundary cell: neither grown nor shrunk
    # pycocotools draws everything up to 0.1 of its pixels too high (a disc shows it); in x it is exact.
    assert abs(shift[0]) < 0.02 and -0.02 < shift[1] < 0.12


def test_polygons_agree_with_the_masks_that_are_scored(coco_train):
    """At the original size pycocotools keeps whole pixels: more scatter, still no bias."""
    error, signed, shift = compare_objects(coco_train, 64, every=5, zoom=1)
    assert error < 0.03
    assert abs(signed) < 0.06
    assert abs(shift[0]) < 0.04 and -0.02 < shift[1] < 0.12


def test_run_length_masks_are_covered_exactly(nuclei_train):
    rng = np.random.default_rng(2)
    for segmentation, box, hw in list(real_objects(nuclei_train))[::600]:
        transform = random_view(hw, rng)
        box = clip_boxes(apply_to_boxes(transform, box), CANVAS)
        if min(box[2:] - box[:2]) < 1:
            continue
        found = rasterize_masks([segmentation], box[None], transform, hw, 64)[0]
        expected = 255 * average(decode(segmentation, hw), box, transform, (64, 64))
        assert np.abs(found - expected).max() < 0.501


def test_crowd_regions_are_covered_exactly(coco_train):
    for segmentation, _, hw in real_objects(coco_train, crowd=True):
        transform = mirror(make_letterbox(hw, CANVAS), CANVAS)
        found = rasterize_plane([segmentation], transform, hw, (128, 128), 4)
        expected = 255 * average(decode(segmentation, hw), [0, 0, 512, 512], transform, (128, 128))
        assert np.abs(found - expected).max() < 0.501


def test_planes_of_photos_have_no_bias(coco_train):
    """The union of many objects at stride 4, some parts shared by two."""
    by_size = {}
    for segmentation, _, hw in real_objects(coco_train):
        by_size.setdefault(hw, []).append(segmentation)
    rng = np.random.default_rng(3)
    errors, signed, shifts = [], [], []
    for hw, segmentations in list(by_size.items())[:6]:
        segmentations = segmentations[:12]
        transform = random_view(hw, rng)
        found = rasterize_plane(segmentations, transform, hw, (128, 128), 4) / 255
        union = np.max([decode(segmentation, hw, 2) for segmentation in segmentations], axis=0)
        expected = average(union, [0, 0, 512, 512], transform, (128, 128), 2)
        boundary = (expected > 0.02) & (expected < 0.98)
        errors.append(np.abs(found - expected)[boundary].mean())
        signed.append((found - expected)[boundary].mean())
        shifts.append(moments(found)[1] - moments(expected)[1])
    assert np.mean(errors) < 0.06
    assert abs(np.mean(signed)) < 0.01
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.02  # cells


def square(x0, y0, x1, y1):
    return np.array([x0, y0, x1, y0, x1, y1, x0, y1], np.float32)


def test_fractions_of_a_cell_by_hand():
    """A square from (1.25, 2) to (3.5, 4) on cells of 1 pixel."""
    plane = rasterize_plane([[square(1.25, 2, 3.5, 4)]], IDENTITY, (6, 6), (6, 6), 1) / 255
    expected = np.zeros((6, 6))
    expected[2:4, 1:4] = [0.75, 1.0, 0.5]
    np.testing.assert_allclose(plane, expected, atol=1 / 255)


def test_a_triangle_has_its_area():
    plane = rasterize_plane([[np.array([3, 2, 29, 7, 11, 30], np.float32)]], IDENTITY, (32, 32), (8, 8), 4) / 255
    expected = abs((29 - 3) * (30 - 2) - (11 - 3) * (7 - 2)) / 2
    assert plane.sum() * 16 == pytest.approx(expected, rel=0.003)


def test_parts_are_united_and_a_part_that_crosses_itself_is_even_odd():
    """As pycocotools: overlapping parts do not cancel, the inner of a doubly wound part does."""
    parts = [square(2, 2, 10, 10), square(6, 6, 14, 14), square(7, 7, 9, 9)]
    wound = np.concatenate([square(2, 2, 14, 14), [2, 2], square(5, 5, 11, 11), [5, 5]]).astype(np.float32)
    for segmentation in (parts, [wound]):
        plane = rasterize_plane([segmentation], IDENTITY, (16, 16), (16, 16), 1)
        np.testing.assert_array_equal(plane, 255 * decode(segmentation, (16, 16)))


def test_neighbours_that_touch_within_a_cell_fill_it():
    """Half a cell each: their union is the whole cell, as polygons and as run-length masks."""
    left, right = square(0, 0, 6, 8), square(6, 0, 12, 8)
    rles = [
        {"size": [8, 12], "counts": coco_mask.frPyObjects([part.tolist()], 8, 12)[0]["counts"]}
        for part in (left, right)
    ]
    expected = np.full((2, 3), 255)
    np.testing.assert_array_equal(rasterize_plane([[left], [right]], IDENTITY, (8, 12), (2, 3), 4), expected)
    np.testing.assert_array_equal(rasterize_plane(rles, IDENTITY, (8, 12), (2, 3), 4), expected)
    np.testing.assert_array_equal(rasterize_plane([[left], rles[1]], IDENTITY, (8, 12), (2, 3), 4), expected)


def test_masks_end_where_the_image_ends():
    """A polygon that reaches beyond its image does not cover the padding around it."""
    polygon = [square(-20, -20, 50, 50)]
    shifted = np.array([1.0, 1.0, 4.0, 4.0])
    plane = rasterize_plane([polygon], shifted, (8, 8), (4, 4), 4)
    expected = np.zeros((4, 4))
    expected[1:3, 1:3] = 255
    np.testing.assert_array_equal(plane, expected)
    mask = rasterize_masks([polygon], np.array([[0.0, 0.0, 16.0, 16.0]]), shifted, (8, 8), 4)[0]
    np.testing.assert_array_equal(mask, expected)


def test_a_mirrored_mask_is_the_mirror(coco_train):
    transform = np.array([0.73, 0.73, 11.3, -5.2])
    flipped = mirror(transform, CANVAS)
    for segmentation, box, hw in list(real_objects(coco_train))[::20]:
        boxes = [clip_boxes(apply_to_boxes(t, box), CANVAS)[None] for t in (transform, flipped)]
        masks = [
            rasterize_masks([segmentation], b, t, hw, 64) for b, t in zip(boxes, (transform, flipped), strict=True)
        ]
        planes = [rasterize_plane([segmentation], t, hw, (128, 128), 4) for t in (transform, flipped)]
        np.testing.assert_array_equal(masks[0][..., ::-1], masks[1])
        np.testing.assert_array_equal(planes[0][..., ::-1], planes[1])


def test_objects_do_not_touch_each_other(coco_train):
    """All objects at once give what each gives alone."""
    objects = list(real_objects(coco_train))[:12]
    hw = (480, 640)
    segmentations = [segmentation for segmentation, _, _ in objects]
    boxes = np.array([clip_boxes(box, hw) + [0, 0, 1, 1] for _, box, _ in objects])
    together = rasterize_masks(segmentations, boxes, IDENTITY, hw, 32)
    planes = rasterize_planes(segmentations, np.arange(12), IDENTITY, hw, count=12, grid_hw=(120, 160), stride=4)
    for i in range(12):
        alone = rasterize_masks(segmentations[i : i + 1], boxes[i : i + 1], IDENTITY, hw, 32)[0]
        np.testing.assert_array_equal(together[i], alone)
        np.testing.assert_array_equal(planes[i], rasterize_plane(segmentations[i : i + 1], IDENTITY, hw, (120, 160), 4))
    assert together.any(axis=(1, 2)).all()


def test_nothing_to_draw():
    assert rasterize_masks([], np.zeros((0, 4)), IDENTITY, (10, 10), 8).shape == (0, 8, 8)
    assert not rasterize_plane([], IDENTITY, (10, 10), (2, 2), 4).any()
    empty = coco_mask.encode(np.asfortranarray(np.zeros((10, 10), np.uint8)))
    assert not rasterize_masks([empty], np.array([[1.0, 1.0, 9.0, 9.0]]), IDENTITY, (10, 10), 8).any()
    outside = [square(20, 20, 30, 30)]
    assert not rasterize_plane([outside], IDENTITY, (10, 10), (2, 2), 4).any()


def test_run_length_masks_that_overlap_within_a_cell_add_up_to_at_most_the_cell():
    """Cells of 4 x 4: the same half twice fills the first cell, what one mask fills alone stays full."""
    rles = [coco_mask.frPyObjects([square(*corners).tolist()], 4, 8)[0] for corners in ((2, 0, 8, 4), (2, 0, 6, 4))]
    np.testing.assert_array_equal(rasterize_plane(rles[:1], IDENTITY, (4, 8), (1, 2), 4), [[128, 255]])
    np.testing.assert_array_equal(rasterize_plane(rles, IDENTITY, (4, 8), (1, 2), 4), [[255, 255]])


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.lists(st.tuples(st.integers(0, 2**32), st.sampled_from([0.0, 0.02, 0.5, 1.0])), min_size=1, max_size=4),
)
def test_random_masks_at_their_own_size_equal_the_decoder_of_pycocotools(height, width, masks):
    bitmaps = [np.random.default_rng(seed).random((height, width)) < density for seed, density in masks]
    rles = [coco_mask.encode(np.asfortranarray(bitmap.astype(np.uint8))) for bitmap in bitmaps]
    hw = (height, width)
    planes = rasterize_planes(rles, np.arange(len(rles)), IDENTITY, hw, count=len(rles), grid_hw=hw, stride=1)
    np.testing.assert_array_equal(planes, 255 * np.array(bitmaps))
