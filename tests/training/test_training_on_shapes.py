"""The real detector on generated shapes: trains, is evaluated, saved and loaded."""

import json
from pathlib import Path

import numpy as np
import pytest
from run_files import data_paths, metrics_of

from centermask_keras.config import load_config
from centermask_keras.data.annotations import load_annotations
from centermask_keras.data.shapes import make_shapes
from centermask_keras.evaluation.predict import evaluate_model
from centermask_keras.inference import load
from centermask_keras.training.fit import train

DEMO = Path(__file__).parents[2] / "configs" / "demo.json"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    data = tmp_path_factory.mktemp("shapes")
    make_shapes(data, train=24, val=6, hw=(64, 64), seed=3)
    return load_config(
        DEMO,
        [
            *data_paths(data),
            "data.input_hw=[64, 64]",
            "model.dtype_policy=float32",
            "train.epochs=3",
            "train.batch_size=8",
            "train.drop_epochs=[2]",
            "train.validate_every=2",
            "train.accumulation_steps=2",
        ],
    )


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
