"""LVIS files: how they are recognised, where their images are, which classes of an image are known."""

import json
import pickle

import lvis_case
import numpy as np
import pytest
from PIL import Image

from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.data.files.lvis_json import (
    ABSENT,
    PARTIAL,
    ClassLists,
    find_known_classes,
    has_class_lists,
    is_lvis,
    name_files,
)
from centermask_keras.errors import DataError
from centermask_keras.evaluation.data_check import check_dataset


def read_document(folder):
    return json.loads((folder / "annotations" / "instances.json").read_text())


def without_crowds(document):
    return {**document, "annotations": [row for row in document["annotations"] if not row["iscrowd"]]}


def test_a_frequency_makes_a_file_with_lists_of_classes_lvis():
    listed, plain = [5, {"id": 1, ABSENT: []}], [{"id": 1, "file_name": "a.jpg"}, 5]
    frequent, named = [{"id": 1, "name": "cup", "frequency": "r"}, 5], [{"id": 1, "name": "cup"}]
    assert not has_class_lists(plain)
    assert has_class_lists(listed) and has_class_lists([{"id": 1, PARTIAL: [3]}])
    assert is_lvis({"images": listed, "categories": frequent})
    assert not is_lvis({"images": listed, "categories": named})
    assert not is_lvis({"images": plain, "categories": frequent})


def test_images_are_found_under_coco_2017():
    names = [
        {"coco_url": "http://images.cocodataset.org/train2017/000000391895.jpg"},  # version 1.0
        {"file_name": "COCO_val2014_000000266409.jpg", "coco_url": "http://x/val2017/000000266409.jpg"},  # 0.5
        {"file_name": "photos/1.jpg", "coco_url": "http://x/val2017/000000266409.jpg"},
        {"coco_url": "nowhere"},
        5,
    ]
    named = name_files(names, lvis=True)
    assert [row.get("file_name") for row in named[:4]] == [
        "train2017/000000391895.jpg", "000000266409.jpg", "photos/1.jpg", None
    ]  # fmt: skip
    assert named[4] == 5 and "file_name" not in names[0]


def test_known_classes_are_absent_or_wholly_annotated():
    ids = np.array([3, 5, 8, 9])
    known = find_known_classes(
        ClassLists([[9], [], [3, 5]], [[5], [], [3]]), ids, np.array([0, 3, 4, 4]), np.array([0, 1, 1, 2], np.int32)
    )
    assert [classes.tolist() for classes in known] == [[0, 3], [2], [1]]
    assert {classes.dtype for classes in known} == {np.dtype(np.int32)}


@pytest.mark.parametrize(("version", "below"), [("1.0", ""), ("0.5", "images")])
def test_real_photos_load_as_from_coco(coco_tiny, tmp_path, version, below):
    document = without_crowds(read_document(coco_tiny))
    for name, content in (("coco", document), ("lvis", lvis_case.as_lvis(document, version=version))):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    coco = load_annotations(tmp_path / "coco.json", coco_tiny / "images")
    lvis = load_annotations(tmp_path / "lvis.json", coco_tiny / below)
    assert coco.known_classes is None
    for key in ("image_ids", "image_hw", "category_ids", "object_start", "boxes", "classes", "crowd", "annotation_ids"):
        np.testing.assert_array_equal(getattr(lvis, key), getattr(coco, key), err_msg=key)
    assert [lvis.image_file(i).resolve() for i in range(16)] == [coco.image_file(i).resolve() for i in range(16)]
    assert lvis.class_names == coco.class_names and not lvis.crowd.any()
    for index, image in enumerate(json.loads((tmp_path / "lvis.json").read_text())["images"]):
        known = {int(lvis.category_ids[c]) for c in lvis.known_classes[index]}
        present = {int(lvis.category_ids[c]) for c in lvis.classes[lvis.objects(index)]}
        assert known == (present | set(image["neg_category_ids"])) - set(image["not_exhaustive_category_ids"])
    assert not check_dataset(tmp_path / "lvis.json", coco_tiny / below, out=tmp_path / "check").problems


def test_faults_name_the_place(coco_tiny, tmp_path):
    document = lvis_case.as_lvis(without_crowds(read_document(coco_tiny)))
    document["images"][2]["neg_category_ids"] = [1, 4711]
    del document["images"][5]["not_exhaustive_category_ids"], document["images"][5]["coco_url"]
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps(document))
    with pytest.raises(DataError) as caught:
        load_annotations(path, coco_tiny)
    ids = [document["images"][index]["id"] for index in (5, 2)]
    category_list = "a list of ids of categories in this file"
    assert [(p.where, p.expected, p.received) for p in caught.value.problems] == [
        (f"images[5].file_name (id {ids[0]})", "a path relative to the images folder", "nothing"),
        (f"images[2].neg_category_ids (id {ids[1]})", category_list, "[1, 4711]"),
        (f"images[5].not_exhaustive_category_ids (id {ids[0]})", category_list, "nothing"),
    ]


def test_a_category_without_frequency_is_found_before_training(tmp_path):
    document = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 5, "width": 6, ABSENT: [], PARTIAL: []}],
        "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "cat", "frequency": "c"}],
        "annotations": [],
    }
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"categories\[0\].frequency.*expected r, c or f"):
        load_annotations(path, tmp_path)


def as_partial(document):
    """Return an LVIS document as one of partial labels: the lists alone."""
    keys = ("id", "name")
    return {**document, "categories": [{key: row[key] for key in keys} for row in document["categories"]]}


def test_lists_alone_are_partial_labels_and_change_nothing_else(coco_tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("centermask_keras.data.order.REPEAT_THRESHOLD", 0.5)
    lvis = lvis_case.as_lvis(without_crowds(read_document(coco_tiny)))
    for name, content in (("lvis", lvis), ("partial", as_partial(lvis))):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    one, other = (load_annotations(tmp_path / f"{name}.json", coco_tiny) for name in ("lvis", "partial"))
    for here, there in zip(one.known_classes, other.known_classes, strict=True):
        np.testing.assert_array_equal(here, there)
    assert one.lvis is not None and other.lvis is None
    assert one.order.length() > len(one) and other.order.length() == len(other) == 16
    there = pickle.loads(pickle.dumps(other))
    assert there.order.length() == 16 and pickle.loads(pickle.dumps(one)).order.length() == one.order.length()


def test_names_of_partial_labels_stay_and_the_second_list_may_be_missing(tmp_path):
    name = "COCO_val2014_000000266409.jpg"
    Image.new("RGB", (6, 5)).save(tmp_path / name)
    images = [{"id": 1, "file_name": name, "height": 5, "width": 6, ABSENT: [2]}]
    document = {"images": images, "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "cat"}], "annotations": []}
    path = tmp_path / "partial.json"
    path.write_text(json.dumps(document))
    loaded = load_annotations(path, tmp_path)
    assert loaded.file_names == [name] and loaded.known_classes[0].tolist() == [1]
