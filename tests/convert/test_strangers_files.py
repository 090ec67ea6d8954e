"""Files that strangers wrote: whatever stands at any place of them, reading ends in objects or in a message."""

import copy
import json
from collections.abc import Iterator

import pytest

from centermask_keras.convert.formats import FORMATS, recognise
from centermask_keras.errors import CenterMaskError

ODD = (None, True, -1, 3.5, 1e300, 10**40, "", "x", "../../a.jpg", "\0", "0", [], [[]], [None], {}, {"x": 1}, [1, 2, 3])
POINTS = [[1, 1], [9.5, 9], [3, 1]]
FLAT = [1, 1, 9.5, 9, 3, 1]
SIZE = {"original_width": 64, "original_height": 48, "image_rotation": 0}

DOCUMENTS = {
    "coco": {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 48, "width": 64, "neg_category_ids": [1]}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [1, 1, 2, 2], "segmentation": [FLAT]},
            {"id": 2, "image_id": 1, "category_id": 1, "segmentation": {"size": [48, 64], "counts": [5, 3067]}},
        ],
        "categories": [{"id": 1, "name": "cat", "frequency": "r"}],
    },
    "labelme": {
        "shapes": [
            {"label": "cat", "points": POINTS, "shape_type": "polygon", "group_id": 1},
            {"label": "cat", "points": POINTS, "shape_type": None, "group_id": 1},
            {"label": "cat", "points": POINTS[:2], "shape_type": "circle"},
            {"label": "cat", "points": POINTS[:2], "shape_type": "mask", "mask": "aGVsbG8="},
        ],
        "imagePath": "a.jpg",
        "imageHeight": 48,
        "imageWidth": 64,
    },
    "via": {
        "_via_img_metadata": {
            "a": {
                "filename": "a.jpg",
                "regions": [
                    {
                        "shape_attributes": {"name": "polygon", "all_points_x": [1, 9, 3], "all_points_y": [1, 9, 1]},
                        "region_attributes": {"class": "cat", "colour": {"red": True}},
                    },
                    {"shape_attributes": {"name": "ellipse", "cx": 9, "cy": 9, "rx": 3, "ry": 4, "theta": 1}},
                ],
            }
        }
    },
    "label_studio": [
        {
            "data": {"image": "a.jpg"},
            "annotations": [
                {
                    "was_cancelled": False,
                    "result": [
                        {**SIZE, "value": {"points": POINTS, "polygonlabels": ["cat"]}},
                        {**SIZE, "value": {"x": 9, "y": 9, "radiusX": 3, "radiusY": 4, "ellipselabels": ["cat"]}},
                        {**SIZE, "value": {"x": 9, "y": 9, "width": 3, "height": 4, "rotation": 5, "labels": ["cat"]}},
                        {**SIZE, "value": {"rle": [0, 0, 0, 1, 2], "brushlabels": ["cat"]}},
                        {**SIZE, "type": "choices", "value": {"choices": ["good"]}},
                    ],
                }
            ],
        }
    ],
}


def changed(value) -> Iterator[object]:
    """Yield the value with each of its places in turn replaced by each odd value, or taken away."""
    yield from ODD
    for key in value if type(value) is dict else range(len(value)) if type(value) is list else ():
        for odd in changed(value[key]):
            yield copy.copy(value) | {key: odd} if type(value) is dict else [*value[:key], odd, *value[key + 1 :]]
        if type(value) is dict:
            yield {other: entry for other, entry in value.items() if other != key}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_json_with_an_odd_value_at_any_place(tmp_path, photo, name):
    photo(tmp_path / "a.jpg")
    path, tried = tmp_path / "a.json", 0
    path.write_text(json.dumps(DOCUMENTS[name]))
    assert recognise(path) == name
    for document in changed(DOCUMENTS[name]):
        path.write_text(json.dumps(document))
        tried += 1
        try:
            source = FORMATS[name].read(path)
            assert all(str(problem) for problem in source.problems)
        except CenterMaskError as error:
            assert str(path) in str(error)
    assert tried > 400


TEXTS = {
    "cvat": (
        "a.xml",
        "<annotations><meta><task><labels><label><name>car</name></label></labels></task></meta>"
        '<image id="0" name="a.jpg" width="64" height="48" subset="train">'
        '<polygon label="car" points="1,1;5,1;5,5" group_id="1"/>'
        '<mask label="car" rle="1,3" left="1" top="1" width="2" height="2"/>'
        '<ellipse label="car" cx="3" cy="3" rx="2" ry="1" rotation="5"/>'
        '<box label="car" xtl="1" ytl="1" xbr="3" ybr="4" rotation="5"/></image></annotations>',
    ),
    "yolo": ("data.yaml", "path: .\ntrain: images\nval: [images]\nnames: {0: cat, 1: dog}\n"),
    "yolo lines": ("labels/a.txt", "0 0.1 0.1 0.2 0.2 0.3 0.1\n1 0.5 0.5 0.1 0.1\n"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_with_a_character_more_less_or_changed(tmp_path, photo, name):
    photo(tmp_path / "images" / "a.jpg")
    (tmp_path / "labels").mkdir()
    for file, text in TEXTS.values():
        (tmp_path / file).write_text(text)
    file, text = TEXTS[name]
    form = FORMATS[name.split()[0]]
    assert form.recognises(tmp_path)
    for place in range(len(text)):
        for new in ("", "-", "9", "\0", '"', "[", "&x;", "é", "e999"):
            (tmp_path / file).write_text(text[:place] + new + text[place + 1 :], encoding="utf-8")
            try:
                form.recognises(tmp_path)
                form.read(tmp_path)
            except CenterMaskError as error:
                assert str(tmp_path) in str(error)


def test_bytes_that_are_no_text(tmp_path, photo):
    photo(tmp_path / "images" / "a.jpg")
    for file in ("a.json", "a.xml", "data.yaml", "labels/a.txt", "classes.txt", "labelmap.txt"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        words = b'names "images" "annotations" "categories" "shapes" "imagePath" <annotations <image '
        (tmp_path / file).write_bytes(words + bytes(range(256)))
    for form in FORMATS.values():
        try:
            if form.recognises(tmp_path):
                form.read(tmp_path)
        except CenterMaskError as error:
            assert str(tmp_path) in str(error)
