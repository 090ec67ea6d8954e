"""Names of images lead to files below one folder, and nowhere else."""

import unicodedata

import pytest

from centermask_keras.convert.image_names import ImageFinder, split_name


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a/b.jpg", ["a", "b.jpg"]),
        ("..\\..\\b.jpg", ["b.jpg"]),
        ("/etc/b.jpg", ["etc", "b.jpg"]),
        ("C:\\Users\\me\\b.jpg", ["Users", "me", "b.jpg"]),
        ("https://host:8080/upload/b.jpg", ["upload", "b.jpg"]),
        ("./a/../b.jpg", ["a", "b.jpg"]),
        ("..", []),
    ],
)
def test_what_leads_outside_of_a_folder_is_left_out(name, parts):
    assert split_name(name) == parts


def test_images_are_found_by_place_then_by_the_last_parts_of_their_name(tmp_path, photo):
    for name in ("x/a.jpg", "y/a.jpg", "y/b.jpg", ".hidden/c.jpg"):
        photo(tmp_path / "set" / name)
    photo(tmp_path / "secret.jpg")
    finder = ImageFinder(tmp_path / "set")
    assert finder.find("a.jpg", tmp_path / "set" / "x") == tmp_path / "set" / "x" / "a.jpg"
    assert finder.find("/other/machine/y/a.jpg", tmp_path / "set") == tmp_path / "set" / "y" / "a.jpg"
    assert finder.find("b.jpg", tmp_path / "set") == tmp_path / "set" / "y" / "b.jpg"
    assert "2 files have as their name" in finder.find("a.jpg", tmp_path / "set")
    for name in ("../secret.jpg", str(tmp_path / "secret.jpg"), "c.jpg", "gone.jpg"):
        assert "is not there" in finder.find(name, tmp_path / "set")


def test_names_that_unicode_writes_in_two_ways_are_one(tmp_path, photo):
    photo(tmp_path / unicodedata.normalize("NFD", "Öl.jpg"))
    assert ImageFinder(tmp_path).find(unicodedata.normalize("NFC", "Öl.jpg"), tmp_path).is_file()
