"""A run that is stopped at any point and continued equals, bit for bit, one that is not; patience; a full disk."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from run_files import TIMES, distance, metrics_of, state_of, states_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from centermask_keras.errors import CenterMaskError, ConfigError, InterruptedTraining
from centermask_keras.training import checkpoints, fit, tensorboard
from centermask_keras.training.checkpoints import Checkpoints
from centermask_keras.training.distribution import Replicas
from centermask_keras.training.run_folder import RunFolder
from centermask_keras.training.state import StateFiles

EVERY_STEP = ["train.save.every=1", "train.save.unit=steps"]
OPTIONS = {
    "plain": ["train.ema_decay=null", "train.clip_norm=null"],
    "average and clipping": ["train.ema_decay=0.9", "train.clip_norm=0.5"],
    "accumulation": ["train.ema_decay=0.9", "train.accumulation_steps=2"],
}


def events_of(folder):
    """Steps and values of what is on TensorBoard, in the order of their writing, restarts and all.

    The reader orders files by name, and those of one second wrongly: "10" stands before "9".
    """
    events = EventAccumulator(str(folder / "tensorboard"), {"tensors": 0}, purge_orphaned_data=False).Reload()
    tags = [tag for tag in events.Tags()["tensors"] if tag.removeprefix("run/") not in TIMES]
    return {
        tag: [
            (event.step, event.tensor_proto.SerializeToString())
            for event in sorted(events.Tensors(tag), key=lambda event: event.wall_time)
        ]
        for tag in tags
    }


def assert_same_run(one, other):
    """Hold two run folders to the same metrics, state, best weights and events."""
    assert metrics_of(one) == metrics_of(other)
    assert events_of(one) == events_of(other)
    before, now = state_of(one), state_of(other)
    assert before.keys() == now.keys()
    for key in before:
        np.testing.assert_array_equal(now[key], before[key], err_msg=key)
    best = [json.loads((folder / "run.json").read_text())["best"] for folder in (one, other)]
    assert best[0] == best[1]


def assert_same_weights(tiny):
    for one, other in zip(tiny.saved_weights("whole"), tiny.saved_weights("parts"), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_killed_between_epochs(tiny, options):
    config = tiny.config(*options)
    whole = tiny.train(config, run="whole")
    for step in (1, 7):  # in the first epoch, and in the third
        tiny.events = {step: "kill"}
        with pytest.raises(tf.errors.OpError, match="killed"):
            tiny.train(config, run="parts")
    tiny.events = {}
    parts = tiny.train(config, run="parts")
    assert "continues after step 6" in tiny.output
    assert (parts.best_mask_ap, parts.best_epoch, parts.epochs) == (
        whole.best_mask_ap,
        whole.best_epoch,
        whole.epochs,
    )
    assert_same_run(tiny.tmp_path / "whole", tiny.tmp_path / "parts")
    assert_same_weights(tiny)


def test_killed_at_every_step(tiny):
    """A state after every step: each start gets one batch further, also from the last batch of an epoch."""
    options = [*OPTIONS["accumulation"], "train.epochs=3"]
    tiny.train(tiny.config(*options), run="whole")  # which saves at other times
    config = tiny.config(*options, *EVERY_STEP)
    for step in range(1, 9):
        tiny.events = {step: "kill"}
        with pytest.raises(tf.errors.OpError, match="killed"):
            tiny.train(config, run="parts")
    tiny.events = {}
    tiny.train(config, run="parts")
    assert "continues after step 8" in tiny.output
    assert_same_run(tiny.tmp_path / "whole", tiny.tmp_path / "parts")
    assert_same_weights(tiny)
    starts = json.loads((tiny.tmp_path / "parts" / "run.json").read_text())["starts"]
    assert [start["step"] for start in starts] == list(range(9))


@pytest.mark.slow
def test_a_run_with_initial_weights_continues_only_with_them(tiny):
    file = tiny.train(tiny.config()).run_dir / "model.weights.h5"
    whole = tiny.train(tiny.config(), run="whole", weights=file)
    tiny.events = {7: "kill"}
    with pytest.raises(tf.errors.OpError):
        tiny.train(tiny.config(), run="parts", weights=file)
    tiny.events = {}
    with pytest.raises(ConfigError, match=r"run\.json: initial_weights\.file: expected .*, received nothing"):
        tiny.train(tiny.config(), run="parts")
    assert_same_run(whole.run_dir, tiny.train(tiny.config(), run="parts", weights=file).run_dir)


def test_killed_in_a_validation(tiny):
    """The state is saved before it: its scoring may take longer than a scheduler waits."""
    config = tiny.config("train.epochs=3")
    tiny.train(config, run="whole")

    def die():
        raise KeyboardInterrupt

    tiny.evaluating = die
    for _ in range(2):  # the second start has nothing to do but to validate
        with pytest.raises(KeyboardInterrupt):
            tiny.train(config, run="parts")
    tiny.evaluating = lambda: None
    tiny.train(config, run="parts")
    assert "continues after step 3" in tiny.output
    assert_same_run(tiny.tmp_path / "whole", tiny.tmp_path / "parts")
    assert_same_weights(tiny)


@pytest.mark.parametrize(
    ("moment", "owner", "victim", "call"),
    [
        pytest.param("before", RunFolder, "save_weights", 2, marks=pytest.mark.slow),
        pytest.param("before", RunFolder, "update_record", 2, marks=pytest.mark.slow),  # the one of the start
        ("before", RunFolder, "append_metrics", 2),
        ("before", StateFiles, "save", 4),  # at the end of the second epoch; the third is before its validation
        ("after", StateFiles, "save", 4),
    ],
)
def test_killed_between_two_files(tiny, monkeypatch, moment, owner, victim, call):
    config = tiny.config("train.epochs=2")
    start = tiny.initial_weights()
    tiny.mask_ap = lambda model: distance(model.get_weights(), start)  # rises: weights are written in every epoch
    assert tiny.train(config, run="whole").best_epoch == 2
    with monkeypatch.context() as patch:
        write, calls = getattr(owner, victim), []

        def die(self, *args, **kwargs):
            calls.append(1)
            now = len(calls) == call
            if moment == "after" or not now:
                write(self, *args, **kwargs)
            if now:
                raise KeyboardInterrupt

        patch.setattr(owner, victim, die)
        with pytest.raises(KeyboardInterrupt):
            tiny.train(config, run="parts")
    tiny.train(config, run="parts")
    assert_same_run(tiny.tmp_path / "whole", tiny.tmp_path / "parts")
    assert_same_weights(tiny)


@pytest.mark.parametrize(("every", "file"), [(1, "step 9"), (2, r"model\.weights\.h5")])
def test_weights_that_are_not_finite_are_not_saved(every, file, tiny, monkeypatch):
    """The loss of their step still is; the third epoch is saved for itself, or only as the best so far."""
    config = tiny.config("train.ema_decay=null", f"train.save.every={every}")
    start = tiny.initial_weights()
    tiny.mask_ap = lambda model: np.nan_to_num(distance(model.get_weights(), start), nan=1e9)  # rises
    tiny.train(config, run="whole")
    count = Checkpoints.on_train_batch_end

    def overflow(self, batch, logs=None):
        if self._run.progress.step == 8:
            self.model.trainable_variables[0].assign(np.full((4, 6), np.nan))
        count(self, batch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "on_train_batch_end", overflow)
        with pytest.raises(CenterMaskError, match=rf"{file}: expected finite weights .* NaN or infinity in 1 of \d+ "):
            tiny.train(config, run="parts")
    assert state_of(tiny.tmp_path / "parts")["step"] == 6
    assert all(np.isfinite(weights).all() for weights in tiny.saved_weights("parts"))
    tiny.train(config, run="parts")
    assert "continues after step 6" in tiny.output
    assert_same_run(tiny.tmp_path / "whole", tiny.tmp_path / "parts")
    assert_same_weights(tiny)


def test_a_damaged_state_costs_the_steps_since_the_one_before(tiny):
    tiny.train(tiny.config("train.epochs=3"), run="whole")
    config = tiny.config("train.epochs=3", *EVERY_STEP)
    tiny.events = {5: "kill"}
    with pytest.raises(tf.errors.OpError):
        tiny.train(config, run="parts")
    newest = states_of(tiny.tmp_path / "parts")[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    tiny.events = {}
    tiny.train(config, run="parts")
    assert f"{newest.name} is damaged" in tiny.output and "continues after step 4" in tiny.output
    assert_same_run(tiny.tmp_path / "whole", tiny.tmp_path / "parts")


@pytest.mark.slow
def test_sigterm_saves_and_ends_in_an_epoch_and_in_a_validation(tiny):
    config = tiny.config("train.epochs=3")
    tiny.train(config, run="whole")
    tiny.events = {1: "terminate"}
    with pytest.raises(InterruptedTraining, match="stopped by SIGTERM after step [12]; the same command continues"):
        tiny.train(config, run="parts")
    tiny.events = {}
    tiny.evaluating = lambda: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(InterruptedTraining, match="after step 3"):
        tiny.train(config, run="parts")
    assert state_of(tiny.tmp_path / "parts")["epoch"] == 0
    tiny.evaluating = lambda: None
    tiny.train(config, run="parts")
    assert "continues after step 3" in tiny.output
    assert_same_run(tiny.tmp_path / "whole", tiny.tmp_path / "parts")
    assert_same_weights(tiny)


def test_sigterm_before_the_first_step_is_heeded(tiny, monkeypatch):
    """TensorFlow's strategy for workers leaves a handler behind that swallows it."""
    build = fit._build_models

    def terminated(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return build(*arguments)

    monkeypatch.setattr(fit, "_build_models", terminated)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with pytest.raises(InterruptedTraining, match="after step 1"):
            tiny.train(tiny.config())
    finally:
        signal.signal(signal.SIGTERM, before)


class Together(Replicas):
    """A worker that others tell what to do: `asked` answers its questions in turn, then with no."""

    asked: Iterator[bool] = iter(())

    def any_worker(self, flag):
        return next(self.asked, False)

    def of_chief(self, value):
        return value / 2


def test_what_another_worker_wants_is_done_here(tiny, monkeypatch):
    """Its clock is due after the second step, its SIGTERM comes in the validation after the third."""
    monkeypatch.setattr(fit, "start_replicas", lambda config, name: nullcontext(Together()))
    asked = [False, *(False, False), *(False, True), False, True]  # at the start; of stops and saves in turn
    monkeypatch.setattr(Together, "asked", iter(asked))
    saved, write = [], StateFiles.save
    monkeypatch.setattr(StateFiles, "save", lambda self, *of: (saved.append(of[0].step), write(self, *of)))
    config = tiny.config("train.epochs=2", "train.save.every=9", "train.save.unit=minutes")
    with pytest.raises(InterruptedTraining, match="after step 3"):
        tiny.train(config)
    assert saved == [2, 3, 3]  # before the validation, and in it
    tiny.mask_ap = lambda model: 0.5
    assert tiny.train(config).best_mask_ap == 0.25  # the chief's
    assert saved == [2, 3, 3, 3, 6, 6]


@pytest.mark.parametrize(
    ("save", "saved"),
    [
        # The best and the last epoch are always saved; what is saved anyway also before its validation.
        (["train.save.every=2"], [(1, 3), (1, 6), (2, 6), (3, 12), (4, 12), (4, 15), (5, 15)]),
        (
            ["train.save.every=4", "train.save.unit=steps"],
            [(0, 3), (1, 3), (1, 4), (1, 6), (2, 6), (2, 8), (2, 9), (3, 9)],
        ),
        (
            ["train.save.every=2", "train.save.unit=minutes"],
            [(0, 2), (0, 3), (1, 3), (1, 5), (1, 6), (2, 6), (2, 8), (2, 9), (3, 9)],
        ),
    ],
    ids=["epochs", "steps", "minutes"],
)
def test_saves_by_epochs_steps_and_minutes(tiny, monkeypatch, save, saved):
    """A clock that moves on by a minute with every step; epochs of three steps."""
    points = []
    write = StateFiles.save
    monkeypatch.setattr(
        StateFiles,
        "save",
        lambda self, progress, variables: (
            points.append((progress.epoch, progress.step)),
            write(self, progress, variables),
        ),
    )
    clock = {"now": 0.0}
    monkeypatch.setattr(checkpoints.time, "perf_counter", lambda: clock["now"])
    count = Checkpoints.on_train_batch_end

    def count_a_minute_later(self, batch, logs=None):
        clock["now"] += 60
        count(self, batch, logs)

    monkeypatch.setattr(Checkpoints, "on_train_batch_end", count_a_minute_later)
    tiny.mask_ap = lambda model: 0.5
    epochs = 5 if "unit" not in save[-1] else 3
    tiny.train(tiny.config(f"train.epochs={epochs}", *save))
    assert points == saved


@pytest.mark.parametrize("every", [1, 2, 9])
def test_seconds_are_those_of_all_epochs(every, tiny, monkeypatch):
    """Whether saved or not: a clock moves in the validations alone."""
    now = [100.0]
    monkeypatch.setattr(checkpoints, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    tiny.evaluating = lambda: now.append(now.pop() + 10)
    tiny.mask_ap = lambda model: 0.5
    result = tiny.train(tiny.config(f"train.save.every={every}"))
    assert result.seconds == 40.0 == RunFolder(result.run_dir).read_record()["seconds"]


def test_the_best_weights_are_never_those_of_a_lost_branch(tiny):
    """Where steps are not repeated bit for bit, the APs after a kill are others than before."""
    scripted = iter([0.1, 0.2, 0.9, 0.15, 0.12])
    tiny.mask_ap = lambda model: next(scripted)
    tiny.events = {10: "kill"}  # after the best epoch, before its turn to be saved
    config = tiny.config("train.save.every=2")
    with pytest.raises(tf.errors.OpError):
        tiny.train(config)
    best = tiny.saved_weights()
    tiny.events = {}
    result = tiny.train(config)
    record = RunFolder(result.run_dir).read_record()["best"]
    assert (result.best_mask_ap, result.best_epoch) == (0.9, 3) == (record["mask_ap"], record["epoch"])
    for before, now in zip(best, tiny.saved_weights(), strict=True):
        np.testing.assert_array_equal(before, now)


def test_patience_ends_a_run(tiny):
    scripted = iter([0.2, 0.5, 0.3, 0.5, 0.6])
    tiny.mask_ap = lambda model: next(scripted)
    result = tiny.train(tiny.config("train.epochs=9", "train.patience=2"))
    assert (result.best_mask_ap, result.best_epoch, result.epochs) == (0.5, 2, 4)
    assert len(metrics_of(result.run_dir)) == 4
    with pytest.raises(ConfigError, match="received a finished one"):
        tiny.train(tiny.config("train.epochs=9", "train.patience=2"))


def test_patience_survives_a_kill(tiny, monkeypatch):
    config = tiny.config("train.epochs=9", "train.patience=2")
    aps = [0.2, 0.5, 0.3, 0.4, 0.6]
    tiny.mask_ap = lambda model: aps[len(tiny.evaluated) - 1]
    tiny.events = {10: "kill"}  # after three validations
    with pytest.raises(tf.errors.OpError):
        tiny.train(config)
    with monkeypatch.context() as patch:
        write = StateFiles.save

        def die(self, progress, variables):
            write(self, progress, variables)
            if progress.epoch == 4:
                raise KeyboardInterrupt

        tiny.events = {}
        patch.setattr(StateFiles, "save", die)
        with pytest.raises(KeyboardInterrupt):
            tiny.train(config)  # the last epoch is saved, but the run does not know that it is over
    result = tiny.train(config)
    assert (result.best_mask_ap, result.best_epoch, result.epochs) == (0.5, 2, 4)
    assert len(tiny.evaluated) == 4 and RunFolder(result.run_dir).read_record()["finished"] is True


def fill(filler):
    """Leave no room on the disk of a file."""
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(512))


def test_a_picture_that_finds_no_room_stops_the_run(tiny, small_disk, monkeypatch):
    """TensorFlow drops a record of more than 4 KiB without a word, even if there is room again a moment later."""
    pictures = np.random.default_rng(0).integers(0, 256, (4, 100, 100, 3), np.uint8)
    filler = small_disk / "filler"
    write = tensorboard.TensorBoardWriter._write

    def write_and_make_room(self, *arguments):
        try:
            return write(self, *arguments)
        finally:
            filler.unlink(missing_ok=True)

    monkeypatch.setattr(tensorboard, "draw_examples", lambda *_, count: pictures[len(tiny.evaluated) - 1])
    config = tiny.config()
    tiny.train(config, run="whole")
    tiny.evaluated.clear()
    with monkeypatch.context() as patch:
        patch.setattr(tensorboard, "draw_examples", lambda *_, count: full_at_the_third(tiny, pictures, filler))
        patch.setattr(tensorboard.TensorBoardWriter, "_write", write_and_make_room)
        with pytest.raises(CenterMaskError, match=r"tensorboard: expected to write it, received"):
            tiny.train(config, run="disk/parts")
    del tiny.evaluated[2:]
    tiny.train(config, run="disk/parts")
    assert_same_run(tiny.tmp_path / "whole", small_disk / "parts")


def full_at_the_third(tiny, pictures, filler):
    """Draw a picture; the disk is full from the third one on."""
    if len(tiny.evaluated) == 3:
        fill(filler)
    return pictures[len(tiny.evaluated) - 1]


def test_a_full_disk_stops_and_leaves_the_last_good_state(tiny, small_disk):
    """The disk is full from the eighth batch on: the third epoch cannot be written."""
    config = tiny.config("train.epochs=4")
    tiny.train(config, run="whole")
    filler = small_disk / "filler"
    tiny.events = {7: lambda: fill(filler)}
    with pytest.raises(CenterMaskError, match=r"expected to write it, received: No space left on device\. "):
        tiny.train(config, run="disk/parts")
    before = state_of(small_disk / "parts")
    assert before["epoch"] == 2 and not list((small_disk / "parts").glob("partial.*"))
    tiny.events = {}
    with pytest.raises(CenterMaskError, match="expected to write it"):  # still full
        tiny.train(config, run="disk/parts")
    filler.unlink()
    tiny.train(config, run="disk/parts")
    assert_same_run(tiny.tmp_path / "whole", small_disk / "parts")
