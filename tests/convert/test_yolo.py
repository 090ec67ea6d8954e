"""YOLO segmentation: data.yaml, bare folders, and what is refused."""

import pytest

from centermask_keras.convert import yolo
from centermask_keras.convert.convert import convert
from centermask_keras.errors import CenterMaskError, DataError

TRIANGLE = "0 0.681 0.485 0.670 0.487 0.676 0.487"
FIVE = "1 0.504 0.000 0.501 0.004 0.498 0.004 0.493 0.010 0.492 0.0104"


def label(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))


def make(folder, photo, parts=("train", "valid")):
    """The layout that Roboflow exports: the paths of its yaml lead one folder too high."""
    for part in parts:
        photo(folder / part / "images" / f"{part}.jpg", 480, 640)
        label(folder / part / "labels" / f"{part}.txt", TRIANGLE, "", FIVE)
    photo(folder / parts[0] / "images" / "background.jpg")
    lines = [f"{'val' if part == 'valid' else part}: ../{part}/images" for part in parts]
    label(folder / "data.yaml", *lines, "test: ../test/images", "", "nc: 3", "names: ['a', 'b', 'never']")
    return folder


def test_a_yaml_gives_parts_names_and_exact_vertices(tmp_path, photo, converted):
    result, documents = converted(make(tmp_path / "set", photo))
    assert list(documents) == ["train.json", "val.json"]
    train, val = documents.values()
    first, second = val["annotations"]
    assert first["segmentation"] == [[0.681 * 640, 0.485 * 480, 0.670 * 640, 0.487 * 480, 0.676 * 640, 0.487 * 480]]
    assert len(second["segmentation"][0]) == 10 and second["category_id"] == 2
    assert [row["file_name"] for row in train["images"]] == ["train/images/background.jpg", "train/images/train.jpg"]
    assert {row["image_id"] for row in train["annotations"]} == {2}
    assert result.left_out == ["never"] and any("test names" in note for note in result.notes)
    assert (tmp_path / "converted" / "images" / "valid" / "images" / "valid.jpg").is_file()


def test_merge_gives_one_file(tmp_path, photo, converted):
    _, documents = converted(make(tmp_path / "set", photo), merge=True)
    assert list(documents) == ["annotations.json"] and len(documents["annotations.json"]["images"]) == 3


@pytest.mark.parametrize("names", ["names:\n  0: a\n  1: b\n", "names:\n- a\n- b\n", "names: [a,\n  b]\n"])
def test_names_and_lists_of_images_in_every_form(tmp_path, photo, names):
    photo(tmp_path / "images" / "x" / "one.jpg")
    label(tmp_path / "labels" / "x" / "one.txt", FIVE)
    label(tmp_path / "list.txt", "./images/x/one.jpg")
    (tmp_path / "data.yaml").write_text(f"path: /content/elsewhere\ntrain: [list.txt]\nval:\n{names}")
    source = yolo.read(tmp_path / "data.yaml")
    assert not source.problems and source.images[0].objects[0].name == "b" and source.images[0].part == "train"


@pytest.mark.parametrize("layout", ["part/images", "images/part", "beside"])
def test_bare_folders(tmp_path, photo, converted, layout):
    places = {
        "part/images": ("train/images", "train/labels"),
        "images/part": ("images/train", "labels/train"),
        "beside": ("train", "train"),
    }[layout]
    photo(tmp_path / "set" / places[0] / "one.jpg")
    label(tmp_path / "set" / places[1] / "one.txt", FIVE)
    label(tmp_path / "set" / "classes.txt", "first", "second")
    result, documents = converted(tmp_path / "set")
    assert result.classes == {"second": 1} and list(documents) == ["train.json"]


def test_a_yaml_of_names_alone_goes_with_the_folders(tmp_path, photo, converted):
    folder = make(tmp_path / "set", photo)
    (folder / "data.yaml").write_text("nc: 2\nnames: [a, b]\n")
    result, documents = converted(folder)
    assert result.classes == {"a": 2, "b": 2} and list(documents) == ["train.json", "val.json"]


def test_without_names_classes_are_called_by_their_numbers(tmp_path, photo):
    photo(tmp_path / "one.jpg")
    label(tmp_path / "one.txt", FIVE)
    source = yolo.read(tmp_path)
    assert source.images[0].objects[0].name == "1" and "called by their numbers" in source.notes[0]


def test_boxes_only_are_refused_in_one_line_and_single_boxes_are_counted(tmp_path, photo, converted):
    folder = make(tmp_path / "set", photo, ("train",))
    label(folder / "train" / "labels" / "background.txt", "0 0.5 0.5 0.2 0.2")
    assert converted(folder)[0].lost == {str(folder): {"boxes without an outline": 1}}
    label(folder / "train" / "labels" / "train.txt", "0 0.5 0.5 0.2 0.2")
    with pytest.raises(CenterMaskError, match=r"received 2 boxes only \(YOLO segmentation\)") as caught:
        convert([folder], tmp_path / "other")
    assert "\n" not in str(caught.value) and not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("line", "received"),
    [
        ("a 0.1 0.2", "a 0.1 0.2"),
        ("7 0.1 0.1 0.2 0.2 0.3 0.1", "7"),
        ("0 0.1 0.1 0.2 0.2 0.3", "5 numbers"),
        ("0 0.1 0.1", "2 numbers"),
        ("0 0.1 0.1 0.2 nan 0.3 0.1", "0 0.1 0.1 0.2 nan 0.3 0.1"),
        ("0 0.1 0.1 0.2 1e9 0.3 0.1", "0 0.1 0.1 0.2 1e9 0.3 0.1"),
    ],
)
def test_faults_name_file_and_line(tmp_path, photo, line, received):
    folder = make(tmp_path / "set", photo, ("train",))
    label(folder / "train" / "labels" / "train.txt", TRIANGLE, line)
    (problem,) = yolo.read(folder).problems
    assert (problem.file, problem.where, problem.received) == (
        str(folder / "train" / "labels" / "train.txt"), "line 2", received
    )  # fmt: skip


def test_a_malformed_yaml_is_a_message(tmp_path):
    for text, message in (("names: [a\ntrain: x", "data.yaml: line 2"), ("- names", "expected a mapping")):
        (tmp_path / "data.yaml").write_text(text)
        with pytest.raises(DataError, match=message):
            yolo.read(tmp_path)
    (tmp_path / "data.yaml").write_text("names: 3\ntrain: ../../..\n")
    assert any(problem.where == "names" for problem in yolo.read(tmp_path).problems)
