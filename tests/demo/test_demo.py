"""The demo in short: every stage, the report, the picture, in a folder without anything."""

import json
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from centermask_keras.demo import run as demo

SHORT = ("train.epochs=2", "train.drop_epochs=[1]", "train.validate_every=2")


@pytest.mark.slow
def test_short_demo_makes_dataset_run_picture_and_report(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "TRAIN_IMAGES", 48)
    monkeypatch.setattr(demo, "VAL_IMAGES", 8)
    monkeypatch.chdir(tmp_path)  # neither a checkout nor a configuration here
    for _ in range(2):  # a second demo replaces the first
        returned = demo.run_demo(overrides=SHORT, console=Console(width=200))
    printed = capsys.readouterr().out
    assert all(f"[{stage}/5]" in printed for stage in (2, 3, 4, 5))
    report = json.loads(Path("runs/demo/report.json").read_text())
    assert report == json.loads(json.dumps(returned))
    assert 0 <= report["mask_ap"] <= 1 and 0 <= report["box_ap"] <= 1
    assert set(report["seconds"]) == {"shapes", "training", "evaluation"}
    assert report["dataset"]["train"]["images"] == 48 and report["dataset"]["val"]["images"] == 8
    with Image.open("runs/demo/predictions.png") as picture:
        assert picture.width > picture.height / demo.PICTURES
    assert Path("runs/demo/data/train.json").is_file() and Path("runs/demo/model.weights.h5").is_file()


def test_demo_datasets_are_as_large_as_promised():
    assert demo.TRAIN_IMAGES >= 400 and demo.VAL_IMAGES >= 100
