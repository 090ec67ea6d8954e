"""Names of the pictures that `predict` and `client` write."""

from pathlib import Path

from centermask_keras.cli.predict import picture_names


def test_images_of_one_name_get_pictures_of_their_own():
    paths = [Path("a/x.jpg"), Path("b/x.png"), Path("c/x_2.jpg"), Path("d/y.jpg")]
    names = picture_names(paths)
    assert list(names) == paths and len(set(names.values())) == len(paths)
    assert names[paths[0]] == "x.png" and names[paths[3]] == "y.png"
