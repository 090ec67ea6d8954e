"""Lists of the json become columns: ids resolved, order defined, nothing repeated in the list of faults."""

import numpy as np

from centermask_keras.data.files.coco_columns import learned_columns, read_categories, read_images, read_objects
from centermask_keras.data.files.coco_json import Faults

POLYGON = [[1, 1, 8, 1, 8, 8]]


def image(image_id: int, **changes) -> dict:
    return {"id": image_id, "file_name": f"{image_id}.png", "height": 10, "width": 20, **changes}


def annotation(annotation_id: int, image_id: int, category_id: int = 4) -> dict:
    box = [annotation_id, 1, 7, 7]
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": box,
        "area": 49,
        "segmentation": POLYGON,
    }


def read(document: dict) -> tuple[dict, list[str]]:
    faults = Faults("a.json")
    category_ids, _ = read_categories(document["categories"], faults)
    images = read_images(document["images"], category_ids, faults)
    objects, _ = read_objects(document["annotations"], images, category_ids, faults)
    return learned_columns(objects, len(images.ids)), [problem.where for problem in faults.problems]


def test_classes_follow_category_ids_whatever_the_order_in_the_file():
    categories = [{"id": 90, "name": "z"}, {"id": -3, "name": "m"}, {"id": 7, "name": "a"}]
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        faults = Faults("a.json")
        ids, names = read_categories([categories[i] for i in order], faults)
        assert (ids.tolist(), names, faults.problems) == ([-3, 7, 90], ["m", "a", "z"], [])


def test_images_stay_in_file_order():
    faults = Faults("a.json")
    images = read_images([image(9), image(2, height=5), image(4)], np.array([4]), faults)
    assert images.ids.tolist() == [9, 2, 4]
    assert images.file_names == ["9.png", "2.png", "4.png"]
    assert images.hw.dtype == np.int32
    assert images.hw.tolist() == [[10, 20], [5, 20], [10, 20]]


def test_objects_are_grouped_by_image_and_stay_in_file_order():
    document = {
        "categories": [{"id": 4, "name": "a"}, {"id": 2, "name": "b"}],
        "images": [image(9), image(2), image(4)],
        "annotations": [annotation(5, 4), annotation(1, 9, 2), annotation(6, 4, 2), annotation(3, 9), annotation(2, 4)],
    }
    columns, faults = read(document)
    assert not faults
    assert columns["annotation_ids"].tolist() == [1, 3, 5, 6, 2]
    assert columns["object_start"].tolist() == [0, 2, 2, 5]
    assert columns["classes"].tolist() == [0, 1, 1, 0, 1]
    np.testing.assert_array_equal(columns["boxes"], [[i, 1, i + 7, 8] for i in (1, 3, 5, 6, 2)])


def test_objects_of_an_image_at_fault_are_no_fault_of_their_own():
    document = {
        "categories": [{"id": 4, "name": ""}],
        "images": [image(1, height=None), image(2)],
        "annotations": [annotation(1, 1), annotation(2, 2)],
    }
    columns, faults = read(document)
    assert faults == ["categories[0].name (id 4)", "images[0].height (id 1)"]
    assert columns["annotation_ids"].tolist() == [2]
