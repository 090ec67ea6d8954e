"""What `predict` and `client` write, whatever finds the objects."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from centermask_keras.cli.predict import find_and_write, picture_names, read_ids
from centermask_keras.errors import CenterMaskError, DataError, ServingError
from centermask_keras.masks import RLEMasks, encode_crop
from centermask_keras.objects import Category, Result


class Found:
    """A predictor that finds the same object everywhere, and breaks at the third image."""

    categories = (Category(7, "nucleus"),)

    def predict_each(self, images, *, score_threshold):
        mask = np.zeros((8, 9), bool)
        mask[1:4, 2:5] = True
        for number, _ in enumerate(images):
            if number == 2:
                raise ServingError("url", "an answer", "none")
            yield Result(
                boxes=np.array([[2, 1, 5, 4]], "float32"),
                scores=np.array([0.5], "float32"),
                classes=np.zeros(1, "int32"),
                class_names=["nucleus"],
                category_ids=[7],
                masks=RLEMasks([encode_crop(mask, (0, 0), (8, 9))], (8, 9)),
                image=np.zeros((8, 9, 3), np.uint8),
            )


def write_annotations(folder, names):
    images = [{"id": 10 + i, "file_name": name, "height": 8, "width": 9} for i, name in enumerate(names)]
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": images, "categories": [{"id": 7, "name": "nucleus"}], "annotations": []}))
    return path


def test_results_have_the_ids_of_the_dataset(tmp_path):
    paths = [Path("a/x.jpg"), Path("b/y.jpg")]
    ids = read_ids(write_annotations(tmp_path, ["y.jpg", "x.jpg"]), paths)
    find_and_write(Found(), paths, tmp_path, 0.3, ids)
    results = json.loads((tmp_path / "results.json").read_text())
    assert [(row["image_id"], row["category_id"], row["bbox"]) for row in results] == [
        (11, 7, [2, 1, 3, 3]),
        (10, 7, [2, 1, 3, 3]),
    ]
    assert len(json.loads((tmp_path / "predictions.json").read_text())["images"]) == 2


def test_what_was_found_before_a_failure_is_kept(tmp_path):
    with pytest.raises(ServingError):
        find_and_write(Found(), [Path(f"{n}.jpg") for n in range(4)], tmp_path, 0.3)
    assert len(json.loads((tmp_path / "predictions.json").read_text())["images"]) == 2
    assert not (tmp_path / "results.json").exists()


def test_names_with_folders_tell_images_of_one_name_apart(tmp_path):
    annotations = write_annotations(tmp_path, ["train/x.jpg", "val/x.jpg"])
    assert read_ids(annotations, [Path("data/val/x.jpg")]) == {Path("data/val/x.jpg"): 11}
    with pytest.raises(CenterMaskError, match="test/x.jpg: expected one image of .*received 0"):
        read_ids(annotations, [Path("test/x.jpg")])
    with pytest.raises(DataError, match="none.json"):
        read_ids(tmp_path / "none.json", [])


EDGE = """
import sys
for name in ("tensorflow", "keras", "jax", "torch"):
    sys.modules[name] = None
from centermask_keras.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("runs/mistyped", "runs/mistyped: expected a run folder with config.json, received none"),
        ("mistyped.tflite", "mistyped.tflite: expected a file, received none"),
        (
            "saved_models/nuclei",
            "expected the package keras, received none. pip install it, or predict with",
        ),
    ],
)
def test_what_cannot_be_run_is_an_error_without_a_traceback(model, message, tmp_path):
    arguments = ["predict", "--model", model, "saved_models/nuclei/samples", "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", EDGE, *arguments], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith(f"error: {message}") and "Traceback" not in done.stderr


def test_images_of_one_name_get_pictures_of_their_own():
    paths = [Path("a/x.jpg"), Path("b/x.png"), Path("c/x_2.jpg"), Path("d/y.jpg")]
    names = picture_names(paths)
    assert list(names) == paths and len(set(names.values())) == len(paths)
    assert names[paths[0]] == "x.png" and names[paths[3]] == "y.png"
