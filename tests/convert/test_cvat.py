"""CVAT's xml 1.1 for images."""

import numpy as np
import pytest

from centermask_keras.convert import cvat
from centermask_keras.errors import DataError
from centermask_keras.masks import rle_to_bitmap

HEAD = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><name>t</name><labels>
<label><name>car</name></label><label><name>sign</name></label><label><name>bus</name></label></labels></task></meta>
"""


def write(folder, shapes, image='name="photo.jpg" width="64" height="48"'):
    folder.mkdir(exist_ok=True)
    text = f'{HEAD}<image id="0" {image}>{shapes}</image></annotations>'
    (folder / "annotations.xml").write_text(text)


def test_shapes_keep_their_form(tmp_path, photo, converted):
    photo(tmp_path / "set" / "images" / "photo.jpg")
    write(
        tmp_path / "set",
        """
        <polygon label="car" source="manual" points="10.50,5.25;30.00,6.00;28.12,40.99" z_order="0"></polygon>
        <polygon label="car" points="1,1;5,1;5,5" group_id="2"/>
        <polygon label="car" points="40,1;45,1;45,9" group_id="2"/>
        <ellipse label="sign" cx="30" cy="20" rx="12" ry="5" rotation="90"/>
        <box label="sign" xtl="10" ytl="20" xbr="20" ybr="24" rotation="90.00"/>
        <mask label="car" rle="1, 2, 1, 1, 2, 1, 1, 2, 1" left="50" top="30" width="4" height="3"/>
        <box label="car" xtl="1" ytl="2" xbr="3" ybr="4"/><points label="car" points="1,2"/>
        <polyline label="car" points="1,2;3,4"/>
        """,
    )
    result, documents = converted(tmp_path / "set")
    rows = documents["annotations.json"]["annotations"]
    assert rows[0]["segmentation"] == [[10.5, 5.25, 30, 6, 28.12, 40.99]]
    assert rows[1]["segmentation"] == [[1, 1, 5, 1, 5, 5], [40, 1, 45, 1, 45, 9]]
    np.testing.assert_allclose(rows[2]["bbox"], [25, 8, 10, 24], atol=0.1)
    np.testing.assert_allclose(rows[3]["segmentation"], [[17, 17, 17, 27, 13, 27, 13, 17]], atol=1e-9)
    expected = np.zeros((48, 64), bool)
    expected[30:33, 50:54] = [[0, 1, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0]]
    np.testing.assert_array_equal(rle_to_bitmap(rows[4]["segmentation"]), expected)
    assert result.lost[str(tmp_path / "set")] == {"boxes without an outline": 1, "points": 1, "lines": 1}
    assert result.left_out == ["bus"] and result.classes == {"car": 3, "sign": 2}


@pytest.mark.parametrize(
    "shape",
    [
        '<polygon label="car" points="1,2;3;4,5"/>',
        '<polygon label="car" points="1,2;3,x;4,5"/>',
        '<polygon label="car" points="1,2;3,nan;4,5"/>',
        '<polygon points="1,2;3,4;4,5"/>',
        '<ellipse label="car" cx="1" cy="2"/>',
        '<box label="car" xtl="1" ytl="2" xbr="3" ybr="inf" rotation="3"/>',
        '<mask label="car" rle="1,2" left="0" top="0" width="2" height="2"/>',
        '<mask label="car" rle="99999999999" left="0" top="0" width="99999" height="999999"/>',
        '<mask label="car" left="0" top="0" width="1" height="1"/>',
    ],
)
def test_malformed_shapes_name_their_image(tmp_path, photo, shape):
    photo(tmp_path / "photo.jpg")
    write(tmp_path, shape)
    (problem,) = cvat.read(tmp_path).problems
    assert "photo.jpg" in problem.where and "image[0]" in problem.where


def test_a_document_type_is_refused_and_so_is_what_is_no_xml(tmp_path):
    bomb = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotations><image name="&b;"/></annotations>'
    for text, message in ((bomb, "no document type"), ("<annotations><image>", "annotations.xml: line 1, column")):
        (tmp_path / "annotations.xml").write_text(text)
        with pytest.raises(DataError, match=message):
            cvat.read(tmp_path)


def test_tracks_of_a_video_are_refused_with_what_to_export(tmp_path):
    (tmp_path / "annotations.xml").write_text(f'{HEAD}<track id="0" label="car"/></annotations>')
    assert cvat.recognises(tmp_path) and "CVAT for images 1.1" in str(cvat.read(tmp_path).problems[0])


def test_subsets_are_parts(tmp_path, photo, converted):
    photo(tmp_path / "set" / "photo.jpg")
    write(tmp_path / "set", '<polygon label="car" points="1,1;5,1;5,5"/>', 'name="photo.jpg" subset="Validation"')
    assert set(converted(tmp_path / "set")[1]) == {"val.json"}
