"""The generated dataset: masks are exactly the pixels seen, the statistics hold, the same seed gives the same files."""

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from centermask_keras._cv2 import cv2
from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.demo.shapes import CLASS_NAMES, make_image, make_shapes
from centermask_keras.errors import ConfigError

TRAIN, VAL, SEED = 60, 30, 5


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    return folder, make_shapes(folder, train=TRAIN, val=VAL, seed=SEED)


def read_split(folder, split):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(folder / f"{split}.json"))


def drawn_picture(stream, image_id, hw=(128, 128)):
    """Draw an image of the dataset again."""
    return make_image(np.random.default_rng([SEED, stream, image_id - 1]), hw)


@pytest.mark.parametrize(("stream", "split", "count"), [(0, "train", TRAIN), (1, "val", VAL)])
def test_masks_decode_to_exactly_the_visible_pixels(shapes, stream, split, count):
    coco = read_split(shapes[0], split)
    assert len(coco.imgs) == count
    for image_id in coco.imgs:
        picture = drawn_picture(stream, image_id)
        stored = cv2.imread(str(shapes[0] / split / coco.imgs[image_id]["file_name"]))[..., ::-1]
        np.testing.assert_array_equal(stored, picture.image)
        annotations = coco.loadAnns(coco.getAnnIds(image_id))
        assert 3 <= len(annotations) == len(picture.classes) <= 8
        seen = np.full(picture.labels.shape, -1)
        for index, annotation in enumerate(annotations):
            mask = coco.annToMask(annotation).astype(bool)
            np.testing.assert_array_equal(mask, picture.labels == index)
            seen[mask] = index
            rows, columns = np.nonzero(mask)
            box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert annotation["bbox"] == box
            assert annotation["area"] == mask.sum() >= 0.005 * mask.size
            assert CLASS_NAMES[annotation["category_id"] - 1] == CLASS_NAMES[picture.classes[index]]
        np.testing.assert_array_equal(seen, picture.labels)  # no object without a mask


def test_painted_pixels_are_the_labelled_pixels():
    """Away from the edges, the colours of one label vary little against those of the picture."""
    shares = []
    for seed in range(20):
        picture = make_image(np.random.default_rng(seed), (128, 128))
        pixels = picture.image.astype(float)
        total = pixels.reshape(-1, 3).var(axis=0).sum()
        for label in range(len(picture.classes)):
            core = cv2.erode((picture.labels == label).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
            if core.sum() > 20:
                shares.append(pixels[core].var(axis=0).sum() / total)
    assert len(shares) > 60
    assert max(shares) < 0.5 and np.median(shares) < 0.1


def test_occlusion_is_what_later_objects_hide():
    """Oracle: the whole outline, rasterised by pycocotools, against the pixels left (rings have a hole: skipped)."""
    checked = 0
    for seed in range(20):
        picture = make_image(np.random.default_rng(seed), (128, 128))
        for label, (class_index, outline) in enumerate(zip(picture.classes, picture.outlines, strict=True)):
            if CLASS_NAMES[class_index] == "ring":
                continue
            whole = coco_mask.decode(coco_mask.frPyObjects([outline], 128, 128))[..., 0].astype(bool)
            seen = picture.labels == label
            assert not (seen & ~whole).any()
            assert (picture.labels[whole & ~seen] > label).all()  # hidden only by what was laid on top
            assert picture.occlusions[label] == pytest.approx(1 - seen.sum() / whole.sum(), abs=1e-9)
            assert picture.occlusions[label] <= 0.65
            checked += 1
    assert checked > 60


@pytest.mark.parametrize("split", ["train", "val"])
def test_statistics_are_those_of_the_files(shapes, split):
    dataset = json.loads((shapes[0] / f"{split}.json").read_text())
    statistics = shapes[1][split]
    occlusions = np.array([annotation["occlusion"] for annotation in dataset["annotations"]])
    counts = np.unique([annotation["image_id"] for annotation in dataset["annotations"]], return_counts=True)[1]
    assert statistics["images"] == len(dataset["images"])
    assert statistics["objects"] == len(dataset["annotations"])
    assert shapes[1]["classes"] == [category["name"] for category in dataset["categories"]]
    assert statistics["objects_per_image_min"] == counts.min() >= 3
    assert statistics["objects_per_image_median"] == np.median(counts)
    assert statistics["objects_per_image_max"] == counts.max() <= 8
    assert statistics["occluded_fraction"] == pytest.approx(np.mean(occlusions >= 0.2), abs=1e-9)
    assert 0.3 <= statistics["occluded_fraction"] <= 0.5
    assert {annotation["category_id"] for annotation in dataset["annotations"]} == {1, 2, 3, 4, 5}


def test_rings_have_holes_through_which_others_are_seen(shapes):
    """Oracle: flood fill from the frame; background pixels it does not reach lie in a hole."""
    coco = read_split(shapes[0], "train")
    with_holes, seen_through = 0, 0
    for image_id in coco.imgs:
        labels = drawn_picture(0, image_id).labels
        for annotation in coco.loadAnns(coco.getAnnIds(image_id)):
            outside = np.pad(coco.annToMask(annotation), 1).copy(order="C")
            cv2.floodFill(outside, None, (0, 0), 1, flags=4)
            hole = outside[1:-1, 1:-1] == 0
            with_holes += hole.any()
            seen_through += (labels[hole] >= 0).any()
    assert with_holes == shapes[1]["train"]["with_holes"]
    assert with_holes > 15 and seen_through > 5


def test_a_ring_shows_a_part_of_its_hole():
    """Oracle: from the outline's centre outwards, the ring begins in enough directions where a hole may end."""
    y, x = np.mgrid[:128, :128] + 0.5
    rings = 0
    for seed in range(120):
        picture = make_image(np.random.default_rng(seed), (128, 128))
        for label, (class_index, outline) in enumerate(zip(picture.classes, picture.outlines, strict=True)):
            if CLASS_NAMES[class_index] != "ring":
                continue
            corners = np.reshape(outline, (-1, 2))
            center = corners.mean(axis=0)
            radius = np.linalg.norm(corners - center, axis=1).max()
            distance = np.hypot(x - center[0], y - center[1])
            seen = picture.labels == label
            assert not seen[distance < 0.45 * radius - 1].any()
            begins = seen & (distance < min(distance[seen].min() + 2, 0.6 * radius + 2))
            directions = np.arctan2(y - center[1], x - center[0])[begins]
            assert len(np.unique((directions * 12 / np.pi).round())) >= 0.25 * 24
            rings += 1
    assert rings > 80


def test_both_kinds_of_segmentation_are_written(shapes):
    annotations = json.loads((shapes[0] / "train.json").read_text())["annotations"]
    polygons = [a for a in annotations if isinstance(a["segmentation"], list)]
    assert 0.2 * len(annotations) < len(polygons) < 0.8 * len(annotations)
    assert all(a["occlusion"] == 0 and CLASS_NAMES[a["category_id"] - 1] != "ring" for a in polygons)


def test_colors_do_not_give_the_class_away(shapes):
    """The mean colour of an object says little about its class: less than 5% of the variance lies between classes."""
    coco = read_split(shapes[0], "train")
    colors, classes = [], []
    for image_id in coco.imgs:
        picture = drawn_picture(0, image_id)
        for label, class_index in enumerate(picture.classes):
            colors.append(picture.image[picture.labels == label].mean(axis=0))
            classes.append(class_index)
    colors, classes = np.array(colors), np.array(classes)
    between = sum(
        (classes == c).mean() * (colors[classes == c].mean(axis=0) - colors.mean(axis=0)) ** 2 for c in range(5)
    )
    assert (between / colors.var(axis=0) < 0.05).all()


@pytest.mark.parametrize("split", ["train", "val"])
def test_files_pass_the_validation_of_the_reader(shapes, split):
    folder, statistics = shapes
    annotations = load_annotations(folder / f"{split}.json", folder / split)
    assert len(annotations) == statistics[split]["images"]
    assert len(annotations.boxes) == statistics[split]["objects"]
    assert not any(annotations.dropped.values())
    assert tuple(annotations.class_names) == CLASS_NAMES


def test_same_seed_same_files_and_images_do_not_depend_on_their_number(shapes, tmp_path):
    make_shapes(tmp_path, train=3, val=2, seed=SEED)
    first = json.loads((tmp_path / "train.json").read_text())
    longer = json.loads((shapes[0] / "train.json").read_text())
    assert first["annotations"] == longer["annotations"][: len(first["annotations"])]
    for path in tmp_path.glob("*/*.png"):
        assert path.read_bytes() == (shapes[0] / path.relative_to(tmp_path)).read_bytes()


def test_training_and_validation_images_differ(shapes, tmp_path):
    folder = shapes[0]
    pictures = [path.read_bytes() for path in folder.glob("*/*.png")]
    make_shapes(tmp_path, train=2, val=2, seed=SEED + 1)
    pictures += [path.read_bytes() for path in tmp_path.glob("*/*.png")]
    assert len(set(pictures)) == len(pictures) == TRAIN + VAL + 4


def test_other_classes_are_drawn_in_their_order(tmp_path):
    """Oracle: the corners of the polygons, and holes in rings only."""
    names = ("hexagon", "ring", "pentagon")
    statistics = make_shapes(tmp_path, train=20, val=1, seed=SEED, class_names=names)
    assert statistics["classes"] == list(names)
    dataset = json.loads((tmp_path / "train.json").read_text())
    assert [(category["id"], category["name"]) for category in dataset["categories"]] == [*enumerate(names, start=1)]
    corners = {name: set() for name in names}
    for annotation in dataset["annotations"]:
        if isinstance(annotation["segmentation"], list):
            corners[names[annotation["category_id"] - 1]].add(len(annotation["segmentation"][0]) // 2)
    assert corners == {"hexagon": {6}, "ring": set(), "pentagon": {5}}
    assert {annotation["category_id"] for annotation in dataset["annotations"]} == {1, 2, 3}
    assert statistics["train"]["with_holes"] > 5


def test_the_demo_draws_what_it_always_drew():
    """The first picture of its training set: the figures in `benchmarks/RESULTS.md` belong to this dataset."""
    picture = make_image(np.random.default_rng([1, 0, 0]), (128, 128))
    drawn = [CLASS_NAMES[index] for index in picture.classes]
    assert drawn == ["triangle", "square", "ring", "ring", "square"]
    assert [int((picture.labels == index).sum()) for index in range(len(drawn))] == [1144, 841, 708, 1888, 759]


def test_image_size_is_free():
    picture = make_image(np.random.default_rng(0), (96, 200))
    assert picture.image.shape == (96, 200, 3) and picture.labels.shape == (96, 200)
    assert picture.labels[:, 128:].max() >= 0  # objects are laid over the whole width


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hw": (128, 32)}, r"hw: expected at least 64 pixels per side, received 128 x 32"),
        ({"train": 0}, r"train: expected at least 1 image, received 0"),
        ({"val": -1}, r"val: expected at least 1 image, received -1"),
        ({"class_names": ("star", "blob")}, r"class_names: expected some of circle, .*hexagon, .*received star, blob"),
        ({"class_names": ("star", "star")}, r"class_names: expected .*, each once, received star, star"),
        ({"class_names": ()}, r"class_names: expected .*, received none"),
    ],
)
def test_impossible_requests_are_refused(tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        make_shapes(tmp_path, **{"train": 1, "val": 1, **arguments})
    assert not list(tmp_path.glob("*.json"))
