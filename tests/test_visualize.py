"""Pictures: what is drawn lies where the objects are, in distinct colours; the rest of the image stays as it was."""

import contextlib
import io
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from centermask_keras._cv2 import cv2
from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.data.files.images import read_image
from centermask_keras.visualize import draw_ground_truth, draw_instances, draw_side_by_side

GREY = 90


def encode(masks):
    return [coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]


def one_disc(hw=(600, 640), center=(300, 200), radius=80):
    y, x = np.ogrid[: hw[0], : hw[1]]
    mask = (x - center[0]) ** 2 + (y - center[1]) ** 2 <= radius**2
    box = [center[0] - radius, center[1] - radius, center[0] + radius + 1, center[1] + radius + 1]
    return np.full((*hw, 3), GREY, np.uint8), mask[None], np.array([box], np.float32)


def changed(drawn, image):
    return (drawn != image).any(axis=2)


def test_only_masks_boxes_and_labels_are_painted():
    image, masks, boxes = one_disc()
    before = image.copy()
    drawn = draw_instances(image, boxes=boxes, classes=np.array([0]), masks=encode(masks), class_names=["disc"])
    np.testing.assert_array_equal(image, before)
    assert drawn.shape == image.shape and drawn.dtype == np.uint8
    touched = changed(drawn, image)
    assert touched[masks[0]].all()
    x1, y1, x2, y2 = boxes[0].astype(int)
    frame = np.zeros_like(touched)
    frame[y1:y2, x1:x2] = True
    frame[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1] = False
    assert touched[frame].all()
    rest = touched & ~masks[0] & ~frame
    rows, columns = np.nonzero(rest)
    assert len(rows) > 100  # the label: one small rectangle, above the box
    assert rows.max() < y1 and rows.min() >= y1 - 20 and columns.min() >= x1 and columns.max() < x1 + 60


@pytest.mark.parametrize("name", ["cell\nwall", "a\r\n", "a\x1b[2Jb"])
def test_names_are_drawn_on_one_line(name):
    image, masks, boxes = one_disc()
    arguments = {"boxes": boxes, "classes": np.array([0]), "masks": masks}
    drawn = draw_instances(image, class_names=[name], scores=np.array([0.5]), **arguments)
    expected = draw_instances(image, class_names=[repr(name)[1:-1]], scores=np.array([0.5]), **arguments)
    np.testing.assert_array_equal(drawn, expected)
    sheets = [draw_side_by_side([image], [title]) for title in (name, repr(name)[1:-1])]
    np.testing.assert_array_equal(*sheets)


def test_outline_is_stronger_than_the_fill_and_one_pixel_wide():
    image, masks, boxes = one_disc()
    drawn = draw_instances(image, boxes=boxes, classes=np.array([0]), masks=masks, class_names=["disc"])
    core = cv2.erode(masks[0].astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    outline_colors = np.unique(drawn[masks[0] & ~core].reshape(-1, 3), axis=0)
    fill_colors = np.unique(drawn[core].reshape(-1, 3), axis=0)
    assert len(outline_colors) == len(fill_colors) == 1
    outline, fill = np.abs(outline_colors[0].astype(int) - GREY), np.abs(fill_colors[0].astype(int) - GREY)
    assert outline.max() > 100 and fill.max() > 40
    assert fill.max() < 0.6 * outline.max()  # the image shines through


@given(st.integers(0, 10_000))
def test_rle_and_bitmaps_give_the_same_picture(seed):
    rng = np.random.default_rng(seed)
    hw = tuple(rng.integers(20, 120, 2).tolist())
    image = rng.integers(0, 256, (*hw, 3), dtype=np.uint8)
    masks = np.stack([cv2.blur(rng.random(hw), (9, 9)) > level for level in rng.uniform(0.45, 0.7, 5)])
    boxes = np.sort(rng.uniform(-5, max(hw) + 5, (5, 2, 2)), axis=1).reshape(5, 4)
    arguments = {"boxes": boxes, "classes": rng.integers(0, 3, 5), "class_names": "abc", "scores": rng.random(5)}
    from_rle = draw_instances(image, masks=encode(masks), **arguments)
    np.testing.assert_array_equal(from_rle, draw_instances(image, masks=masks, **arguments))


def test_small_images_are_enlarged_with_their_masks():
    image, masks, boxes = one_disc((128, 96), (40, 60), 30)
    drawn = draw_instances(image, boxes=boxes, classes=np.array([0]), masks=encode(masks), class_names=["disc"])
    assert drawn.shape == (512, 384, 3)
    large_mask = masks[0].repeat(4, axis=0).repeat(4, axis=1)
    touched = changed(drawn, image.repeat(4, axis=0).repeat(4, axis=1))
    inside_box = slice(4 * 30 + 1, 4 * 91 - 1), slice(4 * 10 + 1, 4 * 71 - 1)
    np.testing.assert_array_equal(touched[inside_box], large_mask[inside_box])
    assert touched[4 * 30, 4 * 10 : 4 * 71].all()  # the box's upper edge


def test_neighbouring_instances_of_one_class_differ_in_color():
    image = np.full((520, 1000, 3), GREY, np.uint8)
    masks = np.zeros((20, 520, 1000), bool)
    for index in range(20):
        masks[index, 100:400, 50 * index : 50 * index + 40] = True
    boxes = np.array([[50 * i, 100, 50 * i + 40, 400] for i in range(20)], np.float32)
    drawn = draw_instances(image, boxes=boxes, classes=np.zeros(20, int), masks=masks, class_names=["bar"])
    edges = np.array([drawn[250, 50 * index].astype(float) for index in range(20)])
    distances = np.linalg.norm(edges[:, None] - edges, axis=2) + 1000 * np.eye(20)
    assert distances.min() > 25
    assert min(distances[i, i + 1] for i in range(19)) > 150


def test_highest_score_lies_on_top():
    image, masks, boxes = one_disc()
    two = {"boxes": np.concatenate([boxes, boxes]), "classes": np.array([0, 1]), "class_names": ["a", "b"]}
    both = np.concatenate([masks, masks])
    first_wins = draw_instances(image, masks=both, scores=np.array([0.9, 0.2]), **two)
    second_wins = draw_instances(image, masks=both, scores=np.array([0.2, 0.9]), **two)
    on_outline = (120, 300)  # topmost pixel of the disc
    assert not np.array_equal(first_wins[on_outline], second_wins[on_outline])
    without_scores = draw_instances(image, masks=both, **two)
    np.testing.assert_array_equal(without_scores[on_outline], second_wins[on_outline])


def test_labels_do_not_cover_each_other_and_stay_inside():
    """Many objects in one corner: each label that is drawn is a rectangle of its own."""
    image = np.full((600, 800, 3), GREY, np.uint8)
    boxes = np.array([[i, i, 150 + i, 120 + i] for i in range(0, 20, 2)], np.float32)
    empty = encode(np.zeros((10, 600, 800), bool))
    drawn = draw_instances(image, boxes=boxes, classes=np.zeros(10, int), masks=empty, class_names=["label"])
    plain = image.copy()
    for index, box in enumerate(boxes.astype(int).tolist()):
        color = drawn[box[3] - 1, box[2] - 1].tolist()
        cv2.rectangle(plain, box[:2], (box[2] - 1, box[3] - 1), color, 1)
        assert color != [GREY] * 3, index
    labels = changed(drawn, plain)
    parts = cv2.connectedComponents(labels.astype(np.uint8))[0] - 1
    assert parts >= 2 and labels.sum() > 2 * 17 * 30


def test_no_objects_and_empty_masks_are_ordinary():
    image = np.random.default_rng(0).integers(0, 256, (520, 530, 3), dtype=np.uint8)
    none = {"boxes": np.zeros((0, 4)), "classes": np.zeros(0, int), "class_names": []}
    np.testing.assert_array_equal(draw_instances(image, masks=[], scores=np.zeros(0), **none), image)
    np.testing.assert_array_equal(draw_instances(image, masks=np.zeros((0, 520, 530), bool), **none), image)
    tiny = draw_instances(
        image,
        boxes=np.array([[5, 5, 6, 6.0]]),
        classes=[0],
        masks=encode(np.zeros((1, 520, 530))),
        class_names={0: "x"},
    )
    assert changed(tiny, image).sum() <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((8, 8), np.uint8)}, r"image: expected uint8 \[H, W, 3\], received uint8 \[8, 8\]"),
        ({"image": np.zeros((8, 8, 3))}, r"image: expected uint8 \[H, W, 3\], received float64"),
        ({"masks": np.zeros((1, 9, 8), bool)}, r"mask: expected the image's size \[8, 8\], received \[9, 8\]"),
        (
            {"masks": [{"size": [8, 9], "counts": b"X2"}]},
            r"mask: expected the image's size \[8, 8\], received \[8, 9\]",
        ),
        ({"masks": []}, r"masks: expected 1 rows \(one per box\), received 0"),
        ({"scores": np.zeros(2)}, r"scores: expected 1 rows \(one per box\), received 2"),
    ],
)
def test_wrong_input_is_named(change, message):
    arguments = {
        "image": np.zeros((8, 8, 3), np.uint8),
        "boxes": np.array([[0, 0, 4, 4]]),
        "classes": np.array([0]),
        "masks": np.ones((1, 8, 8), bool),
        "class_names": ["a"],
        **change,
    }
    with pytest.raises(ValueError, match=message):
        draw_instances(arguments.pop("image"), **arguments)


def test_side_by_side_brings_images_to_one_height():
    red = np.full((100, 50, 3), (255, 0, 0), np.uint8)
    blue = np.full((50, 50, 3), (0, 0, 255), np.uint8)
    sheet = draw_side_by_side([red, blue], ["left", "right"])
    is_red, is_blue = (sheet == (255, 0, 0)).all(axis=2), (sheet == (0, 0, 255)).all(axis=2)
    assert is_red.sum() == 100 * 50 and is_blue.sum() == 100 * 100
    assert np.nonzero(is_red)[1].max() < np.nonzero(is_blue)[1].min()
    top = np.nonzero(is_red)[0].min()
    titles = (sheet[:top] < 128).all(axis=2)
    assert titles[:, :50].any() and titles[:, 60:].any()
    for images, texts in [([], []), ([red], ["a", "b"])]:
        with pytest.raises(ValueError, match="expected one title per image"):
            draw_side_by_side(images, texts)


def test_ground_truth_of_real_photos_is_drawn_where_pycocotools_sees_it(coco_tiny):
    """Away from boxes and labels, exactly the annotated pixels change."""
    path, folder = coco_tiny / "annotations" / "instances.json", coco_tiny / "images"
    annotations = load_annotations(path, folder)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
    objects = 0
    for index in range(len(annotations)):
        image = read_image(annotations.image_file(index))
        drawn = draw_ground_truth(image, annotations, index)
        factor = drawn.shape[0] // image.shape[0]
        touched = changed(drawn, image.repeat(factor, 0).repeat(factor, 1))
        union = np.zeros(image.shape[:2], bool)
        for annotation in coco.loadAnns(coco.getAnnIds(int(annotations.image_ids[index]))):
            union |= coco.annToMask(annotation).astype(bool)
            objects += 1
        union = union.repeat(factor, 0).repeat(factor, 1)
        if union.any():
            assert touched[union].mean() > 0.995  # a pixel may have the instance's own colour
            assert (touched & ~union).mean() < 0.2  # boxes and labels
        else:
            assert not touched.any()
    assert objects > 50


def test_crowd_regions_are_named():
    mask = np.zeros((1, 600, 600), bool)
    mask[0, 200:500, 200:500] = True
    columns = {
        "boxes": np.array([[200, 200, 500, 500]], np.float32),
        "classes": np.array([0], np.int32),
        "segmentations": encode(mask),
        "class_names": ["person"],
        "objects": lambda index: slice(0, 1),
    }
    image = np.full((600, 600, 3), GREY, np.uint8)
    alone = draw_ground_truth(image, SimpleNamespace(crowd=np.array([False]), **columns), 0)
    crowd = draw_ground_truth(image, SimpleNamespace(crowd=np.array([True]), **columns), 0)
    label_rows = slice(180, 200)
    assert changed(crowd, image)[label_rows].sum() > 1.5 * changed(alone, image)[label_rows].sum()


def test_400_objects_on_one_microscopy_image_are_drawn_quickly(nuclei_train):
    """The fullest image of the set; a mask's own box keeps the work small."""
    annotations = load_annotations(nuclei_train / "annotations" / "instances.json", nuclei_train / "images")
    index = int(np.argmax(np.diff(annotations.object_start)))
    image = read_image(annotations.image_file(index))
    assert len(annotations.boxes[annotations.objects(index)]) > 300
    begin = time.process_time()
    drawn = draw_ground_truth(image, annotations, index)
    assert time.process_time() - begin < 1.0
    assert drawn.shape == image.shape and changed(drawn, image).mean() > 0.1
