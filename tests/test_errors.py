"""Errors read as one or two lines that say where, what was expected, what was received."""

import pickle

import pytest

from centermask_keras.errors import CenterMaskError, ConfigError, DataError, ImageError, Problem, one_line

PROBLEM = Problem("my.json", "annotation 3", "a box", "null")


def test_problem_is_one_line_with_place_expected_and_received():
    assert str(PROBLEM) == "my.json: annotation 3: expected a box, received null"
    assert str(Problem("a.json", "", "json", "no such file")) == "a.json: expected json, received no such file"


def test_a_line_break_in_the_data_does_not_break_the_line():
    assert "\n" not in str(Problem("a\nb.jpg", "image 1", "an image", "x\r\ny"))


def test_names_are_shown_on_one_line_and_steer_nothing():
    assert one_line("a\nb\t\x1b[2J\x9b\u2028c\u202edef") == "a\\nb\\t\\x1b[2J\\x9b\\u2028c\\u202edef"
    assert one_line("zwei  Zellen é 細胞 👩\u200d🔬 \\n") == "zwei  Zellen é 細胞 👩\u200d🔬 \\n"
    assert one_line("\udcff.png") == "\\udcff.png"  # bytes of a name that are no text
    assert "two  spaces\\x07.jpg" in str(ImageError("two  spaces\x07.jpg", "corrupt"))
    assert "two  spaces\\x07.jpg" in str(Problem("a.json", "two  spaces\x07.jpg", "a", "b"))


def test_data_error_with_one_problem_is_that_line():
    assert str(DataError([PROBLEM])) == str(PROBLEM)


def test_data_error_lists_up_to_fifty_problems_and_counts_the_rest():
    fifty = str(DataError([PROBLEM] * 50)).splitlines()
    assert fifty == ["50 problems", *[f"  {PROBLEM}"] * 50]
    many = str(DataError([PROBLEM] * 1234)).splitlines()
    assert many[0] == "1,234 problems"
    assert len(many) == 52
    assert many[-1] == "  and 1,184 more"


def test_image_error_names_file_id_expected_and_received():
    error = ImageError("photos/a.jpg", "premature end of JPEG", image_id=7)
    assert str(error) == "photos/a.jpg (image id 7): expected a readable image, received: premature end of JPEG"
    assert (error.path, error.reason, error.image_id) == ("photos/a.jpg", "premature end of JPEG", 7)
    error = ImageError("photos/a.jpg", "64 x 128", expected="480 x 640 pixels as annotated", image_id=0)
    assert str(error) == "photos/a.jpg (image id 0): expected 480 x 640 pixels as annotated, received: 64 x 128"


def test_image_error_without_an_id_names_the_file_alone():
    assert str(ImageError("a.png", "corrupt PNG")) == "a.png: expected a readable image, received: corrupt PNG"
    assert "\n" not in str(ImageError("a\nb.png", "corrupt\nPNG"))


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("a.json: train: expected x"),
        DataError([PROBLEM]),
        ImageError("a.png", "corrupt PNG"),
        ImageError("a.png", "4 x 5", expected="5 x 4 pixels as annotated", image_id=3),
    ],
)
def test_every_error_is_of_the_one_base_and_survives_the_way_between_processes(error):
    assert isinstance(error, CenterMaskError)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.__dict__ == error.__dict__
