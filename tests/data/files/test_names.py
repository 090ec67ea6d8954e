"""A file is what the user calls it: every spelling of a name finds its file, or an error says what differs."""

import json
import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.data.files.images import read_image
from centermask_keras.data.files.names import explain_missing, is_outside, tidy_name
from centermask_keras.data.files.shard_writer import write_shards
from centermask_keras.errors import CenterMaskError, DataError, ImageError
from centermask_keras.inference.input_images import find_images
from centermask_keras.inference.prediction_files import output_files, read_ids

NFC, NFD = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))


def make_image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 8)).save(path)
    return path


def annotate(folder: Path, *names: str) -> Path:
    rows = [{"id": number, "file_name": name, "height": 8, "width": 16} for number, name in enumerate(names, 1)]
    path = folder / "a.json"
    path.write_text(json.dumps({"images": rows, "annotations": [], "categories": [{"id": 1, "name": "a"}]}))
    return path


@pytest.mark.parametrize("name", ["a.png", "./a.png", ".//a.png", "b/../a.png", "../photos/a.png", "{absolute}"])
@pytest.mark.parametrize("linked", [False, True])
def test_names_that_end_inside_of_the_folder_are_found(tmp_path, name, linked):
    photos = tmp_path / "photos"
    make_image(tmp_path / "cache" / "deep" / "a.png" if linked else photos / "a.png")
    if linked:  # `..` is the folder that the name says, not the one around the target
        photos.symlink_to(tmp_path / "cache" / "deep")
    name = name.format(absolute=photos / "a.png")
    annotations = load_annotations(annotate(tmp_path, name), photos)
    assert read_image(annotations.image_file(0)).shape == (8, 16, 3)
    assert not is_outside(tidy_name(name, photos))
    shards = tmp_path / "shards"
    write_shards(annotations, shards)
    again = load_annotations(annotate(tmp_path, "a.png" if "/" not in name[1:] else name), shards)
    assert again.image_file(0).read_bytes() == (photos / "a.png").read_bytes()


@pytest.mark.parametrize("name", ["../a.png", "b/../../a.png", "{absolute}", ".."])
def test_names_that_end_outside_of_the_folder_are_told_apart(tmp_path, name):
    assert is_outside(tidy_name(name.format(absolute=tmp_path / "a.png"), tmp_path / "photos"))


@given(st.lists(st.sampled_from(["a", "b.png", ".", "..", ".a", "..b", ""]), min_size=1, max_size=6))
def test_tidy_names_lead_where_the_names_lead(parts):
    name, folder = "/".join(parts), "/x/photos"
    if not name:
        return
    expected = os.path.normpath(os.path.join(folder, name))
    tidy = tidy_name(name, folder)
    assert os.path.normpath(os.path.join(folder, tidy)) == expected
    assert is_outside(tidy) == (not f"{expected}/".startswith(f"{folder}/"))
    assert tidy_name(tidy, folder) == tidy


@pytest.mark.parametrize(
    ("there", "named", "difference"),
    [
        (f"{NFD}0.png", f"{NFC}0.png", "Unicode form, which is NFD there"),
        (f"{NFC}0.png", f"{NFD}0.png", "Unicode form, which is NFC there"),
        (f"{NFD}/0.png", f"{NFC}/0.png", "Unicode form, which is NFD there"),
        ("b/a.png", "b\\a.png", "backslashes"),
        ("a.png", "b\\a.png", "backslashes"),
        ("a.PNG", "a.png", "capitals"),
        ("a.png", "a.png ", "spaces"),
    ],
)
def test_an_error_says_what_differs(tmp_path, there, named, difference):
    make_image(tmp_path / "photos" / there)
    with pytest.raises(DataError, match=f"no such file or directory; .*{difference}"):
        load_annotations(annotate(tmp_path, named), tmp_path / "photos")
    with pytest.raises(ImageError, match=f"no such file or directory; .*{difference}"):
        read_image(tmp_path / "photos" / named)


def test_a_file_that_is_not_there_is_no_more_than_that(tmp_path):
    make_image(tmp_path / "a.png")
    assert explain_missing(tmp_path / "b.png") is None
    assert explain_missing(tmp_path / "none" / "a.png") is None


def test_an_image_that_is_spelt_otherwise_in_shards_is_told(tmp_path):
    make_image(tmp_path / "photos" / f"{NFD}.png")
    make_image(tmp_path / "photos" / "b.png")
    photos = load_annotations(annotate(tmp_path, f"{NFD}.png", "b.png"), tmp_path / "photos")
    write_shards(photos, tmp_path / "shards")
    for names in ([f"{NFC}.png"], ["b.png", f"{NFC}.png"]):
        with pytest.raises(DataError, match="Unicode form, which is NFD there"):
            load_annotations(annotate(tmp_path, *names), tmp_path / "shards")


def test_annotations_that_are_a_link_are_those_beside_the_link(tmp_path):
    make_image(tmp_path / "photos" / "a.png")
    for name in ("one", "two"):
        write_shards(load_annotations(annotate(tmp_path, "a.png"), tmp_path / "photos"), tmp_path / name)
    (tmp_path / "mine.json").symlink_to(tmp_path / "two" / "annotations.json")
    (tmp_path / "link").symlink_to(tmp_path / "one")
    assert len(load_annotations(tmp_path / "mine.json", tmp_path / "one")) == 1
    assert len(load_annotations(tmp_path / "one" / "annotations.json", tmp_path / "link")) == 1


def test_links_to_one_file_are_images_of_their_own(tmp_path):
    cached = tmp_path / "cache" / "0f3a"  # data version control names files by their content
    make_image(tmp_path / "cache" / "0f3a.png").rename(cached)
    photos = tmp_path / "photos"
    photos.mkdir()
    links = [photos / "a.png", photos / "b.png"]
    for link in links:
        link.symlink_to(cached)
    assert find_images([str(photos)]).paths == links
    assert find_images([str(photos), f"{photos}/../photos/./a.png", str(links[1])]).paths == links
    annotations = annotate(tmp_path, "b.png", "photos/a.png")
    assert read_ids(annotations, links) == {links[0]: 2, links[1]: 1}
    assert {path.name for path in output_files(tmp_path, links)} >= {"a.png", "b.png"}


def test_two_dots_behind_a_link_are_another_file(tmp_path):
    make_image(tmp_path / "cache" / "a.png")
    (tmp_path / "cache" / "deep").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "cache" / "deep")
    paths = [make_image(tmp_path / "a.png"), tmp_path / "link" / ".." / "a.png"]
    assert find_images([str(path) for path in paths]).paths == paths


def test_folders_behind_links_are_read_and_circles_told(tmp_path):
    photos = tmp_path / "photos"
    make_image(tmp_path / "more" / "b.png")
    make_image(photos / "a.png")
    (photos / "link").symlink_to(tmp_path / "more")
    (photos / "circle").symlink_to(photos)
    (photos / "nowhere.png").symlink_to(tmp_path / "none")
    os.mkfifo(photos / "pipe.png")
    found = find_images([str(photos)])
    assert found.paths == [photos / "a.png", photos / "link" / "b.png", photos / "nowhere.png"]
    assert found.left_out == [
        (photos / "circle", "a link to a folder that it lies in"),
        (photos / "pipe.png", "not a regular file"),
    ]


@pytest.mark.parametrize("name", ["./{a}.png", "x//{a}.png", "../photos/{a}.png", "x\\{a}.png", "{absolute}"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_ids_are_found_by_every_spelling(tmp_path, name, form):
    path = make_image(tmp_path / "photos" / "x" / f"{NFC}.png")
    if name.startswith(".."):
        path = make_image(tmp_path / "photos" / f"{NFC}.png")
    name = unicodedata.normalize(form, name.format(a=NFC, absolute=path))
    assert read_ids(annotate(tmp_path, name, "other.png"), [path]) == {path: 1}


def test_the_same_spelling_wins(tmp_path):
    paths = [tmp_path / f"{letter}.png" for letter in (NFC, NFD)]
    assert read_ids(annotate(tmp_path, f"{NFC}.png", f"{NFD}.png"), paths) == {paths[0]: 1, paths[1]: 2}
    with pytest.raises(CenterMaskError, match="received 0 of this name"):
        read_ids(annotate(tmp_path, "a.png"), paths)
