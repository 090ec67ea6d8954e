"""Which images belong together: by name, by content, over one another."""

import numpy as np
import pytest
from PIL import Image

from centermask_keras.data.files.image_groups import (
    describe_colors,
    group_by_content,
    group_by_name,
    group_near_duplicates,
    join_groups,
)
from centermask_keras.data.files.images import read_image
from centermask_keras.data.files.storage import ImageFolder
from centermask_keras.errors import CenterMaskError, ImageError


def test_a_pattern_joins_what_its_first_group_matches():
    names = ["a_scaled_0.jpg", "b.jpg", "a_scaled_1.jpg", "c_scaled_0.jpg"]
    assert group_by_name(names, r"(.+)_scaled_\d") == [[0, 2], [1], [3]]
    assert group_by_name(names, r"^(a|c)?") == [[0, 2], [1], [3]]  # a group that takes no part joins nothing


def test_copies_of_roboflow_belong_together_without_being_told():
    names = [
        "train/IMG_1_jpg.rf.0a1b2c3d4e5f60718293a4b5c6d7e8f9.jpg",
        "train/IMG_2_jpg.rf.0a1b2c3d4e5f60718293a4b5c6d7e8f9.jpg",
        "valid/IMG_1_jpg.rf.ffffffffffffffffffffffffffffffff.jpg",
        "IMG_1_jpg.jpg",
        "surf.rf.jpg",
    ]
    assert group_by_name(names) == [[0, 2], [1], [3], [4]]


def test_rows_of_one_file_belong_together():
    assert group_by_name(["a.jpg", "b.jpg", "a.jpg"]) == [[0, 2], [1]]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(", "expected a regular expression"), ("scaled", "a pattern with a group"), ("(x)_y", "none of 2")],
)
def test_a_pattern_that_cannot_group_is_refused(pattern, message):
    with pytest.raises(CenterMaskError, match=f"--group: .*{message}"):
        group_by_name(["a_scaled_0.jpg", "b.jpg"], pattern)


def test_groups_that_share_a_member_are_joined():
    assert join_groups(7, [[5, 3], [1, 2], [3, 1], [6]]) == [[0], [1, 2, 3, 5], [4], [6]]


def test_near_duplicates_form_one_group_over_others():
    rows = np.array([[0.0], [50.0], [1.5], [3.0], [51.0], [90.0]])
    assert group_near_duplicates(rows) == [[0, 2, 3], [1, 4], [5]]


def test_colours_are_the_quantiles_of_the_pixels(tmp_path):
    rng = np.random.default_rng(0)
    for shape in ((7, 5, 3), (40, 31, 3), (1, 1, 3)):
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(tmp_path / "a.png")
        pixels = read_image(str(tmp_path / "a.png")).reshape(-1, 3)
        expected = np.quantile(pixels, (0.02, 0.25, 0.5, 0.75, 0.98), axis=0).ravel()
        np.testing.assert_allclose(describe_colors(tmp_path / "a.png"), expected, atol=1e-9)


def test_copies_of_a_photo_are_near_and_other_photos_are_not(tmp_path):
    """Saved anew with another compression, or a little brighter: of one group. Of another size: not looked at."""
    rng = np.random.default_rng(1)
    photos = [rng.integers(0, 256, (8, 8, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8) for _ in range(3)]
    images = {
        "a.png": photos[0],
        "b.jpg": photos[1],
        "c.jpg": photos[0],
        "d.png": np.minimum(photos[0], 254) + 1,
        "e.png": photos[0][:32],
        "f.png": photos[2],
    }
    for name, pixels in images.items():
        Image.fromarray(pixels).save(tmp_path / name, quality=95, subsampling=0)
    hw = np.array([pixels.shape[:2] for pixels in images.values()])
    steps = []
    groups = group_by_content(list(images), hw, ImageFolder(tmp_path), lambda *step: steps.append(step))
    assert groups == [[0, 2, 3], [1], [4], [5]]
    assert steps == [(count, 6) for count in range(1, 7)]


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"none\.png"):
        group_by_content(["none.png"], np.array([[8, 8]]), ImageFolder(tmp_path))
