"""The short version of `benchmarks/memory.py`: it reads a training after every epoch, and sees what grows."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import memory


def test_growth_is_that_of_the_second_half():
    readings = [(100, 500.0), (200, 900.0), (300, 910.0), (400, 911.0), (500, 912.0), (600, 913.0)]
    assert memory.growth(readings) == pytest.approx(10.0)


@pytest.mark.slow
def test_a_training_is_read_after_every_epoch_and_keeps_no_weights(tmp_path):
    """A copy of the 5 MB of weights that every step leaves behind would be 5,000 MB per 1,000 steps; measured: 33."""
    readings = memory.measure(tmp_path, steps=300)
    assert [steps for steps, _ in readings] == list(range(25, 325, 25))
    assert memory.growth(readings) < 300
