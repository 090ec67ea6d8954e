"""The Predictor around any inference graph: what it needs installed, how it brings detections back."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from centermask_keras.config import load_config
from centermask_keras.errors import ImageError
from centermask_keras.inference.objects import Category
from centermask_keras.inference.prediction_files import predict_files
from centermask_keras.inference.predictor import Predictor

ROOT = Path(__file__).resolve().parents[2]


class OneSquare(Predictor):
    """Find one object at 16..48 of every input, and a second row that is not valid."""

    def detect(self, images):
        boxes = np.tile(np.float32([[16, 16, 48, 48], [0, 0, 9, 9]]), (len(images), 1, 1))
        return {
            "boxes": boxes,
            "scores": np.tile(np.float32([0.9, 0.8]), (len(images), 1)),
            "classes": np.full((len(images), 2), 2, np.int32),
            "valid": np.tile([True, False], (len(images), 1)),
            "masks": np.ones((len(images), 2, 8, 8), np.float32),
        }


def test_detections_come_back_in_original_pixels():
    config = load_config(ROOT / "configs" / "demo.json")  # letterboxed to 128 x 128
    predictor = OneSquare(config, [Category(10 * index, f"c{index}") for index in range(5)])
    (result,) = predictor.predict(np.zeros((256, 256, 3), np.uint8))
    np.testing.assert_array_equal(result.boxes, [[32, 32, 96, 96]])
    assert result.class_names == ["c2"] and result.category_ids == [20]
    assert result.masks.dense().sum() == 64 * 64


def test_a_predictor_without_a_graph_says_so():
    with pytest.raises(NotImplementedError):
        Predictor(load_config(ROOT / "configs" / "demo.json"), []).predict(np.zeros((8, 8, 3), np.uint8))


class Small(OneSquare):
    """A graph that fails on wide inputs, as the runtimes do: each with errors of its own."""

    def detect(self, images):
        if images.shape[2] > 128:
            raise RuntimeError(f"out of memory\n{'conv ' * 1000}")
        return super().detect(images)


def test_an_image_that_the_graph_fails_on_is_named_and_the_others_go_on(tmp_path):
    config = load_config(ROOT / "configs" / "demo.json", ['eval.resize="keep"', "eval.batch_size=1"])
    predictor = Small(config, [Category(index, f"c{index}") for index in range(5)])
    paths = [tmp_path / f"{width}.png" for width in (90, 300, 100)]
    for path, width in zip(paths, (90, 300, 100), strict=True):
        Image.new("RGB", (width, 80)).save(path)
    written = predict_files(predictor, paths, tmp_path, score_threshold=0.3)
    assert (written.images, written.objects) == (2, 2)
    (error,) = written.unreadable
    assert str(error).startswith(
        f"{paths[1]}: expected an image that the model can be run on, received: 80 x 300 pixels"
    )
    assert "RuntimeError: out of memory" in str(error) and len(str(error)) < 500 and "\n" not in str(error)
    with pytest.raises(ImageError, match="array: expected an image that the model can be run on"):
        predictor.predict(np.zeros((80, 300, 3), np.uint8))


def test_predicting_imports_neither_keras_nor_tensorflow():
    program = (
        "import sys; sys.modules.update(dict.fromkeys(('keras', 'tensorflow', 'jax', 'torch', 'faster_coco_eval')))\n"
        "sys.path.insert(0, 'tests/inference')\n"
        "import test_predictor; test_predictor.test_detections_come_back_in_original_pixels()"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
