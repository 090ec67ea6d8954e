"""Training as a whole, on a stand-in: continuing equals not stopping, the best is kept, faults stop it readably."""

import json
import re
import sys
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from run_files import distance, metrics_of, state_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from centermask_keras.config import load_config
from centermask_keras.errors import CenterMaskError, ConfigError, ImageError
from centermask_keras.training import fit
from centermask_keras.training import train as train_module
from centermask_keras.training.train import train

FIGURES = {"mask_ap", "box_ap"}


def test_a_run_writes_its_files(tiny):
    result = tiny.train(tiny.config())
    folder = result.run_dir
    names = {path.name for path in folder.iterdir()}
    states = sorted(name for name in names if name.startswith("state_"))
    assert [name[:13] for name in states] == [
        "state_000007_",
        "state_000008_",
    ]  # two for each epoch: of before its validation, and of its end
    assert names - set(states) == {
        "config.json",
        "model.weights.h5",
        "last.weights.h5",
        "metrics.csv",
        "run.json",
        "tensorboard",
    }
    rows = metrics_of(folder)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert [row["step"] for row in rows] == [3, 6, 9, 12]
    np.testing.assert_allclose([row["learning_rate"] for row in rows], [0.05, 0.05, 0.05, 0.005], rtol=1e-6)
    assert {"loss", "heatmap", "offset", "mask_ap", "box_ap"} <= rows[0].keys()
    record = json.loads((folder / "run.json").read_text())
    assert record["finished"] is True and record["seed"] == 1 and record["backend"] == "tensorflow"
    assert record["categories"][:2] == [{"id": 10, "name": "a"}, {"id": 11, "name": "b"}]
    assert record["dataset"]["train"]["images"] == 12 and record["dataset"]["val"]["objects"] == 30
    assert record["samples"]["collisions"] >= 12 and record["samples"]["skipped"] == {}
    assert record["best"]["mask_ap"] == result.best_mask_ap and record["best"]["epoch"] == result.best_epoch
    assert load_config(folder / "config.json").model_dump(mode="json") == record["config"]
    (start,) = record["starts"]
    assert (start["step"], start["replicas"], start["workers"]) == (0, 1, 1) and "CPU" in start["hardware"]["device"]
    assert {"keras", "tensorflow", "numpy", "python", "centermask_keras"} == start["versions"].keys()


def test_an_epoch_that_is_not_better_keeps_the_best(tiny):
    scripted = iter([0.2, 0.5, 0.3, 0.5])
    tiny.mask_ap = lambda model: next(scripted)
    result = tiny.train(tiny.config())
    assert (result.best_mask_ap, result.best_epoch) == (0.5, 2)
    for saved, evaluated in zip(tiny.saved_weights(), tiny.evaluated[1], strict=True):
        np.testing.assert_array_equal(saved, evaluated)
    assert json.loads((result.run_dir / "run.json").read_text())["best"]["epoch"] == 2


def test_the_averaged_weights_are_evaluated_and_saved_and_training_goes_on_from_the_raw_ones(tiny):
    tiny.mask_ap = lambda model: 0.1 * len(tiny.evaluated)
    averaged = tiny.train(tiny.config("train.ema_decay=0.9"), run="averaged")
    state = state_of(averaged.run_dir)
    saved = tiny.saved_weights("averaged")
    for index, weights in enumerate(saved):
        np.testing.assert_array_equal(weights, state[f"average/{index}"])
    assert max(np.abs(weights - state[f"model/{index}"]).max() for index, weights in enumerate(saved)) > 1e-3
    raw = state_of(tiny.train(tiny.config("train.ema_decay=null"), run="raw").run_dir)
    for key in (key for key in raw if key.startswith("model/")):
        np.testing.assert_allclose(state[key], raw[key], rtol=1e-5, atol=1e-6)


def test_validation_every_few_epochs_and_at_the_last(tiny):
    rows = metrics_of(tiny.train(tiny.config("train.validate_every=3")).run_dir)
    assert [row["epoch"] for row in rows if row.keys() >= FIGURES] == [3, 4]
    assert len(tiny.evaluated) == 2


def test_another_configuration_is_refused_by_name(tiny):
    tiny.events = {7: "kill"}
    with pytest.raises(tf.errors.OpError):
        tiny.train(tiny.config())
    before = metrics_of(tiny.tmp_path / "run")
    with pytest.raises(ConfigError, match=r"run/config\.json: train\.learning_rate: expected 0\.05, received 0\.1\n"):
        tiny.train(tiny.config("train.learning_rate=0.1"))
    assert metrics_of(tiny.tmp_path / "run") == before


def test_changed_data_are_refused_by_name(tiny):
    tiny.events = {7: "kill"}
    with pytest.raises(tf.errors.OpError):
        tiny.train(tiny.config())
    tiny.train_set.boxes = np.zeros((31, 4))
    with pytest.raises(ConfigError, match=r"run\.json: dataset\.train\.objects: expected 30, received 31\n"):
        tiny.train(tiny.config())


def test_a_finished_run_is_left_alone_and_overwrite_starts_anew(tiny):
    first = tiny.train(tiny.config())
    before = state_of(first.run_dir)
    with pytest.raises(ConfigError, match="received a finished one"):
        tiny.train(tiny.config())
    (first.run_dir / "notes.txt").write_text("mine")
    again = tiny.train(tiny.config("train.epochs=2"), overwrite=True)
    assert again.epochs == 2 and len(metrics_of(again.run_dir)) == 2
    assert (first.run_dir / "notes.txt").read_text() == "mine"
    assert state_of(again.run_dir)["optimizer/0"] == 6 and before["optimizer/0"] == 12


def test_a_run_begins_with_the_weights_it_is_given_and_records_them(tiny):
    first = tiny.train(tiny.config())
    file = first.run_dir / "model.weights.h5"
    still = tiny.config("train.learning_rate=1e-30", "train.epochs=1", "train.ema_decay=null")
    for run, weights in (("from_file", str(file)), ("from_folder", first.run_dir)):
        tiny.evaluated.clear()
        again = tiny.train(still, run=run, weights=weights)
        trained = [0, 1, 2, 3, 6, 7]  # the others are moving averages of the batches
        (evaluated,) = tiny.evaluated
        assert distance(*([w[i] for i in trained] for w in (evaluated, tiny.saved_weights("run")))) < 1e-6
        assert distance(*([w[i] for i in trained] for w in (evaluated, tiny.initial_weights()))) > 0.1
        record = json.loads((again.run_dir / "run.json").read_text())["initial_weights"]
        assert record == {"file": str(file), "sha256": sha256(file.read_bytes()).hexdigest()}


def test_weights_that_do_not_fit_are_told_before_anything_is_written(tiny):
    (tiny.tmp_path / "other.weights.h5").write_bytes(b"no weights")
    for name in ("other.weights.h5", "missing.weights.h5"):
        with pytest.raises(CenterMaskError, match=rf"{name}: expected .* weights"):
            tiny.train(tiny.config(), weights=tiny.tmp_path / name)
    assert not (tiny.tmp_path / "run").exists()


def test_weights_are_read_into_the_detector_that_is_trained(tiny):
    """Without a third one to try them, and before an earlier run is deleted."""
    folder = tiny.train(tiny.config()).run_dir
    before = state_of(folder)
    (tiny.tmp_path / "other.weights.h5").write_bytes(b"no weights")
    with pytest.raises(CenterMaskError, match=r"other\.weights\.h5: expected the weights"):
        tiny.train(tiny.config(), weights=tiny.tmp_path / "other.weights.h5", overwrite=True)
    assert state_of(folder)["step"] == before["step"]
    tiny.built.clear()
    tiny.train(tiny.config("train.epochs=1"), run="again", weights=folder)
    assert len(tiny.built) == 2


def test_frozen_normalisation_without_weights_is_told_before_anything_is_written(tiny):
    config = load_config(Path(__file__).parents[2] / "configs" / "fcos_resnet101.json")
    with pytest.raises(ConfigError, match=r"my\.json: model\.frozen_norm: expected weights .*received none.*--weights"):
        tiny.train(config)
    assert not (tiny.tmp_path / "run").exists()


def test_processes_without_their_package_are_told_before_anything_is_written(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(ConfigError, match=r"--processes: expected 0 without the package grain, received 2"):
        tiny.train(tiny.config(), processes=2)
    assert not (tiny.tmp_path / "run").exists()


def test_the_number_of_processes_belongs_to_the_start(tiny, monkeypatch):
    asked = []
    monkeypatch.setattr(train_module, "check_start", lambda processes: None)
    make = tiny.make_train_dataset
    monkeypatch.setattr(
        fit, "make_train_dataset", lambda *of, **how: (asked.append(how["processes"]), make(*of, **how))[1]
    )
    for processes, events in ((2, {4: "kill"}), (3, {})):
        tiny.events = events
        with pytest.raises(tf.errors.OpError) if events else nullcontext():
            train(tiny.config(), run_dir=tiny.tmp_path / "run", processes=processes)
    assert asked == [2, 3]
    starts = json.loads((tiny.tmp_path / "run" / "run.json").read_text())["starts"]
    assert [(start["step"], start["processes"]) for start in starts] == [(0, 2), (3, 3)]


def test_a_batch_larger_than_the_set_is_told_before_anything_is_written(tiny):
    with pytest.raises(ConfigError) as caught:
        tiny.train(tiny.config("train.batch_size=32"))
    assert str(caught.value) == (
        "configs/my.json: train.batch_size: expected at most 12 (images of the training set), received 32. "
        "Pass --set train.batch_size=12"
    )
    assert not (tiny.tmp_path / "run").exists()
    tiny.train(tiny.config("train.batch_size=12", "train.epochs=1"))


def test_warnings_are_shown_and_recorded(tiny):
    tiny.train(tiny.config("train.drop_epochs=[2,4,9]"))
    steps, drops = (
        "configs/my.json: train.batch_size: expected at least 10 steps per epoch, received 3: ",
        "configs/my.json: train.drop_epochs: expected epochs before the last one (4), received 4, 9: ",
    )
    recorded = json.loads((tiny.tmp_path / "run" / "run.json").read_text())["warnings"]
    assert [line.startswith(start) for line, start in zip(recorded, (drops, steps), strict=True)] == [True, True]
    assert [line for line in tiny.output.splitlines() if line.startswith("warning: ")] == [
        f"warning: {line}" for line in recorded
    ]


def test_wrong_number_of_classes_is_told_before_anything_is_written(tiny):
    with pytest.raises(ConfigError) as caught:
        tiny.train(tiny.config("model.num_classes=80"))
    assert str(caught.value) == (
        "configs/my.json: model.num_classes: expected 5 (classes in my.json), received 80. "
        "Pass --set model.num_classes=5"
    )
    assert not (tiny.tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("names", "difference"),
    [("abced", "category 4: expected 'd', received 'e'"), ("abcd", "category 5: expected 'e', received none")],
)
def test_validation_categories_must_be_those_of_training(tiny, names, difference):
    tiny.val_set.class_names = list(names)
    with pytest.raises(ConfigError, match=f"data/val.json: categories: expected the 5 of data/my.json.*{difference}"):
        tiny.train(tiny.config())


def test_nan_stops_at_its_step_and_keeps_the_batch(tiny):
    tiny.events = {7: "nan"}
    with pytest.raises(CenterMaskError) as caught:
        tiny.train(tiny.config())
    saved = tiny.tmp_path / "run" / "nan_batch_step_7.npz"
    text = str(caught.value)
    assert text.startswith("step 7 (epoch 3): expected finite losses, received loss nan  heatmap nan  offset nan")
    assert str(saved) in text and "train.learning_rate" in text
    with np.load(saved) as batch:
        np.testing.assert_array_equal(batch["image"], tiny.batch(7)["image"])
    state = state_of(tiny.tmp_path / "run")
    assert state["optimizer/0"] == 6 and all(np.isfinite(value).all() for value in state.values())


def test_a_run_is_not_continued_on_another_backend(tiny, monkeypatch):
    tiny.events = {4: "kill"}
    with pytest.raises(tf.errors.OpError):
        tiny.train(tiny.config())
    tiny.events = {}
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    with pytest.raises(ConfigError, match=r'run\.json: backend: expected "tensorflow", received "jax"'):
        tiny.train(tiny.config())


def test_an_unreadable_image_is_raised_as_it_is(tiny):
    error = ImageError("photos/b.jpg", "premature end of JPEG")
    tiny.events = {4: error}
    with pytest.raises(ImageError, match="photos/b.jpg") as caught:
        tiny.train(tiny.config())
    assert caught.value is error and error.__suppress_context__


def test_out_of_memory_is_told_with_its_cure(tiny, monkeypatch):
    def run_out(self, *args, **kwargs):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr("keras.Model.fit", run_out)
    with pytest.raises(CenterMaskError, match=r"expected memory for train\.batch_size \d+.*, received: OOM"):
        tiny.train(tiny.config())


@pytest.mark.parametrize("gpus", [[], ["one"]])
def test_xla_compiles_the_step_on_a_gpu_only(tiny, monkeypatch, gpus):
    models = []
    build = fit._build_models
    monkeypatch.setattr(fit.tf.config, "list_physical_devices", lambda kind=None: gpus)
    monkeypatch.setattr(fit, "_build_models", lambda *arguments: models.extend(build(*arguments)) or models)
    tiny.train(tiny.config("train.epochs=1"))
    assert models[0].jit_compile is bool(gpus)


@pytest.mark.parametrize("terminal", [False, True])
def test_every_epoch_has_a_line(tiny, terminal):
    tiny.mask_ap = lambda model: 0.5
    tiny.train(tiny.config("train.epochs=2"), terminal=terminal)
    line = r"epoch (\d)/2  heatmap [\d.]+  offset [\d.]+  \d+ img/s  mask AP 0\.500  box AP 0\.500(  best so far)?"
    assert re.findall(line, tiny.output) == [("1", "  best so far"), ("2", "")]
    assert tiny.output.count("in the center cell of another one of its class") == 1
    screen = (tiny.tmp_path / "console").read_text()
    assert ("━━" in screen) == terminal


def test_tensorboard_gets_losses_rate_figures_and_pictures(tiny):
    folder = tiny.train(tiny.config("train.validate_every=2")).run_dir / "tensorboard"
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    steps = {tag: [event.step for event in events.Tensors(tag)] for tag in events.Tags()["tensors"]}
    assert steps["train/heatmap"] == steps["run/learning_rate"] == [3, 6, 9, 12]
    assert steps["validation/mask_ap"] == steps["validation/box_ap"] == steps["validation/examples"] == [6, 12]


def test_losses_of_any_name_are_shown_and_filed_as_training(tiny, monkeypatch):
    build = tiny.build_detector

    def build_renamed(config, **settings):
        model = build(config, **settings)
        model.loss_trackers = [keras.metrics.Mean(name=name) for name in ("mask_area", "novel")]
        return model

    monkeypatch.setattr(fit, "build_detector", build_renamed)
    folder = tiny.train(tiny.config("train.epochs=1")).run_dir / "tensorboard"
    assert re.search(r"epoch 1/1  mask_area [\d.]+  novel [\d.]+  \d+ img/s", tiny.output)
    tags = EventAccumulator(str(folder)).Reload().Tags()["tensors"]
    assert {"train/loss", "train/mask_area", "train/novel", "validation/mask_ap", "run/seconds"} <= set(tags)


def test_a_dataset_without_objects_is_refused(tiny):
    tiny.val_set.crowd[:] = True
    with pytest.raises(CenterMaskError, match=r"expected objects that are not crowds, received none"):
        tiny.train(tiny.config())


def test_a_file_in_the_place_of_tensorboards_folder_is_named(tiny):
    (tiny.tmp_path / "run").mkdir()
    (tiny.tmp_path / "run" / "tensorboard").touch()
    with pytest.raises(CenterMaskError, match=r"tensorboard: expected to write it, received"):
        tiny.train(tiny.config())
