"""VIA 2: projects and exported annotations."""

import json

import numpy as np
import pytest

from centermask_keras.convert import via

SQUARE = {"name": "polygon", "all_points_x": [3, 20.5, 20, 3], "all_points_y": [4, 4, 30.25, 30]}


def region(shape, name="fruit", key="class"):
    return {"shape_attributes": shape, "region_attributes": {key: name} if name else {}}


def entries(regions, name="photo.jpg"):
    return {f"{name}123": {"filename": name, "size": 123, "regions": regions, "file_attributes": {}}}


def write(path, document):
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("form", ["project", "export", "version 1"])
def test_shapes_keep_their_form(tmp_path, photo, converted, form):
    photo(tmp_path / "set" / "photo.jpg")
    regions = [
        region(SQUARE),
        region({"name": "circle", "cx": 30, "cy": 20, "r": 8}, {"fruit": True, "leaf": False}),
        region({"name": "ellipse", "cx": 30, "cy": 20, "rx": 12, "ry": 5, "theta": np.pi / 2}, "leaf"),
        region({"name": "rect", "x": 1, "y": 2, "width": 3, "height": 4}),
        region({"name": "point", "cx": 1, "cy": 2}),
        region({"name": "polyline", "all_points_x": [1, 2], "all_points_y": [1, 2]}),
        region(SQUARE, None),
    ]
    document = entries({str(index): entry for index, entry in enumerate(regions)} if form == "version 1" else regions)
    if form == "project":
        document = {"_via_settings": {}, "_via_img_metadata": document, "_via_attributes": {}}
    result, documents = converted(write(tmp_path / "set" / "via.json", document))
    rows = documents["annotations.json"]["annotations"]
    assert rows[0]["segmentation"] == [[3, 4, 20.5, 4, 20, 30.25, 3, 30]]
    assert [row["category_id"] for row in rows] == [1, 1, 2]
    np.testing.assert_allclose(rows[1]["bbox"], [22, 12, 16, 16], atol=0.1)
    np.testing.assert_allclose(rows[2]["bbox"], [25, 8, 10, 24], atol=0.1)
    lost = {"boxes without an outline": 1, "points": 1, "lines": 1, "outlines without the attribute 'class'": 1}
    assert result.lost[str(tmp_path / "set" / "via.json")] == lost


def test_without_attributes_all_are_one_class_and_among_several_the_class_is_named(tmp_path, photo):
    photo(tmp_path / "photo.jpg")
    write(tmp_path / "via.json", entries([region(SQUARE, None)]))
    assert via.read(tmp_path).images[0].objects[0].name == "object"
    both = {"shape_attributes": SQUARE, "region_attributes": {"colour": "red", "Label": "plum"}}
    write(tmp_path / "via.json", entries([both]))
    source = via.read(tmp_path)
    assert source.images[0].objects[0].name == "plum" and "'Label'" in source.notes[0]


@pytest.mark.parametrize(
    ("document", "place"),
    [
        (entries([region({**SQUARE, "all_points_y": [1, 2]})]), "shape_attributes"),
        (entries([region({**SQUARE, "all_points_y": [1, 2, 3, "4"]})]), "shape_attributes"),
        (entries([region({"name": "circle", "cx": 1})]), "shape_attributes"),
        (entries([region({"name": "star"})]), "shape_attributes"),
        (entries([{"region_attributes": {}}]), "regions[0]"),
        (entries(3), "regions"),
        (entries([], name="../photo2.jpg"), "filename"),
        ({"a": 3, "filename": "regions"}, '["a"]'),
    ],
)
def test_faults_name_the_place(tmp_path, photo, document, place):
    photo(tmp_path / "photo.jpg")
    write(tmp_path / "via.json", document)
    assert place in via.read(tmp_path).problems[0].where
