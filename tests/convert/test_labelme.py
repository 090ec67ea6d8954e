"""labelme: the json that it writes beside each image."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from centermask_keras.convert import labelme
from centermask_keras.errors import DataError
from centermask_keras.masks import rle_to_bitmap


def shape(label, points, kind="polygon", **more):
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, "mask": None, **more}


def write(path, shapes, image="photo.jpg", hw=(48, 64)):
    document = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": image, "imageData": None}
    path.write_text(json.dumps({**document, "imageHeight": hw[0], "imageWidth": hw[1]}))


def png(bitmap):
    file = io.BytesIO()
    Image.fromarray(bitmap.astype(np.uint8) * 255).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_polygons_keep_their_vertices_and_groups_are_one_object(tmp_path, photo, converted):
    folder = tmp_path / "set"
    photo(folder / "photo.jpg")
    photo(folder / "unlabelled.jpg")
    whole = [[10.123456789, 5.5], [30.25, 6.0], [28.0, 40.000001]]
    parts = [[[1, 1], [5, 1], [5, 5]], [[40, 1], [45, 1], [45, 9], [40, 9]]]
    shapes = [
        shape("cat", whole),
        *(shape("dog", part, group_id=3) for part in parts),
        shape("cat", parts[0], group_id=3),
    ]
    write(folder / "photo.json", shapes)
    result, documents = converted(folder)
    document = documents["annotations.json"]
    flat = [np.reshape(part, -1).tolist() for part in (whole, *parts)]
    assert [row["segmentation"] for row in document["annotations"]] == [flat[:1], flat[1:], flat[1:2]]
    assert [row["category_id"] for row in document["annotations"]] == [1, 2, 1]
    assert document["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert document["images"] == [{"id": 1, "file_name": "photo.jpg", "height": 48, "width": 64}]
    assert document["annotations"][1]["bbox"] == [1, 1, 44, 8] and document["annotations"][1]["area"] == 8 + 40
    assert "images without a json are left out: 1" in result.notes


def test_circles_and_masks_keep_their_form_and_what_has_no_area_is_counted(tmp_path, photo, converted):
    folder = tmp_path / "set"
    photo(folder / "photo.jpg")
    ring = np.ones((7, 9), bool)
    ring[2:5, 3:6] = False  # a hole
    shapes = [
        shape("ball", [[30, 20], [40, 20]], "circle"),
        shape("ring", [[50.0, 3.0], [58.0, 9.0]], "mask", mask=png(ring)),
        shape("ball", [[1, 1], [9, 9]], "rectangle"),
        shape("ball", [[1, 1]], "point"),
        shape("ball", [[1, 1], [9, 9], [3, 1]], "linestrip"),
        shape("ball", [[1, 1], [9, 9]]),
    ]
    write(folder / "photo.json", shapes)
    result, documents = converted(folder)
    circle, mask = documents["annotations.json"]["annotations"]
    distances = np.linalg.norm(np.reshape(circle["segmentation"][0], (-1, 2)) - [30, 20], axis=1)
    np.testing.assert_allclose(distances, 10, atol=1e-9)
    assert abs(circle["area"] - 100 * np.pi) < 0.1 * 20 * np.pi  # the outline is nowhere 0.1 px away
    expected = np.zeros((48, 64), bool)
    expected[3:10, 50:59] = ring
    np.testing.assert_array_equal(rle_to_bitmap(mask["segmentation"]), expected)
    assert (mask["bbox"], mask["area"]) == ([50, 3, 9, 7], 54)
    lost = {"boxes without an outline": 1, "points": 1, "lines": 1, "polygons of under 3 points": 1}
    assert result.lost == {str(folder): lost}


def test_faults_name_file_place_expected_and_received(tmp_path, photo):
    folder = tmp_path / "set"
    photo(folder / "photo.jpg")
    good = [[1, 1], [9, 9], [3, 1]]
    shapes = [
        shape("", good),
        shape("cat", [[1, 2, 3]]),
        shape("cat", [[1, float("1e9")]] * 3),
        shape("cat", good, "spline"),
        shape("cat", [[1, 1], [4, 4]], "mask", mask="no base64"),
        shape("cat", [[1, 1], [4, 4]], "mask", mask=png(np.ones((9, 9), bool))),
        7,
    ]
    write(folder / "a.json", shapes)
    write(folder / "b.json", [], image="../../elsewhere.jpg")
    write(folder / "c.json", [], hw=(64, 48))
    problems = [str(problem) for problem in labelme.read(folder).problems]
    assert len(problems) == 9 and all(problem.startswith(str(folder)) for problem in problems)
    for text in ("shapes[0]: ", "shapes[1].points: ", "shapes[2].points: ", "shapes[3].shape_type: ", "shapes[6]: "):
        assert sum(text in problem for problem in problems) == 1, text
    assert sum("shapes[4].mask" in problem or "shapes[5].mask" in problem for problem in problems) == 2
    assert "b.json: imagePath: expected an image below" in problems[-2]
    assert "expected width 64, height 48 as photo.jpg has, received width 48, height 64" in problems[-1]


def test_malformed_files_are_messages(tmp_path):
    (tmp_path / "a.json").write_text('{"shapes": [], "imagePath": "a.jpg"')
    with pytest.raises(DataError, match="a.json: line 1, column"):
        labelme.read(tmp_path)
    (tmp_path / "a.json").write_text('["shapes", "imagePath"]')
    with pytest.raises(DataError, match="expected an object"):
        labelme.read(tmp_path)


def test_images_in_another_folder_are_found_from_the_one_that_holds_both(tmp_path, photo, converted):
    photo(tmp_path / "set" / "images" / "photo.jpg")
    (tmp_path / "set" / "labels").mkdir()
    write(tmp_path / "set" / "labels" / "photo.json", [shape("cat", [[1, 1], [9, 9], [3, 1]])], "..\\images\\photo.jpg")
    _, documents = converted(tmp_path / "set")
    assert documents["annotations.json"]["images"][0]["file_name"] == "photo.jpg"
    assert len(labelme.read(tmp_path / "set" / "labels").problems) == 1
