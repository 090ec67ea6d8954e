"""When a run validates, and when it is over."""

import pytest

from centermask_keras.training.run import Run
from centermask_keras.training.state import RunProgress


@pytest.mark.parametrize(
    ("patience", "epoch", "without_better", "over"),
    [("null", 8, 8, False), ("null", 9, 0, True), ("3", 5, 2, False), ("3", 5, 3, True), ("3", 9, 0, True)],
)
def test_a_run_is_over_after_its_last_epoch_or_out_of_patience(tiny, patience, epoch, without_better, over):
    progress = RunProgress(epoch=epoch, validations_since_best=without_better)
    run: Run = tiny.run(tiny.config("train.epochs=9", f"train.patience={patience}"), progress=progress)
    assert run.is_over is over


def test_every_third_epoch_and_the_last_one_are_validated(tiny):
    run = tiny.run(tiny.config("train.epochs=8", "train.validate_every=3"))
    assert [epoch for epoch in range(1, 9) if run.validates_after(epoch)] == [3, 6, 8]
