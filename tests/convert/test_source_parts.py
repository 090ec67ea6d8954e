"""The pieces that the readers share: opening files, points, groups, parts, and what is written."""

import json

import numpy as np
import pytest
from PIL import Image

from centermask_keras.convert.open_files import load_xml, read_mask_values
from centermask_keras.convert.source import (
    SourceImage,
    SourceObject,
    find_part,
    flatten_points,
    join_groups,
    numbers_of,
)
from centermask_keras.convert.write_coco import write_document
from centermask_keras.errors import DataError, ImageError
from centermask_keras.masks import encode_crop, rle_to_bitmap

SQUARE = [2.0, 2.0, 6.0, 2.0, 6.0, 6.0, 2.0, 6.0]


@pytest.mark.parametrize(
    ("names", "part"),
    [
        (("valid", "images"), "val"),
        (("annotations", "instances_train2017.json"), "train"),
        (("Validation",), "val"),
        (("test",), "test"),
        (("trainer", "latest"), None),
        ((), None),
    ],
)
def test_parts_are_told_by_whole_words(names, part):
    assert find_part(*names) == part


@pytest.mark.parametrize(
    "points", [None, 3, [3], [[1]], [[1, "2"]], [[1, True]], [[1, float("nan")]], [[1, 1e7]], [{}]]
)
def test_what_is_no_list_of_points_is_none(points):
    assert flatten_points(points) is None
    assert flatten_points([]) == [] and flatten_points([[1, 2.5]]) == [1, 2.5]


@pytest.mark.parametrize("value", [None, True, "wide", "nan", "1e9", [], "9" * 400])
def test_what_is_no_number_of_pixels_is_none(value):
    assert numbers_of({"x": value}, "x") is None and numbers_of({}, "x") is None
    assert numbers_of({"x": "2.5", "y": 3}, "x", "y") == [2.5, 3]


def test_groups_of_masks_and_polygons_become_one_mask():
    mask = encode_crop(np.ones((3, 3), bool), (10, 12), (20, 20))
    rows = [
        (1, SourceObject("a", [SQUARE])),
        (1, SourceObject("a", mask)),
        (1, SourceObject("b", [SQUARE])),
        (None, SourceObject("a", mask)),
    ]
    joined, other, alone = join_groups(rows, (20, 20))
    expected = np.zeros((20, 20), bool)
    expected[2:6, 2:6], expected[10:13, 12:15] = True, True
    np.testing.assert_array_equal(rle_to_bitmap(joined.segmentation), expected)
    assert other.segmentation == [SQUARE] and alone.segmentation == mask


def test_a_written_document_has_ids_from_1_boxes_areas_and_crowds(tmp_path):
    mask = encode_crop(np.ones((3, 4), bool), (10, 12), (20, 30))
    objects = [SourceObject("b", [SQUARE, [10.5, 1, 12.5, 1, 12.5, 3]]), SourceObject("a", mask, crowd=True)]
    images = [SourceImage(tmp_path / "x.jpg", (20, 30), objects, known=frozenset("ac"), name="x.jpg")]
    assert write_document(tmp_path / "a.json", images, ["a", "b", "c"]) == (2, 1)
    document = json.loads((tmp_path / "a.json").read_text())
    first, second = document["annotations"]
    assert (first["id"], first["category_id"], first["bbox"], first["area"]) == (1, 2, [2, 1, 10.5, 5], 18)
    assert (second["iscrowd"], second["bbox"], second["area"]) == (1, [12, 10, 4, 3], 12)
    image = document["images"][0]
    assert (image["neg_category_ids"], image["not_exhaustive_category_ids"]) == ([3], [2])


def test_pngs_of_numbers_are_read_as_they_are(tmp_path):
    path, values = tmp_path / "a.png", np.arange(12, dtype=np.uint8).reshape(3, 4)
    for mode in ("L", "P", "LA", "RGB", "RGBA"):
        image = Image.fromarray(values)
        if mode == "P":
            image.putpalette([255 - value % 256 for value in range(768)])
        else:
            image = image.convert(mode)
        image.save(path)
        np.testing.assert_array_equal(read_mask_values(path, (3, 4)), values, err_msg=mode)
    Image.fromarray(values.astype(np.uint16) * 5000).save(path)
    np.testing.assert_array_equal(read_mask_values(path, None), values.astype(int) * 5000)
    Image.fromarray(values > 5).save(path)
    np.testing.assert_array_equal(read_mask_values(path, None), values > 5)
    path.write_bytes(path.read_bytes()[:45])
    with pytest.raises(ImageError, match="expected a PNG of numbers"):
        read_mask_values(path, None)


def test_xml_of_an_unknown_encoding_is_a_message(tmp_path):
    path = tmp_path / "a.xml"
    for text in ('<?xml version="1.0" encoding="nonsense"?><a/>', "", "\0"):
        path.write_text(text)
        with pytest.raises(DataError, match="a.xml"):
            load_xml(path)
    path.write_text("<a>" * 100_000)
    with pytest.raises(DataError, match="a.xml"):
        load_xml(path)
