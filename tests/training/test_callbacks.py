"""What callbacks say and stop at, one by one; `test_fit.py` looks at all of them together."""

import io

import numpy as np
import pytest
from rich.console import Console

from centermask_keras.data.samples.sample import SampleCounters
from centermask_keras.errors import CenterMaskError
from centermask_keras.training import callbacks, display
from centermask_keras.training.callbacks import EpochFigures, StopOnNonFiniteLoss
from centermask_keras.training.display import TrainingDisplay
from centermask_keras.training.schedule import StepDrops
from centermask_keras.training.state import RunProgress


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests set, in the place of the real one."""
    time = {"now": 1000.0}
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: time["now"])
    return time


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_any_loss_that_is_not_finite_stops(tiny, tmp_path, value):
    run = tiny.run(tiny.config(), losses=("mask",), progress=RunProgress(epoch=2, step=24))
    guard = StopOnNonFiniteLoss(run)
    guard.on_train_batch_end(4, {"loss": 1.0, "mask": 2.0})
    run.progress.step = 25
    with pytest.raises(CenterMaskError, match=r"step 25 \(epoch 3\).*loss 1  mask (nan|inf|-inf)\. Its batch: "):
        guard.on_train_batch_end(5, {"loss": 1.0, "mask": value})
    with np.load(tmp_path / "nan_batch_step_25.npz") as batch:
        np.testing.assert_array_equal(batch["image"], tiny.batch(25)["image"])


def test_rate_and_speed_of_an_epoch(tiny, clock):
    schedule = StepDrops(1.0, (2,), 0.1, 10)
    run = tiny.run(tiny.config("train.batch_size=4"), steps_per_epoch=10)
    figures = EpochFigures(run, schedule)
    for epoch, rate, before in ((0, 1.0, 0.0), (1, 1.0, 2.0), (2, 0.1, 0.0)):
        run.progress.epoch_seconds = before  # a part of the second epoch was trained before a restart
        run.progress.step = 10 * epoch + 10
        figures.on_epoch_begin(epoch)
        clock["now"] += 5 - before
        figures.on_train_batch_end(9)
        clock["now"] += 1  # what other callbacks take
        logs = {}
        figures.on_epoch_end(epoch, logs)
        assert logs == pytest.approx({"learning_rate": rate, "seconds": 5.0, "images_per_second": 8.0})


def test_bar_leaves_the_compiling_batch_out_of_speed_and_eta(tiny, clock):
    """Of 2 epochs of 50 batches: 0.5 s each after the first, at 4 images; 98 are left, one of 40 s compiling is not."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=160)
    run = tiny.run(tiny.config("train.epochs=2", "train.batch_size=4"), steps_per_epoch=50, losses=("heatmap", "mask"))
    with TrainingDisplay(run, console) as shown:
        shown.on_epoch_begin(0)
        for batch, seconds in ((0, 40.0), (1, 0.5)):
            clock["now"] += seconds
            run.progress.step += 1
            shown.on_train_batch_end(batch, {"loss": 9.0, "heatmap": 0.61234, "mask": 0.0712})
    assert "heatmap 0.612  mask 0.0712  8 img/s  eta 0:49" in text.getvalue()


def test_validation_slows_the_eta_and_not_the_speed(tiny, clock):
    """A second epoch at 1 s per step after 30 s of validation: 4 img/s; 3 steps in 32 s, so 64 s for 6 more."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=160)
    run = tiny.run(tiny.config("train.epochs=5", "train.batch_size=4"), steps_per_epoch=2)
    with TrainingDisplay(run, console) as shown:
        for epoch in (0, 1):
            shown.on_epoch_begin(epoch)
            for batch in (0, 1):
                clock["now"] += 1
                run.progress.step += 1
                shown.on_train_batch_end(batch, {"heatmap": 0.5})
            clock["now"] += 29 if epoch == 0 else 0
    assert "4 img/s  eta 1:04" in text.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (3599, "59:59"), (36061, "10:01:01")])
def test_clock(seconds, text):
    assert display._clock(seconds) == text


def test_what_the_pipeline_left_out_is_told():
    counters = SampleCounters(samples=1200, objects=5000, collisions=3, too_small=40)
    for number in range(12):
        counters.add_skipped(f"{number}.jpg")
    assert display._samples_text(counters.to_dict()).splitlines() == [
        "read so far: 5,000 objects in 1,200 images; left out: 3 in the center cell of another one of its class, "
        "40 outside of the crop or under 1 px in it",
        "skipped, not readable: " + ", ".join(f"{number}.jpg" for number in range(10)) + " and 2 more",
    ]
    nothing = display._samples_text(SampleCounters(samples=2, objects=5).to_dict())
    assert nothing == "read so far: 5 objects in 2 images; none left out"
