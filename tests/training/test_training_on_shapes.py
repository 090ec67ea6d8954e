"""The real detector on generated shapes: trains, is evaluated, saved and loaded."""

import gc
import importlib.util
import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from run_files import data_paths, metrics_of

from centermask_keras.config import load_config
from centermask_keras.config.sections import SaveConfig
from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.demo.shapes import make_shapes
from centermask_keras.evaluation.predict import evaluate_model
from centermask_keras.inference.load import load
from centermask_keras.training.state import StateFiles
from centermask_keras.training.train import train

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
@pytest.mark.skipif(importlib.util.find_spec("grain") is None, reason="could not import 'grain'")
def test_processes_train_what_threads_train(config, tmp_path, monkeypatch):
    """Interrupted in the middle of an epoch, and continued with another number of processes."""
    steps = config.model_copy(
        update={"train": config.train.model_copy(update={"save": SaveConfig(every=1, unit="steps")})}
    )
    train(steps, name="shapes", run_dir=tmp_path / "threads")
    save = StateFiles.save

    def save_and_die(self, progress, variables):
        save(self, progress, variables)
        if progress.step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StateFiles, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            train(steps, run_dir=tmp_path / "processes", processes=2)
    train(steps, run_dir=tmp_path / "processes", processes=1)
    gc.collect()
    assert not [process for process in multiprocessing.active_children() if "grain" in process.name]
    folders = tmp_path / "threads", tmp_path / "processes"
    assert metrics_of(folders[0]) == metrics_of(folders[1])  # bit for bit
    weights = [load(folder).detector.get_weights() for folder in folders]
    assert all(np.array_equal(*pair) for pair in zip(*weights, strict=True))
    starts = json.loads((tmp_path / "processes" / "run.json").read_text())["starts"]
    assert [start["processes"] for start in starts] == [2, 1]
    samples = [json.loads((folder / "run.json").read_text())["samples"] for folder in folders]
    assert samples[1]["samples"] >= 72 and samples[1]["objects"]  # 3 epochs of 24, and what was made ahead


@pytest.mark.slow
def test_the_saved_model_is_the_evaluated_one(config, tmp_path):
    result = train(config, name="shapes", run_dir=tmp_path)
    assert all(np.isfinite(list(row.values())).all() for row in metrics_of(tmp_path))
    val = config.data.val
    annotations = load_annotations(val.annotations, val.images)
    figures = evaluate_model(load(tmp_path), annotations).figures
    best = json.loads((tmp_path / "run.json").read_text())["best"]
    assert best == pytest.approx({"epoch": result.best_epoch, **figures}, rel=1e-9, nan_ok=True)
    assert figures["mask_ap"] == pytest.approx(result.best_mask_ap)
