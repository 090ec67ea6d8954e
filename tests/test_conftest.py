"""What a run says of tests that it left out: a line for each reason, and a failure where nothing may be missing."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

def test_needs_a_package():
    pytest.importorskip("no_such_package")

def test_needs_it_too():
    pytest.importorskip("no_such_package")

@pytest.mark.skipif(True, reason="no mount")
def test_needs_a_right(): ...

def test_needs_photos(coco_tiny): ...
def test_needs_other_photos(nuclei_train): ...
def test_needs_figures(coco_eval_reference): ...
def test_needs_nothing(): ...
"""


@pytest.fixture
def run(tmp_path):
    """Run these tests under this project's conftest.py, and return what is printed."""
    for name in ("conftest.py", "project_files.py"):
        shutil.copy(Path(__file__).with_name(name), tmp_path)
    (tmp_path / "test_all.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "markers=slow", "test_all.py"]

    def run(**environment: str) -> str:
        kept = {key: value for key, value in os.environ.items() if key != "CI" and not key.startswith("PYTEST_")}
        kept |= {"CENTERMASK_DATA": str(tmp_path / "none"), **environment}
        return subprocess.run(command, cwd=tmp_path, env=kept, capture_output=True, text=True).stdout

    return run


def test_reasons_are_a_line_each_and_all_images_are_one_reason(run, tmp_path):
    printed = run()
    assert re.findall(r".*skipped:.*", printed) == [
        "2 tests skipped: could not import 'no_such_package': No module named 'no_such_package'",
        "1 test skipped: no mount",
        f"3 tests skipped: real images not found in {tmp_path / 'none'}; CENTERMASK_DATA names their folder",
    ]
    assert "1 passed, 6 skipped" in printed


def test_a_missing_package_fails_where_nothing_may_be_missing(run):
    printed = run(CI="1")
    assert "2 failed, 1 passed, 4 skipped" in printed
    assert "could not import 'no_such_package'" in printed
