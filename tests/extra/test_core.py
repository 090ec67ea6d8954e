"""The core loads nothing of `extra`: training on one machine, evaluation, prediction, export to TFLite and ONNX."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from project_files import ROOT


@pytest.mark.slow
def test_commands_of_the_core_load_nothing_of_extra(tmp_path):
    case = Path(__file__).with_name("core_case.py")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    done = subprocess.run(
        [sys.executable, str(case), str(tmp_path)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("loaded: ")]
    *core, saved_model = lines
    commands = ["data", "train", "train", "evaluate", "predict", "export", "export"]
    assert [line[0] for line in core] == commands
    assert not [line for line in core if len(line) > 2]
    assert "centermask_keras.extra.in_graph.image_files" in saved_model
