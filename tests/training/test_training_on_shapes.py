"""The real detector on generated shapes: trains, is evaluated, saved and loaded; continuing equals not stopping."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from centermask_keras.config import load_config
from centermask_keras.data.annotations import load_annotations
from centermask_keras.data.shapes import make_shapes
from centermask_keras.evaluation.predict import evaluate_model
from centermask_keras.inference import load
from centermask_keras.training.fit import train
from centermask_keras.training.run_folder import RunFolder

DEMO = Path(__file__).parents[2] / "configs" / "demo.json"
TIMES = {"seconds", "images_per_second"}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    data = tmp_path_factory.mktemp("shapes")
    make_shapes(data, train=24, val=6, hw=(64, 64), seed=3)
    return load_config(
        DEMO,
        [
            *(f'data.{split}.annotations="{data / split}.json"' for split in ("train", "val")),
            *(f'data.{split}.images="{data / split}"' for split in ("train", "val")),
            "data.input_hw=[64, 64]",
            "model.dtype_policy=float32",
            "train.epochs=3",
            "train.batch_size=8",
            "train.drop_epochs=[2]",
            "train.validate_every=2",
            "train.accumulation_steps=2",
        ],
    )


def metrics_of(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open() as file:
        return [{k: float(v) for k, v in row.items() if k not in TIMES and v} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_killed_and_continued_equals_uninterrupted(config, tmp_path, monkeypatch):
    train(config, name="shapes", run_dir=tmp_path / "whole")
    save = RunFolder.save_state

    def save_and_die(self, progress, variables):
        save(self, progress, variables)
        if progress.epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_state", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            train(config, name="shapes", run_dir=tmp_path / "parts")
    train(config, name="shapes", run_dir=tmp_path / "parts")
    whole, parts = metrics_of(tmp_path / "whole"), metrics_of(tmp_path / "parts")
    assert [row["epoch"] for row in whole] == [row["epoch"] for row in parts] == [1, 2, 3]
    assert whole == parts  # bit for bit


@pytest.mark.slow
def test_the_saved_model_is_the_evaluated_one(config, tmp_path):
    result = train(config, name="shapes", run_dir=tmp_path)
    assert all(np.isfinite(list(row.values())).all() for row in metrics_of(tmp_path))
    val = config.data.val
    annotations = load_annotations(val.annotations, val.images, crowd=config.data.crowd)
    figures = evaluate_model(load(tmp_path), annotations).figures
    best = json.loads((tmp_path / "run.json").read_text())["best"]
    assert best == pytest.approx({"epoch": result.best_epoch, **figures}, rel=1e-9, nan_ok=True)
    assert figures["mask_ap"] == pytest.approx(result.best_mask_ap)
