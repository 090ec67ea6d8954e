"""What the scorers get to see of annotations and results: the form of the rows, and what is left out."""

import json
from pathlib import Path

import numpy as np
import pytest

from centermask_keras.data.files.annotations import load_annotations, read_annotations
from centermask_keras.errors import CenterMaskError, DataError
from centermask_keras.evaluation.coco import evaluate_coco, evaluate_coco_on_lvis
from centermask_keras.evaluation.scoring_inputs import read_ground_truth, read_results
from centermask_keras.masks import rle_to_bitmap, segmentation_to_rle

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


@pytest.mark.parametrize("iou_type", ["segm", "bbox", "boundary"])
@pytest.mark.parametrize("policy", ["ignore", "train", "drop"])
def test_a_dataset_is_the_ground_truth_of_its_file_whatever_samples_leave_out(coco_tiny, tmp_path, iou_type, policy):
    document = json.loads((coco_tiny / "annotations" / "instances.json").read_text())
    for number, row in enumerate(document["annotations"]):
        changes = {1: {"bbox": [5, 5, 0, 4]}, 2: {"segmentation": []}, 3: {"iscrowd": 1}}
        row.update(changes.get(number % 9, {}))
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(document))
    dataset = load_annotations(path, coco_tiny / "images").under(policy)
    assert len(dataset.boxes) < len(document["annotations"])
    truth = read_ground_truth(dataset, iou_type)
    assert truth == read_ground_truth(path, iou_type)
    with_mask = [row for row in document["annotations"] if row["segmentation"] or iou_type == "bbox"]
    assert len(truth.objects) == len(with_mask)
    assert sorted(row["area"] for row in truth.objects) == sorted(row["area"] for row in with_mask)
    assert sum(row["iscrowd"] for row in truth.objects) == sum(row["iscrowd"] for row in with_mask)
    if iou_type == "bbox":
        assert sorted(row["bbox"] for row in truth.objects) == sorted(row["bbox"] for row in with_mask)


def test_masks_are_those_of_the_digits_in_the_file(tmp_path):
    """In single precision this outline has other pixels."""
    outline = [35.8, 16.3, 4.2, 2.9, 45.1, 50.4, 34.2, 40.7]
    truth = read_ground_truth(write(tmp_path / "truth.json", [make_object(1, segmentation=[outline])]), "segm")
    expected = segmentation_to_rle([outline], (60, 80))
    assert truth.objects[0]["segmentation"] == expected != segmentation_to_rle([np.float32(outline)], (60, 80))


def test_what_only_scoring_reads_stops_only_scoring(tmp_path):
    flat = make_object(1, bbox=[5, 5, 0, 4], segmentation=[[1, 2, 3]])
    images = [{"id": 4, "height": 60, "width": 80, "file_name": "4.png"}]
    path = write(tmp_path / "truth.json", [flat, make_object(2)], images=images)
    dataset, problems = read_annotations(path, tmp_path)
    assert not problems and len(dataset.boxes) == 1
    for source in (dataset, path):
        with pytest.raises(DataError, match=r"annotation 1 \(image 4\), segmentation: expected a polygon with an even"):
            read_ground_truth(source, "segm")
    assert len(read_ground_truth(path, "bbox").objects) == 2
