"""A dataset is loaded whole or refused with every reason; what cannot be learned is left out and counted.

Oracle for real files: the json itself, read naively.
"""

import gc
import json
import pickle
import re
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from centermask_keras.data.files.annotations import Annotations, load_annotations, read_annotations
from centermask_keras.errors import DataError, Problem

HW = (20, 30)
POLYGON = [2.5, 3, 12, 3, 12, 9.5]


def make_document() -> dict:
    """Two images with an object each (annotations 11 and 12), and one without."""
    images = [{"id": i, "file_name": f"{i}.png", "height": HW[0], "width": HW[1]} for i in (1, 2, 3)]
    annotation = {"category_id": 7, "bbox": [2.5, 3, 9.5, 6.5], "area": 30.9, "iscrowd": 0, "segmentation": [POLYGON]}
    return {
        "images": images,
        "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [{**annotation, "id": 11, "image_id": 1}, {**annotation, "id": 12, "image_id": 2}],
    }


def write(folder: Path, document: dict | str) -> tuple[Path, Path]:
    """Write json and images; return both paths."""
    path, images = folder / "my.json", folder / "photos"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    images.mkdir(exist_ok=True)
    for index in (1, 2, 3):
        Image.new("RGB", HW[::-1], (index, 2, 3)).save(images / f"{index}.png")
    return path, images


def load(folder: Path, document: dict | str, **options) -> Annotations:
    return load_annotations(*write(folder, document), **options)


def faults_of(folder: Path, document: dict | str, **options) -> list[Problem]:
    with pytest.raises(DataError) as caught:
        load(folder, document, **options)
    return caught.value.problems


def changed(**changes) -> dict:
    """The document with the first annotation changed; None takes a key away."""
    document = make_document()
    annotation = document["annotations"][0]
    annotation.update(changes)
    for key in [key for key, value in changes.items() if value is None]:
        del annotation[key]
    return document


def test_columns(tmp_path):
    dataset = load(tmp_path, make_document())
    assert len(dataset) == 3
    assert dataset.num_classes == 2
    assert dataset.class_names == ["cat", "dog"]
    assert dataset.category_ids.tolist() == [7, 9]
    assert dataset.image_file(1) == tmp_path / "photos" / "2.png"
    assert [dataset.objects(i) for i in range(3)] == [slice(0, 1), slice(1, 2), slice(2, 2)]
    assert dataset.has_annotations
    assert (dataset.dropped, dataset.drops) == ({}, [])
    dtypes = {
        "image_ids": np.int64,
        "image_hw": np.int32,
        "category_ids": np.int64,
        "object_start": np.int64,
        "boxes": np.float32,
        "classes": np.int32,
        "crowd": np.bool_,
        "annotation_ids": np.int64,
    }
    assert {key: getattr(dataset, key).dtype.type for key in dtypes} == dtypes
    np.testing.assert_array_equal(dataset.boxes, [[2.5, 3, 12, 9.5]] * 2)
    np.testing.assert_array_equal(dataset.segmentations[0], [POLYGON])


# --- Faults that stop: each with its file, place, what is expected and what was found.


def _images(change: Callable[[list], None]) -> dict:
    document = make_document()
    change(document["images"])
    return document


def _repeat(key: str) -> dict:
    document = make_document()
    document[key].append(dict(document[key][0]))
    return document


def _rle(counts: object, size: tuple[int, int] = HW) -> dict:
    return changed(segmentation={"size": list(size), "counts": counts})


def _without(key: str) -> dict:
    document = make_document()
    del document[key]
    return document


FAULTS = {
    "not json": ("{", "line 1, column 2", "json", "Expecting property name enclosed in double quotes"),
    "nan": (
        json.dumps(changed(bbox=[1, float("nan"), 3, 4])),
        "annotations[0].bbox[1] (id 11)",
        "a finite number",
        "NaN",
    ),
    "infinite": (
        json.dumps(changed(bbox=[1, 77, 3, 4])).replace("77", "1e999"),
        "annotations[0].bbox (id 11)",
        "[x, y, width, height], each of at most 1e6 pixels",
        "[1, Infinity, 3, 4]",
    ),
    "no images": (_without("images"), "images", "a list of objects", "nothing"),
    "no categories": (_without("categories"), "categories", "a list of objects", "nothing"),
    "no annotations": (
        _without("annotations"),
        "annotations",
        "a list of objects",
        "nothing",
    ),
    "annotations of another type": (
        {**make_document(), "annotations": {}},
        "annotations",
        "a list of objects",
        "{}",
    ),
    "annotation of another type": (
        {**make_document(), "annotations": [5]},
        "annotations[0]",
        "an object",
        "5",
    ),
    "text for an id": (changed(id="11"), "annotations[0].id", "an integer", '"11"'),
    "no image_id": (changed(image_id=None), "annotations[0].image_id (id 11)", "an integer", "nothing"),
    "no category_id": (changed(category_id=None), "annotations[0].category_id (id 11)", "an integer", "nothing"),
    "three numbers for a box": (
        changed(bbox=[1, 2, 3]),
        "annotations[0].bbox (id 11)",
        "[x, y, width, height], each of at most 1e6 pixels",
        "[1, 2, 3]",
    ),
    "no area and no mask": (
        changed(area=None, segmentation=None),
        "annotations[0].area (id 11)",
        "a number from 0 to 1e12",
        "nothing",
    ),
    "crowd of 2": (changed(iscrowd=2), "annotations[0].iscrowd (id 11)", "0 or 1", "2"),
    "text for a mask": (changed(segmentation="x"), "annotations[0].segmentation (id 11)", "polygons or an RLE", '"x"'),
    "no file name": (
        _images(lambda images: images[2].pop("file_name")),
        "images[2].file_name (id 3)",
        "a path relative to the images folder",
        "nothing",
    ),
    "no height": (
        _images(lambda images: images[2].pop("height")),
        "images[2].height (id 3)",
        "a positive integer",
        "nothing",
    ),
    "width of 0": (
        _images(lambda images: images[2].update(width=0)),
        "images[2].width (id 3)",
        "a positive integer",
        "0",
    ),
    "no category name": (
        {**make_document(), "categories": [{"id": 7}]},
        "categories[0].name (id 7)",
        "a name",
        "nothing",
    ),
    "image twice": (_repeat("images"), "images", "one entry with id 1", "2 entries"),
    "annotation twice": (_repeat("annotations"), "annotations", "one entry with id 11", "2 entries"),
    "category twice": (_repeat("categories"), "categories", "one entry with id 7", "2 entries"),
    "unknown category": (
        changed(category_id=8),
        "annotation 11 (image 1)",
        "category_id of a category in this file",
        "8",
    ),
    "unknown image": (changed(image_id=99), "annotation 11 (image 99)", "image_id of an image in this file", "99"),
    "odd polygon": (
        changed(segmentation=[POLYGON, [1, 2, 3, 4, 5, 6, 7]]),
        "annotation 11 (image 1), segmentation",
        "a polygon with an even count of numbers: x, y, x, y ...",
        "7 numbers",
    ),
    "flat polygon": (
        changed(segmentation=[1, 2, 3, 4, 5, 6]),
        "annotation 11 (image 1), segmentation",
        "a list of polygons, each a list of numbers",
        "1",
    ),
    "rle of another size": (
        _rle([20 * 31], (20, 31)),
        "annotation 11 (image 1), segmentation",
        "RLE size [20, 30], the image's [height, width]",
        "[20, 31]",
    ),
    "rle with too many pixels": (
        _rle([600, 1]),
        "annotation 11 (image 1), segmentation",
        "RLE run lengths that add up to 20 * 30 = 600 pixels",
        "601 pixels",
    ),
    "rle with a negative run": (
        _rle([601, -1]),
        "annotation 11 (image 1), segmentation",
        "RLE counts as a list of run lengths or as a string",
        "[601, -1]",
    ),
    "compressed rle with too few pixels": (
        _rle("5"),
        "annotation 11 (image 1), segmentation",
        "RLE run lengths that add up to 20 * 30 = 600 pixels",
        "5 pixels",
    ),
    "compressed rle that is none": (
        _rle("a b"),
        "annotation 11 (image 1), segmentation",
        "RLE run lengths that add up to 20 * 30 = 600 pixels",
        "a string that is no compressed RLE",
    ),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_fault_in_the_json_stops(tmp_path, kind):
    document, *expected = FAULTS[kind]
    problems = faults_of(tmp_path, document)
    assert [problem.file for problem in problems] == [str(tmp_path / "my.json")]
    (problem,) = problems
    assert [problem.where, problem.expected, problem.received] == expected


def test_dataset_without_images_and_categories_stops(tmp_path):
    problems = faults_of(tmp_path, {"images": [], "categories": [], "annotations": []})
    assert [(problem.where, problem.received) for problem in problems] == [("images", "none"), ("categories", "none")]


def test_dataset_without_objects_is_an_ordinary_one(tmp_path):
    dataset = load(tmp_path, {**make_document(), "annotations": []})
    assert dataset.has_annotations
    assert dataset.object_start.tolist() == [0, 0, 0, 0]
    assert dataset.boxes.shape == (0, 4)


def test_missing_image_stops(tmp_path):
    document = _images(lambda images: images[1].update(file_name="none.jpg"))
    (problem,) = faults_of(tmp_path, document)
    assert str(problem) == (
        f"{tmp_path}/photos/none.jpg: image 2: expected a readable image, received no such file or directory"
    )


def test_missing_folder_of_images_is_one_fault(tmp_path):
    path, _ = write(tmp_path, make_document())
    with pytest.raises(DataError, match=re.escape("photo: expected a folder with the images, received no such folder")):
        load_annotations(path, tmp_path / "photo")


def test_undecodable_header_stops(tmp_path):
    path, images = write(tmp_path, make_document())
    (images / "3.png").write_bytes(b"not an image")
    message = r"3\.png: image 3: expected a JPEG, PNG, BMP or WebP image, received a file that starts with b'not an i'"
    with pytest.raises(DataError, match=message):
        load_annotations(path, images)


def test_image_of_another_size_stops(tmp_path):
    path, images = write(tmp_path, make_document())
    Image.new("L", (31, 20)).save(images / "3.png")
    with pytest.raises(DataError) as caught:
        load_annotations(path, images)
    assert str(caught.value) == (
        f"{path}: image 3 (3.png): expected width 31, height 20 as in the file (EXIF orientation applied), "
        "received width 30, height 20"
    )


def test_size_in_the_json_has_to_be_that_of_the_turned_image(tmp_path):
    path, images = write(tmp_path, make_document())
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 30)).save(images / "3.png", exif=exif)  # stored upright, shown lying
    assert load_annotations(path, images).image_hw[2].tolist() == [20, 30]
    Image.new("RGB", (30, 20)).save(images / "3.png", exif=exif)
    with pytest.raises(DataError, match="expected width 20, height 30 as in the file"):
        load_annotations(path, images)


def test_all_faults_are_listed_at_once(tmp_path):
    document = changed(category_id=8)
    document["annotations"][1]["bbox"] = 3
    document["images"][2]["file_name"] = "none.png"
    document["images"].append({"id": "4"})
    problems = faults_of(tmp_path, document)
    assert [problem.where for problem in problems] == [
        "images[3].id",
        "images[3].file_name",
        "images[3].height",
        "images[3].width",
        "annotations[1].bbox (id 12)",
        "annotation 11 (image 1)",
        "image 3",
    ]


def _places(value: object, path: tuple = ()) -> Iterator[tuple]:
    """Name every key and index at any depth."""
    for key, entry in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from _places(entry, (*path, key))


ODD_VALUES = [
    None,
    True,
    0,
    -1,
    2.5,
    1e999,
    2**63,
    10**400,
    "",
    "x",
    "ü\n",
    [],
    [[]],
    [None],
    [[1, 2]],
    {},
    {"size": 1},
]


@pytest.mark.parametrize("odd", ODD_VALUES, ids=lambda value: repr(value)[:12])
def test_an_odd_value_anywhere_is_a_data_error_if_anything(tmp_path, odd):
    sound = json.dumps(changed(segmentation={"size": list(HW), "counts": [100, 50, 450]}))
    path = tmp_path / "my.json"
    for *parents, last in _places(json.loads(sound)):
        document = json.loads(sound)
        parent = document
        for key in parents:
            parent = parent[key]
        parent[last] = odd
        path.write_text(json.dumps(document).replace("Infinity", "1e999"))
        try:
            dataset, problems = read_annotations(path, tmp_path)
        except DataError as error:
            problems = error.problems
        else:
            assert np.isfinite(dataset.boxes).all()
            assert len(dataset.boxes) == len(dataset.segmentations) == len(dataset.segmentations[:])
        assert all("\n" not in str(problem) for problem in problems)


# --- Left out and counted.


LEFT_OUT = {
    "box without width": ({"bbox": [2, 3, 0, 5]}, "box without area", "[2.0, 3.0, 0.0, 5.0]"),
    "box without height": ({"bbox": [2, 3, 4, 0]}, "box without area", "[2.0, 3.0, 4.0, 0.0]"),
    "box of negative width": ({"bbox": [9, 3, -4, 5]}, "box without area", "[9.0, 3.0, -4.0, 5.0]"),
    "box lost in float32": ({"bbox": [1e5, 3, 1e-9, 5]}, "box without area", "[100000.0, 3.0, 1e-09, 5.0]"),
    "box on the left": ({"bbox": [-5, 3, 5, 5]}, "box outside of the image", "[-5.0, 3.0, 5.0, 5.0]"),
    "box above": ({"bbox": [2, -5, 5, 5]}, "box outside of the image", "[2.0, -5.0, 5.0, 5.0]"),
    "box on the right": ({"bbox": [30, 3, 5, 5]}, "box outside of the image", "[30.0, 3.0, 5.0, 5.0]"),
    "box below": ({"bbox": [2, 20, 5, 5]}, "box outside of the image", "[2.0, 20.0, 5.0, 5.0]"),
    "polygon of 2 points": ({"segmentation": [[1, 2, 9, 9]]}, "polygon of under 3 points", "2 points"),
    "polygon of no points": ({"segmentation": [[]]}, "polygon of under 3 points", "0 points"),
    "no polygons": ({"segmentation": []}, "object without a segmentation", "[]"),
    "no rle": ({"segmentation": {}}, "object without a segmentation", "{}"),
    "no segmentation": ({"segmentation": None}, "object without a segmentation", "null"),
}


@pytest.mark.parametrize("kind", LEFT_OUT)
def test_object_that_cannot_be_learned_is_left_out_and_counted(tmp_path, kind):
    changes, reason, received = LEFT_OUT[kind]
    dataset = load(tmp_path, changed(**changes))
    assert dataset.annotation_ids.tolist() == [12]
    assert [dataset.objects(i) for i in range(3)] == [slice(0, 0), slice(0, 1), slice(1, 1)]
    assert dataset.dropped == {reason: 1}
    (drop,) = dataset.drops
    assert (drop.file, drop.where) == (str(tmp_path / "my.json"), "annotation 11 (image 1)")
    assert drop.received == received


def test_short_polygons_of_an_object_are_left_out_and_the_others_stay(tmp_path):
    dataset = load(tmp_path, changed(segmentation=[[1, 2], POLYGON, [1, 2, 9, 9]]))
    assert dataset.annotation_ids.tolist() == [11, 12]
    np.testing.assert_array_equal(dataset.segmentations[0], [POLYGON])
    assert dataset.dropped == {"polygon of under 3 points": 2}


def test_box_that_reaches_over_the_edge_stays_as_annotated(tmp_path):
    dataset = load(tmp_path, changed(bbox=[-4, -2, 100, 5]))
    assert dataset.boxes[0].tolist() == [-4, -2, 96, 3]
    assert not dataset.dropped


# --- What the options and forms mean.


@pytest.mark.parametrize(
    ("crowd", "ids", "flags"),
    [("ignore", [11, 12], [True, False]), ("train", [11, 12], [False, False]), ("drop", [12], [False])],
)
def test_crowd_policies(tmp_path, crowd, ids, flags):
    dataset = load(tmp_path, changed(iscrowd=1, segmentation={"size": list(HW), "counts": [100, 50, 450]}))
    assert dataset.crowd.tolist() == [True, False] and dataset.dropped == {}
    dataset = dataset.under(crowd)
    assert dataset.under(crowd) is dataset
    assert dataset.annotation_ids.tolist() == ids
    assert dataset.crowd.tolist() == flags
    assert dataset.dropped == ({"crowd region": 1} if crowd == "drop" else {})


def test_iscrowd_may_be_absent(tmp_path):
    assert not load(tmp_path, changed(iscrowd=None)).crowd.any()


def test_all_forms_of_rle_become_the_same_compressed_one(tmp_path):
    bitmap = np.zeros(HW, np.uint8, order="F")
    bitmap[3:9, 2:12] = 1
    compressed = coco_mask.encode(bitmap)
    runs = np.diff(np.flatnonzero(np.diff(bitmap.ravel(order="F"), prepend=2, append=2))).tolist()
    for counts in (runs, compressed["counts"].decode()):
        assert load(tmp_path, _rle(counts)).segmentations[0] == compressed


def test_image_info_file_without_annotations(tmp_path):
    dataset = load(tmp_path, _without("annotations"), require_annotations=False)
    assert not dataset.has_annotations
    assert len(dataset) == 3
    assert dataset.object_start.tolist() == [0, 0, 0, 0]
    assert dataset.boxes.shape == (0, 4)
    assert list(dataset.segmentations) == []
    assert load(tmp_path, make_document(), require_annotations=False).has_annotations


def test_reading_leaves_out_what_is_at_fault(tmp_path):
    path, images = write(tmp_path, changed(category_id=8))
    dataset, problems = read_annotations(path, images)
    assert dataset.annotation_ids.tolist() == [12]
    assert len(problems) == 1


# --- Real files.


@pytest.mark.parametrize("name", ["coco_tiny", "coco_train", "nuclei_train"])
def test_real_file_equals_its_json(request, name):
    folder = request.getfixturevalue(name)
    path = folder / "annotations" / "instances.json"
    document = json.loads(path.read_bytes())
    dataset = load_annotations(path, folder / "images")
    assert dataset.dropped == {}
    assert len(dataset) == len(document["images"])
    assert len(dataset.boxes) == len(dataset.segmentations) == len(document["annotations"])
    by_image = defaultdict(list)
    for annotation in document["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    for index, image in enumerate(document["images"]):
        assert dataset.image_ids[index] == image["id"]
        assert dataset.image_hw[index].tolist() == [image["height"], image["width"]]
        rows = dataset.objects(index)
        expected = by_image[image["id"]]
        assert dataset.annotation_ids[rows].tolist() == [annotation["id"] for annotation in expected]
        for row, annotation in zip(range(rows.start, rows.stop), expected, strict=True):
            mask = dataset.segmentations[row]
            x, y, width, height = annotation["bbox"]
            assert dataset.boxes[row].tolist() == pytest.approx([x, y, x + width, y + height], abs=1e-4)
            assert dataset.category_ids[dataset.classes[row]] == annotation["category_id"]
            assert dataset.crowd[row] == annotation["iscrowd"]
            if isinstance(mask, list):
                np.testing.assert_allclose(np.concatenate(mask), np.concatenate(annotation["segmentation"]), atol=1e-4)
            elif isinstance(annotation["segmentation"]["counts"], str):
                assert mask["counts"] == annotation["segmentation"]["counts"].encode()
            else:
                assert coco_mask.area(mask) == sum(annotation["segmentation"]["counts"][1::2])


@pytest.mark.slow
def test_a_hundred_thousand_objects_load_in_seconds(tmp_path):
    document = make_document()
    outline = np.random.default_rng(0).uniform(3, 18, 60).round(2).tolist()
    object_ = {**document["annotations"][0], "segmentation": [outline]}
    document["annotations"] = [{**object_, "id": i, "image_id": 1 + i % 3} for i in range(100_000)]
    path, images = write(tmp_path, document)
    begin = time.process_time()
    assert len(load_annotations(path, images).boxes) == 100_000
    assert time.process_time() - begin < 20  # 3 s on a free core


def test_masks_stay_as_small_as_in_the_file(nuclei_train):
    path = nuclei_train / "annotations" / "instances.json"
    dataset = load_annotations(path, nuclei_train / "images")
    assert len(pickle.dumps(dataset)) < path.stat().st_size


def test_a_process_gets_what_samples_are_made_of_and_nothing_else(coco_tiny, tmp_path):
    """A file of which nearly all is for scoring alone is as small there as one without that."""
    folder = coco_tiny / "annotations" / "instances.json"
    document = json.loads(folder.read_text())
    plain = load_annotations(folder, coco_tiny / "images")
    polygons = next(row for row in document["annotations"] if isinstance(row["segmentation"], list))
    flat = [{**polygons, "id": 10**6 + number, "bbox": [1, 1, 0, 0]} for number in range(5000)]
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({**document, "annotations": document["annotations"] + flat}))
    dataset = load_annotations(path, coco_tiny / "images")
    before = len(pickle.dumps(plain))
    assert len(dataset.left_out) == 5000 and abs(len(pickle.dumps(dataset)) - before) < 500
    assert len(dataset.order.epoch(0, 0)) == len(dataset) and dataset.most_classes and dataset.under("drop")
    assert abs(len(pickle.dumps(dataset)) - before) < 500
    copy = pickle.loads(pickle.dumps(dataset.under("drop")))
    assert copy.file_objects is None and copy.under("drop") is copy
    assert len(pickle.dumps(copy)) < before - sum(
        len(mask["counts"]) for mask in np.array(plain.segmentations[:], object)[plain.crowd]
    )
    kept = np.flatnonzero(~plain.crowd)
    for mask, row in zip(copy.segmentations, kept, strict=True):
        assert repr(mask) == repr(plain.segmentations[row])


def test_what_is_cached_goes_with_the_dataset(tmp_path):
    dataset = load(tmp_path, make_document())
    assert dataset.most_classes == (1, 1) and dataset.order.length() == 3
    for epoch in range(30):
        dataset.order.epoch(0, epoch)
    gone = weakref.ref(dataset)
    del dataset
    gc.collect()
    assert gone() is None


def test_a_faulty_mask_of_an_object_that_is_left_out_is_no_fault_of_the_samples(tmp_path):
    dataset = load(tmp_path, changed(bbox=[2, 3, 0, 5], segmentation=[[1, 2, 3]]))
    assert dataset.dropped == {"box without area": 1}
    assert [problem.where for problem in dataset.file_objects.faults] == ["annotation 11 (image 1), segmentation"]


def test_scoring_alone_needs_neither_names_nor_ids_nor_what_is_not_scored(tmp_path):
    document = make_document()
    for image in document["images"]:
        del image["file_name"]
    for row in document["annotations"]:
        del row["id"], row["bbox"]
    path, _ = write(tmp_path, document)
    dataset, problems = read_annotations(path, needs=("segmentation",))
    assert not problems and not dataset.left_out and len(dataset.boxes) == 2 and dataset.storage is None
    assert len(read_annotations(path)[1]) >= 7
    document["annotations"][0]["segmentation"] = [[1, 2, 3]]
    _, problems = read_annotations(write(tmp_path, document)[0], needs=("segmentation",))
    assert [problem.where for problem in problems] == ["annotations[0] (image 1), segmentation"]
