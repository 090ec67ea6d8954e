"""What `predict` and `client` write, whatever finds the objects."""

import json
from pathlib import Path

import numpy as np
import pytest

from centermask_keras.errors import CenterMaskError, DataError, ServingError
from centermask_keras.inference.objects import Category, Result
from centermask_keras.inference.prediction_files import picture_names, predict_files, read_ids
from centermask_keras.masks import RLEMasks, encode_crop


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
    written = predict_files(Found(), paths, tmp_path, score_threshold=0.3, ids=ids)
    assert (written.images, written.objects, written.unreadable) == (2, 2, [])
    results = json.loads((tmp_path / "results.json").read_text())
    assert [(row["image_id"], row["category_id"], row["bbox"]) for row in results] == [
        (11, 7, [2, 1, 3, 3]),
        (10, 7, [2, 1, 3, 3]),
    ]
    assert len(json.loads((tmp_path / "predictions.json").read_text())["images"]) == 2


def test_what_was_found_before_a_failure_is_kept(tmp_path):
    with pytest.raises(ServingError):
        predict_files(Found(), [Path(f"{n}.jpg") for n in range(4)], tmp_path, score_threshold=0.3)
    assert len(json.loads((tmp_path / "predictions.json").read_text())["images"]) == 2
    assert not (tmp_path / "results.json").exists()


def test_names_with_folders_tell_images_of_one_name_apart(tmp_path):
    annotations = write_annotations(tmp_path, ["train/x.jpg", "val/x.jpg"])
    assert read_ids(annotations, [Path("data/val/x.jpg")]) == {Path("data/val/x.jpg"): 11}
    with pytest.raises(CenterMaskError, match="test/x.jpg: expected one image of .*received 0"):
        read_ids(annotations, [Path("test/x.jpg")])
    with pytest.raises(DataError, match="none.json"):
        read_ids(tmp_path / "none.json", [])


def test_images_of_one_name_get_pictures_of_their_own():
    paths = [Path("a/x.jpg"), Path("b/x.png"), Path("c/x_2.jpg"), Path("d/y.jpg")]
    names = picture_names(paths)
    assert list(names) == paths and len(set(names.values())) == len(paths)
    assert names[paths[0]] == "x.png" and names[paths[3]] == "y.png"
