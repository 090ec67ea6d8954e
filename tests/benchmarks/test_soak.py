"""The soak with few kills, on the real detector and the real command."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import soak


@pytest.mark.slow
def test_killed_three_times_equals_left_alone(tmp_path):
    counts = soak.soak(tmp_path, kills=3)
    assert counts == {("written", "state"): 1, ("step", ""): 1, ("flushed", "state"): 1}
    shutil.copytree(tmp_path / "whole", tmp_path / "other")
    metrics = tmp_path / "other" / "metrics.csv"
    metrics.write_text(metrics.read_text().replace("1,", "2,", 1))
    assert soak.compare_runs(tmp_path / "whole", tmp_path / "other") == ["metrics.csv"]
