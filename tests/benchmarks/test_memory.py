"""The short version of `benchmarks/memory.py`: it reads a training after every epoch, and sees what grows."""

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "memory.py"


@pytest.fixture(scope="module")
def memory():
    spec = importlib.util.spec_from_file_location("memory", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_growth_is_that_of_the_second_half(memory):
    readings = [(100, 500.0), (200, 900.0), (300, 910.0), (400, 911.0), (500, 912.0), (600, 913.0)]
    assert memory.growth(readings) == pytest.approx(10.0)


@pytest.mark.slow
def test_a_training_is_read_after_every_epoch(memory, tmp_path):
    readings = memory.measure(tmp_path, steps=100)
    assert [steps for steps, _ in readings] == [25, 50, 75, 100]
    assert all(100 < resident < 4000 for _, resident in readings)
