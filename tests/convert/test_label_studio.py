"""Label Studio's json, after the examples of its pages."""

import json

import numpy as np
import pytest

from centermask_keras.convert import label_studio
from centermask_keras.convert.label_studio import unpack_rle
from centermask_keras.masks import rle_to_bitmap

SIZE = {"original_width": 64, "original_height": 48, "image_rotation": 0}


def result(kind, names, **value):
    return {"id": "x", "from_name": "tag", "to_name": "image", "type": kind, **SIZE, "value": {kind: names, **value}}


def task(*results, image="/data/upload/1/0a1b2c3d-photo.jpg"):
    return {"id": 1, "data": {"image": image}, "annotations": [{"id": 1, "was_cancelled": False, "result": [*results]}]}


def write(path, *tasks):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tasks))
    return path


def pack_rle(values, sizes=(2, 4, 8, 12)):
    """Pack bytes as `rle-pack` describes it, by the plainest way: repeats as blocks, others one by one."""
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
    place = 0
    while place < len(values):
        same = 1
        while place + same < len(values) and values[place + same] == values[place] and same < 2 ** sizes[-1]:
            same += 1
        index = next(index for index, size in enumerate(sizes) if same <= 2**size)
        bits += f"{int(same > 1)}{index:02b}{same - 1:0{sizes[index]}b}{values[place]:08b}"
        place += same
    bits += "0" * (-len(bits) % 8)
    return [int(bits[start : start + 8], 2) for start in range(0, len(bits), 8)]


def test_shapes_keep_their_form(tmp_path, photo, converted):
    photo(tmp_path / "set" / "photo.jpg")  # without the prefix of the upload
    path = write(
        tmp_path / "set" / "project-1.json",
        task(
            result("polygonlabels", ["cat"], points=[[10, 10], [50.5, 10], [50, 90.25]], closed=True),
            result("ellipselabels", ["dog"], x=50, y=50, radiusX=20, radiusY=10, rotation=0),
            result("rectanglelabels", ["dog"], x=50, y=50, width=10, height=25, rotation=90),
            result("rectanglelabels", ["dog"], x=50, y=50, width=10, height=25, rotation=0),
            result("keypointlabels", ["dog"], x=50, y=50, width=1),
            {"type": "choices", "value": {"choices": ["good"]}},
        ),
    )
    done, documents = converted(path)
    rows = documents["annotations.json"]["annotations"]
    np.testing.assert_allclose(rows[0]["segmentation"], [[6.4, 4.8, 32.32, 4.8, 32, 43.32]], atol=1e-9)
    np.testing.assert_allclose(rows[1]["bbox"], [32 - 12.8, 24 - 4.8, 25.6, 9.6], atol=0.1)
    np.testing.assert_allclose(rows[2]["segmentation"], [[32, 24, 32, 30.4, 20, 30.4, 20, 24]], atol=1e-9)
    assert done.lost[str(path)] == {"boxes without an outline": 1, "points": 1, "choices": 1}


@pytest.mark.parametrize("seed", range(3))
def test_brushes_are_pixel_for_pixel(tmp_path, photo, converted, seed):
    photo(tmp_path / "set" / "photo.jpg")
    mask = np.zeros((48, 64), bool)
    mask[10:30, 5:40], mask[15:20, 10:20] = True, False
    mask |= np.random.default_rng(seed).random((48, 64)) > 0.98
    rgba = np.zeros((48, 64, 4), np.uint8)
    rgba[mask] = (10, 20, 30, 255)
    packed = pack_rle(rgba.reshape(-1).tolist())
    np.testing.assert_array_equal(unpack_rle(packed, rgba.size), rgba.reshape(-1))
    path = write(tmp_path / "set" / "a.json", task(result("brushlabels", ["cat"], format="rle", rle=packed)))
    _, documents = converted(path)
    (row,) = documents["annotations.json"]["annotations"]
    np.testing.assert_array_equal(rle_to_bitmap(row["segmentation"]), mask)


def test_malformed_brushes_are_refused():
    packed = pack_rle([0] * 40 + [255] * 8)
    assert unpack_rle(packed, 48) is not None
    for wrong in (packed[:-1], packed[:3], [], None, "a", [300], [-1], [[1]], packed[:4] + [255] * 40):
        assert unpack_rle(wrong, 48) is None
    assert unpack_rle(packed, 49) is None


def test_the_short_export_and_addresses(tmp_path, photo, converted):
    photo(tmp_path / "set" / "in" / "photo 1.jpg")
    entry = {"points": [[10, 10], [50, 10], [50, 90]], "polygonlabels": ["cat"], **SIZE}
    row = {"image": "/data/local-files/?d=in/photo%201.jpg", "id": 3, "tag": [entry]}
    result, _ = converted(write(tmp_path / "set" / "min.json", row))
    assert result.classes == {"cat": 1}


def test_cancelled_annotations_and_second_opinions_are_left_out(tmp_path, photo):
    photo(tmp_path / "photo.jpg")
    cat = result("polygonlabels", ["cat"], points=[[10, 10], [50, 10], [50, 90]])
    one = task(cat)
    one["annotations"] = [
        {"was_cancelled": True, "result": [cat, cat, cat]},
        {"result": [cat]},
        {"ground_truth": True, "result": [cat, cat]},
    ]
    write(tmp_path / "a.json", one)
    source = label_studio.read(tmp_path)
    assert len(source.images[0].objects) == 2 and source.lost["annotations of a task beside its first"] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        result("polygonlabels", ["cat"], points=[[1, 2, 3]]),
        result("ellipselabels", ["cat"], x=1, radiusX="wide"),
        result("brushlabels", ["cat"], rle=[1, 2, 3]),
        {**result("polygonlabels", ["cat"], points=[[1, 2], [3, 4], [5, 9]]), "original_width": 65},
        {"type": "polygonlabels"},
        7,
    ],
)
def test_faults_name_task_and_result(tmp_path, photo, wrong):
    photo(tmp_path / "photo.jpg")
    cat = result("polygonlabels", ["cat"], points=[[10, 10], [50, 10], [50, 90]])
    write(tmp_path / "a.json", task(cat, wrong))
    (problem,) = label_studio.read(tmp_path).problems
    assert problem.where.startswith("[0].result[1]")
