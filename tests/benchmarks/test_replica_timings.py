"""The benchmark of replicas runs every case, in a process of its own: it splits the CPU before TensorFlow starts."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_case_is_timed(coco_tiny):
    small = ["--batch-size", "2", "--steps", "1", "--rounds", "1"]
    command = [sys.executable, str(ROOT / "benchmarks" / "replicas.py"), "--data", str(coco_tiny), *small]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    cases = re.findall(r"^([12]) replicas? from (image files|shards): ([\d.]+) images/s$", done.stdout, re.MULTILINE)
    assert [case[:2] for case in cases] == [(n, storage) for n in "12" for storage in ("image files", "shards")]
    assert all(float(case[2]) > 0 for case in cases)
    assert len(re.findall(r": [\d.]+, median of each round's$", done.stdout, re.MULTILINE)) == 4
