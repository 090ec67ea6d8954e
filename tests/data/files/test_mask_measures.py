"""`bbox` and `area` that follow from the mask are computed, not demanded."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from centermask_keras.data.files.annotations import read_annotations
from centermask_keras.data.files.mask_measures import add_measures

HW = (60, 80)
SQUARE = [[10.5, 20, 30, 20, 30, 40.5, 10.5, 40.5]]
PARTS = [[1, 1, 5, 1, 5, 5], [50, 30, 70, 30, 70, 50, 50, 50]]


def read(folder, *annotations):
    document = {
        "images": [{"id": 3, "file_name": "3.png", "height": HW[0], "width": HW[1]}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"id": i + 1, "image_id": 3, "category_id": 1, **row} for i, row in enumerate(annotations)],
    }
    (folder / "a.json").write_text(json.dumps(document))
    return read_annotations(folder / "a.json")


def as_rle() -> dict:
    pixels = np.zeros(HW, np.uint8, order="F")
    pixels[5:15, 10:40] = 1
    rle = coco_mask.encode(pixels)
    return {"size": list(HW), "counts": rle["counts"].decode()}


@pytest.mark.parametrize(
    ("segmentation", "box", "area"),
    [
        (SQUARE, [10.5, 20, 30, 40.5], None),
        (PARTS, [1, 1, 70, 50], None),
        (as_rle(), [10, 5, 40, 15], 300),
        ({"size": list(HW), "counts": [0, 60, 60 * 79]}, [0, 0, 1, 60], 60),
    ],
    ids=["polygon", "two parts", "compressed RLE", "runs"],
)
@pytest.mark.parametrize("absent", [{}, {"bbox": None, "area": None}], ids=["absent", "null"])
def test_what_follows_from_the_mask_is_computed(tmp_path, segmentation, box, area, absent):
    annotations, problems = read(tmp_path, {"segmentation": segmentation, **absent})
    assert problems == [] and annotations.boxes.tolist() == [box]
    if area is None:
        area = coco_mask.area(coco_mask.merge(coco_mask.frPyObjects(segmentation, *HW)))
    assert annotations.file_objects.areas.tolist() == [area]


def test_what_stands_there_is_kept(tmp_path):
    annotations, problems = read(
        tmp_path, {"segmentation": SQUARE, "bbox": [1, 2, 3, 4]}, {"segmentation": SQUARE, "area": 7}
    )
    assert problems == []
    assert annotations.boxes[0].tolist() == [1, 2, 4, 6] and annotations.file_objects.areas[1] == 7


@pytest.mark.parametrize(
    "row", [{}, {"segmentation": []}, {"segmentation": [[1, 2, "x", 4, 5, 6]]}, {"segmentation": 3}]
)
def test_without_a_sound_mask_they_are_demanded(tmp_path, row):
    _, problems = read(tmp_path, row)
    assert any(problem.where == "annotations[0].bbox (id 1)" for problem in problems)


def test_a_wrong_value_is_no_absent_one(tmp_path):
    _, problems = read(tmp_path, {"segmentation": SQUARE, "bbox": [1, 2], "area": 1})
    assert [problem.where for problem in problems] == ["annotations[0].bbox (id 1)"]


def test_other_records_are_left_to_their_own_faults():
    records = [3, {"segmentation": SQUARE, "image_id": 9}, {"segmentation": SQUARE, "image_id": "3"}]
    assert add_measures(records, np.array([3]), np.array([HW])) == records
