"""Shipped models work on a fresh clone: they load, find what is in their samples, and say where they come from."""

import json
from pathlib import Path

import numpy as np
import pytest
from project_files import files_in

import centermask_keras as cm
from centermask_keras.cli import main
from centermask_keras.evaluation.coco import evaluate_coco

ROOT = Path(__file__).parents[2]
NUCLEI = ROOT / "saved_models" / "nuclei"
SPLIT = json.loads((ROOT / "benchmarks" / "nuclei_split.json").read_text())
SAMPLES = files_in("saved_models/nuclei/samples")


@pytest.fixture(scope="module")
def model():
    return cm.load(NUCLEI)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_nuclei_are_found_in_the_samples(model, sample):
    result = model.predict(sample)[0]
    assert 20 <= len(result) < 150
    areas = result.masks.dense().sum(axis=(1, 2))
    assert np.median(areas) > 20 and set(result.class_names) == {"nucleus"}


@pytest.mark.slow
def test_the_command_of_the_model_card_works(tmp_path, monkeypatch):
    command = next(line for line in (NUCLEI / "README.md").read_text().splitlines() if line.startswith("centermask"))
    words = command.split()[1:-1]
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stop:
        main([*words, str(tmp_path)])
    assert stop.value.code == 0
    found = json.loads((tmp_path / "predictions.json").read_text())["images"]
    assert [len(row["objects"]) >= 20 for row in found] == [True, True]
    assert {f"{sample.stem}.png" for sample in SAMPLES} <= {path.name for path in tmp_path.iterdir()}


def test_the_weights_are_small():
    assert (NUCLEI / "model.weights.h5").stat().st_size <= 12e6


def test_the_parts_of_the_split_are_disjoint_and_whole():
    names = [name for part in SPLIT.values() for name in part]
    assert set(SPLIT) == {"train", "val", "test"} and len(names) == len(set(names)) == 504


@pytest.mark.slow
def test_mask_ap_on_test_images(model, nuclei_train, tmp_path):
    """Every fourth test image; the figure of all of them is in the model card."""
    truth = json.loads((nuclei_train / "annotations" / "instances.json").read_text())
    chosen = set(SPLIT["test"][::4])
    truth["images"] = [row for row in truth["images"] if row["file_name"] in chosen]
    ids = {row["id"] for row in truth["images"]}
    truth["annotations"] = [row for row in truth["annotations"] if row["image_id"] in ids]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    results = []
    for row in truth["images"]:
        results += model.predict(nuclei_train / "images" / row["file_name"], score_threshold=0.0)[0].to_coco(row["id"])
    assert evaluate_coco(path, results, iou_type="segm")["mask_ap"] > 0.45
