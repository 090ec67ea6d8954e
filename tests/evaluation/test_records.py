"""What the scorers get to see of annotations and results: the form of the rows, and what is left out."""

import json
from pathlib import Path

import numpy as np
import pytest

from centermask_keras.errors import CenterMaskError, DataError
from centermask_keras.evaluation.coco import evaluate_coco, evaluate_coco_on_lvis
from centermask_keras.evaluation.records import read_ground_truth, read_results
from centermask_keras.masks import rle_to_bitmap

SQUARE = [[10, 10, 30, 10, 30, 30, 10, 30]]


def make_object(number, **values):
    row = {"id": number, "image_id": 4, "category_id": 2, "bbox": [10, 10, 20, 20], "area": 400, "segmentation": SQUARE}
    return row | values


def write(path: Path, objects, **document) -> Path:
    document = {
        "images": [{"id": 4, "height": 60, "width": 80}],
        "categories": [{"id": 7, "name": "cat"}, {"id": 2, "name": "cup"}],
        "annotations": objects,
    } | document
    path.write_text(json.dumps(document))
    return path


def test_rows_are_numbered_anew_and_hold_what_is_compared(tmp_path):
    path = write(tmp_path / "truth.json", [make_object(0), make_object(9, segmentation=[]), make_object(3, iscrowd=1)])
    truth = read_ground_truth(path, "segm")
    assert truth.image_hw == {4: (60, 80)}
    assert list(truth.class_names.items()) == [(2, "cup"), (7, "cat")]
    assert [row["id"] for row in truth.objects] == [1, 2]
    assert [row["iscrowd"] for row in truth.objects] == [0, 1]
    assert rle_to_bitmap(truth.objects[0]["segmentation"]).sum() == 400
    boxes = read_ground_truth(path, "bbox").objects
    assert [row["bbox"] for row in boxes] == [[10, 10, 20, 20]] * 3 and "segmentation" not in boxes[0]


def test_area_of_a_result_is_that_of_what_is_compared(tmp_path):
    truth = read_ground_truth(write(tmp_path / "truth.json", [make_object(1)]), "segm")
    result = {"image_id": 4, "category_id": 7, "score": 0.25, "segmentation": SQUARE, "bbox": [0, 0, 2, 3]}
    before = json.dumps(result)
    (row,) = read_results([result], truth, "segm")
    assert (row["area"], row["score"], row["iscrowd"], row["id"]) == (400, 0.25, 0, 1)
    (row,) = read_results([result], truth, "boundary")
    assert row["area"] == 400 and isinstance(row["segmentation"]["counts"], bytes)
    (row,) = read_results([result], truth, "bbox")
    assert row["area"] == 6
    assert json.dumps(result) == before


def test_faults_name_the_file_and_the_place(tmp_path):
    path = write(tmp_path / "truth.json", [make_object(1, category_id=5), make_object(2, area="big")])
    with pytest.raises(DataError) as caught:
        read_ground_truth(path, "bbox")
    places = [problem.where for problem in caught.value.problems]
    assert places == ["annotations[1].area (id 2)", "annotation 1 (image 4)"]
    truth = read_ground_truth(write(path, []), "bbox")
    with pytest.raises(DataError, match=r"results\[0\].score: expected a finite number, received NaN"):
        read_results([{"image_id": 4, "category_id": 2, "bbox": [0, 0, 1, 1], "score": np.nan}], truth, "bbox")


def test_federation_is_read_and_its_faults_are_named(tmp_path):
    lists = {"neg_category_ids": [7], "not_exhaustive_category_ids": [2]}
    categories = [
        {"id": 7, "name": "cat", "synset": "cat.n.01", "frequency": "c"},
        {"id": 2, "name": "cup", "synset": "cup.n.01", "frequency": "f"},
    ]
    images = [{"id": 4, "height": 60, "width": 80, **lists}]
    path = write(tmp_path / "lvis.json", [make_object(1)], images=images, categories=categories)
    federation = read_ground_truth(path, "segm").federation
    assert federation.absent == {4: {7}} and federation.partial == {4: {2}}
    assert federation.frequencies == {7: "common", 2: "frequent"} and federation.synsets[2] == "cup.n.01"
    assert read_ground_truth(write(tmp_path / "coco.json", []), "segm").federation is None

    images = [{**images[0], "neg_category_ids": [7, 9]}, {"id": 5, "height": 6, "width": 8, "neg_category_ids": []}]
    categories = [{**categories[0], "frequency": "x"}, {"id": 2, "name": "cup", "frequency": "f"}]
    with pytest.raises(DataError) as caught:
        read_ground_truth(write(path, [], images=images, categories=categories), "segm")
    ids = "a list of ids of categories in this file"
    assert [(p.where, p.expected, p.received) for p in caught.value.problems] == [
        ("images[0].neg_category_ids (id 4)", ids, "[7, 9]"),
        ("images[1].not_exhaustive_category_ids (id 5)", ids, "nothing"),
        ("categories[0].frequency (id 7)", "r, c or f", '"x"'),
    ]


def test_lvis_files_without_synsets_are_scored_but_not_on_classes_of_coco(tmp_path):
    lists = {"neg_category_ids": [7], "not_exhaustive_category_ids": [2]}
    categories = [{"id": 7, "name": "cat", "frequency": "c"}, {"id": 2, "name": "cup", "frequency": "f"}]
    images = [{"id": 4, "height": 60, "width": 80, **lists}]
    path = write(tmp_path / "lvis.json", [make_object(1)], images=images, categories=categories)
    assert evaluate_coco(path, [], iou_type="bbox")["box_ap"] == 0
    with pytest.raises(CenterMaskError, match="expected a synset in each"):
        evaluate_coco_on_lvis(path, [], iou_type="bbox")
