"""The real detector on photos in the form of LVIS: trains, validates by its rules, and is evaluated from its folder."""

import csv
import json
from pathlib import Path

import lvis_case
import pytest

from centermask_keras.cli import main

DEMO = Path(__file__).parents[2] / "configs" / "demo.json"
STEPS = 6


@pytest.mark.slow
def test_train_and_evaluate_from_the_command_line(coco_tiny, tmp_path, capsys):
    document = json.loads((coco_tiny / "annotations" / "instances.json").read_text())
    document["annotations"] = [row for row in document["annotations"] if not row["iscrowd"]]
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps(lvis_case.as_lvis(document)))
    values = {f"data.{split}.annotations": str(path) for split in ("train", "val")}
    values |= {f"data.{split}.images": str(coco_tiny) for split in ("train", "val")}
    values |= {"model.num_classes": 80, "model.max_detections": 300, "train.learning_rate": 1e-3}
    values |= {"train.batch_size": 8, "train.epochs": STEPS // 2, "train.drop_epochs": [STEPS]}
    values |= {"train.validate_every": STEPS, "data.augmentation.crop": "none", "data.augmentation.flip": 0.0}
    options = [part for key, value in values.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    call("train", "--config", str(DEMO), "--run", str(tmp_path / "run"), *options)
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["loss"]) for row in rows]
    assert losses[-1] < losses[0]
    assert {"mask_ap_rare", "box_ap_frequent", "mask_ar300"} <= set(rows[-1])
    capsys.readouterr()
    call("evaluate", "--run", str(tmp_path / "run"), "--json", str(tmp_path / "figures.json"))
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[:4]] == ["AP", "mask", "box", "boundary"]
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["mask_ap"] == pytest.approx(float(rows[-1]["mask_ap"]), abs=1e-9)
    assert {
        f"{kind}_ap_{name}" for kind in ("mask", "box", "boundary") for name in ("rare", "common", "frequent")
    } <= set(figures)


def call(*arguments: str) -> None:
    try:
        main(list(arguments))
    except SystemExit as stop:
        assert not stop.code
