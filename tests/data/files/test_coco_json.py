"""The form of a COCO json: every fault is named with its place, sound rows are kept."""

import json

import numpy as np
import pytest

from centermask_keras.data.files.coco_json import (
    Faults,
    Table,
    check_lists,
    is_area,
    is_box,
    is_flag,
    is_id,
    is_side,
    quote,
    read_json,
)
from centermask_keras.errors import DataError


def read(tmp_path, content: str | bytes) -> dict:
    path = tmp_path / "a.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_json(path)


@pytest.mark.parametrize(
    ("content", "where", "received"),
    [
        ("", "line 1, column 1", "Expecting value"),
        ('{"images": [\n1,,]}', "line 2, column 3", "Expecting value"),
        ('{"images": [1, 2', "line 1, column 17", "Expecting ',' delimiter"),
        (b'{"a": "\xff"}', "", "'utf-8' codec can't decode byte 0xff"),
        ("[" * 100_000, "", "maximum recursion depth"),
        ("[" + "9" * 5000 + "]", "", "Exceeds the limit"),
        ("[1, 2]", "", "[1, 2]"),
    ],
    ids=["empty", "comma", "cut", "encoding", "deep", "digits", "list"],
)
def test_unreadable_json(tmp_path, content, where, received):
    with pytest.raises(DataError) as caught:
        read(tmp_path, content)
    (problem,) = caught.value.problems
    assert problem.file == str(tmp_path / "a.json")
    assert problem.where == where
    assert problem.received.startswith(received)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match="expected a json file, received No such file or directory"):
        read_json(tmp_path / "none.json")
    with pytest.raises(DataError, match="Is a directory"):
        read_json(tmp_path)


def test_byte_order_mark_is_accepted(tmp_path):
    assert read(tmp_path, b'\xef\xbb\xbf{"images": []}') == {"images": []}


def test_every_nan_is_listed_with_its_path(tmp_path):
    with pytest.raises(DataError) as caught:
        read(tmp_path, '{"info": {"x": -Infinity}, "annotations": [{"bbox": [1, NaN, 2, Infinity]}, {"area": NaN}]}')
    assert [(problem.where, problem.received) for problem in caught.value.problems] == [
        ("info.x", "-Infinity"),
        ("annotations[0].bbox[1]", "NaN"),
        ("annotations[0].bbox[3]", "Infinity"),
        ("annotations[1].area", "NaN"),
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"images": NaN, "images": [], "annotations": []}', [("images", "NaN")]),
        ('{"a": [{"b": NaN}], "a": 1, "c": Infinity}', [("a[0].b", "NaN"), ("c", "Infinity")]),
        ('{"a": -Infinity, "a": NaN}', [("a", "-Infinity"), ("a", "NaN")]),
        ("NaN", [("top level", "NaN")]),
    ],
)
def test_nan_under_a_repeated_key_is_found(tmp_path, content, expected):
    with pytest.raises(DataError) as caught:
        read(tmp_path, content)
    assert [(problem.where, problem.received) for problem in caught.value.problems] == expected


def test_nan_is_listed_with_the_id_of_its_object(tmp_path):
    with pytest.raises(DataError) as caught:
        read(tmp_path, '{"a": [{"bbox": [1, NaN], "id": 5, "more": {"x": NaN}}, {"id": NaN, "y": NaN}]}')
    assert [problem.where for problem in caught.value.problems] == [
        "a[0].bbox[1] (id 5)",
        "a[0].more.x (id 5)",
        "a[1].id",
        "a[1].y",
    ]


def test_of_a_repeated_key_the_last_value_counts(tmp_path):
    assert read(tmp_path, '{"images": 1, "images": []}') == {"images": []}


def test_nan_in_a_file_that_is_no_json_is_one_fault(tmp_path):
    with pytest.raises(DataError, match="line 1, column 11"):
        read(tmp_path, '{"a": NaN ')
    for depth in (10, 700, 1500, 50_000):  # some are too deep to be searched, or even to be read
        with pytest.raises(DataError) as caught:
            read(tmp_path, "[" * depth + "NaN" + "]" * depth)
        assert len(caught.value.problems) == 1


def table(records: list) -> tuple[Table, Faults]:
    faults = Faults("a.json")
    return Table(records, "images", faults), faults


@pytest.mark.parametrize(
    ("images", "expected", "received"),
    [
        (None, "a list of objects", "null"),
        ({}, "a list of objects", "{}"),
        ([], "at least one entry", "none"),
    ],
)
def test_list_that_is_none(images, expected, received):
    faults = Faults("a.json")
    check_lists({"images": images, "categories": [{}], "annotations": []}, faults, require_annotations=True)
    assert [str(problem) for problem in faults.problems] == [
        f"a.json: images: expected {expected}, received {received}"
    ]


def test_every_missing_list_is_named():
    for require_annotations, names in (
        (True, ["images", "categories", "annotations"]),
        (False, ["images", "categories"]),
    ):
        faults = Faults("a.json")
        check_lists({}, faults, require_annotations=require_annotations)
        assert [(problem.where, problem.received) for problem in faults.problems] == [
            (name, "nothing") for name in names
        ]


def test_column_notes_faults_and_keeps_the_other_rows():
    rows, faults = table([{"height": 4}, {"height": "4", "id": 8}, 7, {}, {"height": 5}])
    assert rows.column("height", is_side, "a positive integer", instead=0) == [4, 0, 0, 0, 5]
    assert rows.keep.tolist() == [True, False, False, False, True]
    assert [str(problem) for problem in faults.problems] == [
        "a.json: images[2]: expected an object, received 7",
        'a.json: images[1].height (id 8): expected a positive integer, received "4"',
        "a.json: images[3].height: expected a positive integer, received nothing",
    ]


def test_an_empty_object_lacks_its_keys():
    rows, faults = table([{}])
    rows.ids()
    assert [problem.where for problem in faults.problems] == ["images[0].id"]


def test_column_with_a_default():
    rows, faults = table([{"iscrowd": 1}, {"id": 3}])
    assert rows.column("iscrowd", is_flag, "0 or 1", default=0) == [1, 0]
    assert not faults.problems


def test_repeated_ids_are_named_once_and_the_first_row_is_kept():
    rows, faults = table([{"id": 3}, {"id": 8}, {"id": 3}, {"id": 3}, {"id": -1}, {"id": "x"}])
    assert rows.ids().tolist() == [3, 8, 3, 3, -1, -1]
    assert rows.keep.tolist() == [True, True, False, False, True, False]
    assert [str(problem) for problem in faults.problems] == [
        'a.json: images[5].id: expected an integer, received "x"',
        "a.json: images: expected one entry with id 3, received 3 entries",
    ]


@pytest.mark.parametrize(
    ("accepts", "good", "bad"),
    [
        (is_id, [0, -5, 2**63 - 1], [True, 1.0, "1", None, 2**63]),
        (is_side, [1, 70_000], [0, -1, 4.0, "4", True, 2**31]),
        (
            is_box,
            [[0, 0, 1, 1], [-1.5, 2, 0, 3]],
            [[1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 3, "4"], [1, 2, 3, 1e999], None, {}],
        ),
        (is_area, [0, 3.5, 1e12], [-1, 1e999, True, "3", None]),
        (is_flag, [0, 1, True, False], [2, -1, 1.0, "1", None]),
    ],
)
def test_forms(accepts, good, bad):
    assert all(accepts(value) for value in good)
    assert not any(accepts(value) for value in bad)


def test_quoted_values_are_short():
    assert quote(None) == "null"
    assert quote([1, "ü"]) == json.dumps([1, "ü"])
    assert len(quote(np.arange(1000).tolist())) < 70
