"""COCO json as tools export it: names, places, and what they leave out."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from centermask_keras.convert import coco
from centermask_keras.convert.convert import convert
from centermask_keras.errors import CenterMaskError, DataError
from centermask_keras.masks import rle_to_bitmap, rle_to_json

TRIANGLE = [10.25, 5.5, 30.0, 6.0, 28.0, 40.125]


def document(names, *annotations, categories=("cat", "dog"), first_id=1):
    images = [{"id": index, "file_name": name, "height": 48, "width": 64} for index, name in enumerate(names)]
    rows = [{"id": index, "iscrowd": 0, **row} for index, row in enumerate(annotations)]
    listed = [{"id": index, "name": name} for index, name in enumerate(categories, first_id)]
    return {"images": images, "annotations": rows, "categories": listed}


def outline(image=0, category=1, mask=(TRIANGLE,), **more):
    return {"image_id": image, "category_id": category, "segmentation": mask, **more}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


LAYOUTS = {
    "Roboflow": ("train/_annotations.coco.json", "train/photo.jpg", "photo.jpg"),
    "CVAT": ("annotations/instances_default.json", "images/default/photo.jpg", "photo.jpg"),
    "Label Studio": ("result.json", "images/1f2a-photo.jpg", "images\\1f2a-photo.jpg"),
    "Label Studio, local files": ("result.json", "images/1f2a-photo.jpg", "/data/upload/3/1f2a-photo.jpg"),
    "FiftyOne": ("labels.json", "data/photo.jpg", "photo.jpg"),
    "COCO": ("annotations/instances_train2017.json", "train2017/photo.jpg", "photo.jpg"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_tools(tmp_path, photo, converted, layout):
    annotations, image, name = LAYOUTS[layout]
    folder = tmp_path / "set"
    photo(folder / image)
    # As the tools have them: ids from 0, no area, no bbox, no iscrowd.
    content = document([name], outline(category=1), categories=("whole", "cat"), first_id=0)
    del content["annotations"][0]["iscrowd"]
    write(folder / annotations, content)
    result, documents = converted(folder)
    (name,) = documents
    assert name == ("train.json" if layout in ("Roboflow", "COCO") else "annotations.json")
    (row,) = documents[name]["annotations"]
    assert row["segmentation"] == [TRIANGLE] and row["bbox"] == [10.25, 5.5, 19.75, 34.625]
    assert documents[name]["categories"] == [{"id": 1, "name": "cat"}] and result.left_out == ["whole"]
    assert (tmp_path / "converted" / "images" / documents[name]["images"][0]["file_name"]).is_file()


def test_masks_with_holes_and_several_parts_stay_pixel_for_pixel(tmp_path, photo, converted):
    photo(tmp_path / "set" / "photo.jpg")
    bitmap = np.zeros((48, 64), bool)
    bitmap[5:20, 5:20], bitmap[10:14, 9:13], bitmap[30:40, 50:64] = True, False, True
    compressed = rle_to_json(coco_mask.encode(np.asfortranarray(bitmap.astype(np.uint8))))
    changes = np.flatnonzero(np.diff(np.concatenate([[0], bitmap.T.reshape(-1), [0]])))
    runs = np.diff([0, *changes.tolist(), bitmap.size]).tolist()
    masks = [compressed, {"size": [48, 64], "counts": runs}, [TRIANGLE, [1, 1, 4, 1, 4, 4]]]
    rows = [outline(mask=mask) for mask in masks] + [outline(mask=compressed, iscrowd=1)]
    write(tmp_path / "set" / "a.json", document(["photo.jpg"], *rows))
    result, documents = converted(tmp_path / "set" / "a.json")
    received = documents["annotations.json"]["annotations"]
    for row in (received[0], received[1], received[3]):
        np.testing.assert_array_equal(rle_to_bitmap(row["segmentation"]), bitmap)
        assert row["area"] == bitmap.sum() and row["bbox"] == [5, 5, 59, 35]
    assert received[2]["segmentation"] == masks[2]
    assert [row["iscrowd"] for row in received] == [0, 0, 0, 1] and result.crowds == 1


def test_boxes_are_counted_or_refused(tmp_path, photo, converted):
    photo(tmp_path / "set" / "photo.jpg")
    boxes = [outline(mask=[], bbox=[1, 2, 3, 4]), outline(mask=None, bbox=[1, 2, 3, 4])]
    path = write(tmp_path / "set" / "a.json", document(["photo.jpg"], outline(), *boxes))
    assert converted(path)[0].lost == {str(path): {"boxes without an outline": 2}}
    write(path, document(["photo.jpg"], *boxes))
    with pytest.raises(CenterMaskError, match=r"expected outlines or masks, received 2 boxes only \(COCO json\)"):
        convert([path], tmp_path / "other")


def test_of_cocos_folder_only_the_instances_are_read(tmp_path, photo, converted):
    photo(tmp_path / "set" / "val2017" / "photo.jpg")
    write(tmp_path / "set" / "annotations" / "instances_val2017.json", document(["photo.jpg"], outline()))
    write(tmp_path / "set" / "annotations" / "person_keypoints_val2017.json", document(["photo.jpg"], outline()))
    assert converted(tmp_path / "set")[0].files == {"val.json": (1, 1)}


def test_faults_name_the_place(tmp_path, photo):
    photo(tmp_path / "photo.jpg")
    rows = [
        outline(category=9),
        outline(image=9),
        outline(mask=[[1, 2, 3]]),
        outline(mask={"size": [48, 64], "counts": [5]}),
        outline(mask=[[1, 2, 3, 4, 5, 1e9]]),
        outline(iscrowd="yes"),
    ]
    write(tmp_path / "a.json", document(["photo.jpg"], *rows))
    places = [problem.where for problem in coco.read(tmp_path).problems]
    assert sorted(places) == [
        "annotations[0].category_id (id 0)",
        "annotations[1].image_id (id 1)",
        "annotations[2].segmentation (id 2)",
        "annotations[3].segmentation (id 3)",
        "annotations[4].segmentation (id 4)",
        "annotations[5].iscrowd (id 5)",
    ]


def test_faults_of_images_are_not_repeated_by_their_objects(tmp_path, photo):
    photo(tmp_path / "photo.jpg", 40, 64)
    write(tmp_path / "a.json", document(["photo.jpg", "gone.jpg"], outline(), outline(image=1)))
    first, second = coco.read(tmp_path).problems
    assert "expected width 64, height 40 as photo.jpg has, received width 64, height 48" in str(first)
    assert "images[1].file_name" in second.where and "which is not there" in second.received


def test_malformed_json_is_a_message(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"images": [], "annotations": [], "categories": [')
    assert coco.recognises(path)
    with pytest.raises(DataError, match="line 1, column"):
        coco.read(path)


def test_lists_of_classes_of_images_stay(tmp_path, photo, converted):
    photo(tmp_path / "set" / "a.jpg"), photo(tmp_path / "set" / "b.jpg")
    content = document(["a.jpg", "b.jpg"], outline(), outline(image=1, category=2))
    content["images"][0] |= {"neg_category_ids": [2], "not_exhaustive_category_ids": []}
    content["images"][1] |= {"neg_category_ids": [], "not_exhaustive_category_ids": [2]}
    path = write(tmp_path / "set" / "x.json", content)
    _, documents = converted(path)
    images = documents["annotations.json"]["images"]
    assert [(row["neg_category_ids"], row["not_exhaustive_category_ids"]) for row in images] == [([2], []), ([], [2])]
