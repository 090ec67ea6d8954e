"""Training from Python: a file or a configuration, strings or paths, and callbacks of the caller."""

import hashlib
import json

import keras
import pytest
import tensorflow as tf
from run_files import metrics_of, state_of

import centermask_keras as cm
from centermask_keras.errors import CenterMaskError, ConfigError


class Caller(keras.callbacks.Callback):
    """A callback of the caller: writes down what it sees, and ends the training after a step or an epoch."""

    def __init__(self, *, last_step: int | None = None, last_epoch: int | None = None):
        super().__init__()
        self.last_step, self.last_epoch = last_step, last_epoch
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = batch + 1 == self.last_step

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append((epoch + 1, logs.get("mask_ap")))
        if epoch + 1 == self.last_epoch:
            self.model.stop_training = True


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["text", "path"])
def test_files_and_folders_are_texts_or_paths(tiny, kind):
    path = tiny.tmp_path / "my.json"
    path.write_text(tiny.config("train.epochs=1").to_json())
    first = cm.train(kind(path), run_dir=kind(tiny.tmp_path / "first"))
    assert json.loads((first.run_dir / "run.json").read_text())["name"] == str(path)
    again = cm.train(kind(path), run_dir=kind(tiny.tmp_path / "again"), weights=kind(first.run_dir))
    assert again.run_dir == tiny.tmp_path / "again" and again.epochs == 1


def test_errors_name_the_file_or_the_configuration(tiny):
    path = tiny.tmp_path / "my.json"
    wrong = tiny.config("model.num_classes=80")
    path.write_text(wrong.to_json())
    for config, name in ((path, str(path)), (wrong, "configuration")):
        with pytest.raises(ConfigError) as caught:
            cm.train(config, run_dir=tiny.tmp_path / "run")
        assert str(caught.value).startswith(f"{name}: model.num_classes: expected 5")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"callbacks": None}, "callbacks: expected a list of Keras callbacks, received None"),
        ({"callbacks": Caller()}, "callbacks: expected a list of Keras callbacks, received <"),
        ({"callbacks": [print]}, "callbacks: expected a list of Keras callbacks, received .<built-in function print>"),
        ({"processes": -1}, "processes: expected a number of at least 0, received -1"),
        ({"processes": "2"}, "processes: expected a number of at least 0, received '2'"),
    ],
)
def test_wrong_arguments_are_refused_before_the_folder_is_touched(tiny, arguments, message):
    run_dir = tiny.tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "model.weights.h5").write_bytes(b"an earlier run")
    with pytest.raises(CenterMaskError, match=message):
        cm.train(tiny.config(), run_dir=run_dir, overwrite=True, **arguments)
    assert [path.name for path in run_dir.iterdir()] == ["model.weights.h5"]


def test_a_run_may_begin_anew_with_its_own_weights(tiny):
    folder = tiny.train(tiny.config("train.epochs=1")).run_dir
    weights = (folder / "model.weights.h5").read_bytes()
    again = cm.train(tiny.config("train.epochs=1"), run_dir=folder, weights=folder, overwrite=True)
    record = json.loads((again.run_dir / "run.json").read_text())
    assert record["initial_weights"]["sha256"] == hashlib.sha256(weights).hexdigest()


def test_callbacks_come_after_those_of_the_library(tiny):
    caller = Caller()
    folder = tiny.train(tiny.config("train.validate_every=2"), callbacks=[caller]).run_dir
    assert caller.seen == [(row["epoch"], row.get("mask_ap")) for row in metrics_of(folder)]
    assert [bool(ap) for _, ap in caller.seen] == [False, True, False, True]


def test_a_callback_ends_the_call_and_the_next_one_continues(tiny):
    whole = tiny.train(tiny.config(), run="whole")
    result = tiny.train(tiny.config(), run="parts", callbacks=[Caller(last_epoch=2)])
    assert result.epochs == 2 and not json.loads((result.run_dir / "run.json").read_text())["finished"]
    tiny.train(tiny.config(), run="parts")
    assert metrics_of(result.run_dir) == metrics_of(whole.run_dir)
    assert json.loads((result.run_dir / "run.json").read_text())["finished"]


def test_a_callback_that_ends_the_rest_of_an_epoch_ends_the_call(tiny):
    every_step = tiny.config("train.save.every=1", "train.save.unit=steps")
    tiny.events = {2: "kill"}
    with pytest.raises(tf.errors.OpError):
        tiny.train(every_step)
    tiny.events = {}
    assert tiny.train(every_step, callbacks=[Caller(last_epoch=1)]).epochs == 1
    assert "continues after step 2" in tiny.output


def test_a_callback_before_the_first_validation_leaves_no_best(tiny):
    result = tiny.train(tiny.config("train.validate_every=4"), callbacks=[Caller(last_epoch=1)])
    assert (result.best_mask_ap, result.best_epoch) == (None, 0)


def test_a_callback_that_ends_an_epoch_early_is_an_error(tiny):
    """The state holds whole steps of whole epochs: what was saved before stays."""
    with pytest.raises(
        CenterMaskError, match=r"step 2: expected callbacks to set model\.stop_training in on_epoch_end"
    ):
        tiny.train(tiny.config(), callbacks=[Caller(last_step=2)])
    assert not tiny.evaluated and "step" not in state_of(tiny.tmp_path / "run")
    assert tiny.train(tiny.config()).epochs == 4
