"""Several sources into one set: classes, partial labels, parts, links and copies, what is refused."""

import json
import os

import pytest

from centermask_keras.cli import main
from centermask_keras.cli.data_convert import data_convert_command
from centermask_keras.convert.convert import convert, parse_classes, place_image
from centermask_keras.convert.formats import FORMATS, recognise
from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.errors import CenterMaskError, DataError

TRIANGLE = [[1, 1], [9, 9], [3, 1]]


@pytest.fixture
def labelled(tmp_path, photo):
    """Make a folder of labelme files: name of the image -> classes of its objects."""

    def make(name, **images):
        folder = tmp_path / name
        for image, classes in images.items():
            photo(folder / f"{image}.jpg")
            shapes = [{"label": label, "points": TRIANGLE, "shape_type": "polygon"} for label in classes]
            document = {"shapes": shapes, "imagePath": f"{image}.jpg", "imageData": None}
            (folder / f"{image}.json").write_text(json.dumps(document))
        return folder

    return make


def lists(document):
    return [(row["neg_category_ids"], row["not_exhaustive_category_ids"]) for row in document["images"]]


def test_classes_that_a_source_lacks_are_unknown_in_its_images(tmp_path, labelled, converted):
    sources = labelled("one", a=["circle"], b=[]), labelled("two", a=["square", "circle"], c=["square"])
    result, documents = converted(*sources)
    document = documents["annotations.json"]
    assert [row["file_name"] for row in document["images"]] == ["a.jpg", "b.jpg", "2/a.jpg", "c.jpg"]
    assert document["categories"] == [{"id": 1, "name": "circle"}, {"id": 2, "name": "square"}]
    assert lists(document) == [([], []), ([1], []), ([], []), ([1], [])] and result.partial
    loaded = load_annotations(tmp_path / "converted" / "annotations.json", tmp_path / "converted" / "images")
    assert [known.tolist() for known in loaded.known_classes] == [[0], [0], [0, 1], [0, 1]]


def test_sources_of_the_same_classes_are_no_partial_labels(labelled, converted):
    result, documents = converted(labelled("one", a=["cat"]), labelled("two", b=["cat"]))
    assert not result.partial and "neg_category_ids" not in documents["annotations.json"]["images"][0]


def test_a_merged_class_is_known_where_a_source_has_either(labelled, converted):
    sources = labelled("one", a=["car", "dog"]), labelled("two", b=["van"])
    result, documents = converted(*sources, classes=parse_classes("car,van=car"))
    assert result.classes == {"car": 2} and not result.partial and result.left_out == ["dog"]
    assert len(documents["annotations.json"]["annotations"]) == 2


def test_the_order_of_classes_does_not_depend_on_which_image_comes_first(labelled, converted):
    assert list(converted(labelled("one", a=["dog", "cat"], b=["ant"]))[0].classes) == ["ant", "cat", "dog"]


@pytest.mark.parametrize("text", ["", "a,", "a=", "=a", "a,a", "a=b,a"])
def test_malformed_choices_of_classes_are_refused(text):
    with pytest.raises(CenterMaskError, match="--classes: expected names as in a,b=a"):
        parse_classes(text)


def test_what_is_refused_leaves_nothing_behind(tmp_path, labelled):
    folder, out = labelled("one", a=["cat"]), tmp_path / "out"
    empty = labelled("two", a=[])
    cases = [
        ([folder], {"classes": {"dog": "dog"}}, r"expected classes of the sources \(cat\), received dog"),
        ([tmp_path / "gone"], {}, "no such file or folder"),
        ([empty], {}, "expected objects, received none"),
    ]
    for sources, options, message in cases:
        with pytest.raises(CenterMaskError, match=message):
            convert(sources, out, **options)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="one of COCO json, labelme"):
        convert([tmp_path / "nothing"], out)
    (folder / "b.json").write_text('{"shapes": 3, "imagePath": "a.jpg"}')
    with pytest.raises(DataError, match="shapes"):
        convert([folder], out)
    assert not out.exists() and not list(tmp_path.glob("partial*"))


def test_the_folder_has_to_be_new_and_outside_of_the_sources(tmp_path, labelled):
    folder = labelled("one", a=["cat"])
    with pytest.raises(CenterMaskError, match="expected a folder outside of"):
        convert([folder], folder / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(CenterMaskError, match="expected a new or an empty folder"):
        convert([folder], tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_images_are_hard_links_or_copies_and_never_symbolic_links(tmp_path, labelled, monkeypatch):
    folder = labelled("one", a=["cat"])
    os.replace(folder / "a.jpg", tmp_path / "cached.jpg")
    (folder / "a.jpg").symlink_to(tmp_path / "cached.jpg")
    target = tmp_path / "linked" / "images" / "a.jpg"
    assert convert([folder], tmp_path / "linked").linked == 1
    assert not target.is_symlink() and target.samefile(tmp_path / "cached.jpg")
    assert convert([folder], tmp_path / "copied", copy=True).linked == 0
    copied = tmp_path / "copied" / "images" / "a.jpg"
    assert not copied.is_symlink() and not copied.samefile(target) and copied.read_bytes() == target.read_bytes()

    def refuse(*paths):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert not place_image(folder / "a.jpg", tmp_path / "x" / "b.jpg", copy=False)
    assert (tmp_path / "x" / "b.jpg").read_bytes() == target.read_bytes()


def test_every_format_leaves_paths_alone_that_are_none(tmp_path, photo):
    photo(tmp_path / "photos" / "a.jpg")
    (tmp_path / "photos" / "notes.txt").write_text("0 cats seen\n")
    (tmp_path / "photos" / "config.json").write_text("{}")
    for path in (tmp_path / "photos", tmp_path / "photos" / "a.jpg", tmp_path / "photos" / "config.json"):
        assert recognise(path) is None
        assert not any(entry.recognises(path) for entry in FORMATS.values())


def call(capsys, *words):
    """Run a command; return its exit code and what it printed."""
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    printed = capsys.readouterr()
    return stop.value.code, printed.out + printed.err


def test_the_command_says_what_it_did(tmp_path, labelled, capsys):
    folder = labelled("one", a=["cat", "cat"], b=["dog"])
    figures = tmp_path / "figures.json"
    code, printed = call(
        capsys, "data", "convert", folder, "--out", tmp_path / "out", "--classes", "cat", "--json", figures
    )
    assert code == 0
    for text in (f"{folder}: labelme, 2 images, 3 objects", "classes: cat 2", "dog", "hard links: 2, copies: 0"):
        assert text in printed
    assert json.loads(figures.read_text())["files"] == {"annotations.json": [2, 2]}


def test_other_commands_say_what_a_source_is_and_what_converts_it(tmp_path, labelled, capsys):
    folder = labelled("one", a=["cat"])
    hint = (
        f"error: {folder}: expected a COCO json, received a folder of labelme. Type: centermask data convert {folder}"
    )
    data = [f"data.{part}.{key}={folder}" for part in ("train", "val") for key in ("annotations", "images")]
    sets = [word for value in data for word in ("--set", value)]
    commands = [
        ("data", "check", "--annotations", folder, "--images", folder, "--out", tmp_path / "check"),
        ("train", "--config", "demo", *sets, "--run", tmp_path / "run"),
        ("evaluate", "--model", "nuclei", "--annotations", folder, "--images", folder, "--out", tmp_path / "eval"),
        ("evaluate", "--results", folder / "a.json", "--annotations", folder),
    ]
    for command in commands:
        code, printed = call(capsys, *command)
        assert code == 1 and hint in printed, (command, printed)


def test_the_help_names_every_kind_of_source(capsys):
    code, printed = call(capsys, "data", "convert", "--help")
    assert code == 0 and data_convert_command.__doc__.split(",")[0] in " ".join(printed.split())


def test_faults_of_a_coco_json_stay_those_of_the_file(tmp_path, capsys):
    path = tmp_path / "a.json"
    path.write_text('{"images": [], "annotations": [], "categories": []}')
    code, printed = call(capsys, "evaluate", "--results", path, "--annotations", path)
    assert code == 1 and "expected at least one entry" in printed and "data convert" not in printed
