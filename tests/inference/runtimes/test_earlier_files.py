"""What commit 7efeff8 wrote is read: its run folder, with and without a key that came last, and its exported files."""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

import centermask_keras as cm

EARLIER = Path(__file__).parent / "earlier"
FOUND = json.loads((EARLIER / "detections.json").read_text())
FILES = {"keras": "run", "saved_model": "tiny/1", "tflite": "tiny/tiny_fp32.tflite", "onnx": "tiny/tiny.onnx"}
PIXELS, SCORES, MASK_PIXELS = 1e-3, 1e-4, 3  # processors add up in another order


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(EARLIER / "files.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def assert_finds(path: Path, expected: list[dict]) -> None:
    """Load a model and compare what it finds in the picture."""
    found = cm.load(path).predict(EARLIER / "image.png")[0].to_coco(1)
    assert len(found) == len(expected) == 10
    for one, other in zip(found, expected, strict=True):
        assert one["category_id"] == other["category_id"]
        np.testing.assert_allclose(one["bbox"], other["bbox"], rtol=0, atol=PIXELS)
        assert one["score"] == pytest.approx(other["score"], abs=SCORES)
        masks = [coco_mask.decode(row["segmentation"]) for row in (one, other)]
        assert (masks[0] != masks[1]).sum() <= MASK_PIXELS


def test_the_detections_tell_models_apart():
    assert {row["category_id"] for row in FOUND["keras"]} == {2, 3, 7}
    assert sum(coco_mask.area(row["segmentation"]) > 200 for row in FOUND["keras"]) >= 8


@pytest.mark.parametrize("runtime", FILES)
def test_files_of_every_runtime_find_what_they_found(folder, runtime):
    assert_finds(folder / FILES[runtime], FOUND[runtime])


def test_a_run_folder_from_before_data_processes_is_loaded(folder, tmp_path):
    run = shutil.copytree(folder / "run", tmp_path / "run")
    values = json.loads((run / "config.json").read_text())
    del values["data"]["processes"]
    (run / "config.json").write_text(json.dumps(values))
    assert_finds(run, FOUND["keras"])
