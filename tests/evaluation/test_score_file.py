"""A file of results is scored without a model, and without what a model needs."""

import json
import subprocess
import sys

import lvis_case
import pytest

from centermask_keras.evaluation.score_file import score_file


@pytest.fixture
def case(tmp_path):
    document, results = lvis_case.make_case()
    for name, content in (("truth", document), ("results", results)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path / "results.json", tmp_path / "truth.json"


def test_the_report_holds_the_figures(case, tmp_path):
    figures = score_file(*case, iou_type="bbox", out=tmp_path / "out")
    document = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert "box_ap_rare" in figures and len(document.pop("per_class")) > 1
    assert document == figures
    assert (tmp_path / "out" / "per_class.csv").is_file()


def test_without_a_folder_nothing_is_written(case, tmp_path):
    before = sorted(tmp_path.iterdir())
    score_file(*case)
    assert sorted(tmp_path.iterdir()) == before


def test_no_framework_is_loaded(case):
    code = (
        "import sys; from pathlib import Path; from centermask_keras.evaluation.score_file import score_file;"
        "score_file(*map(Path, sys.argv[1:])); print(*sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, *map(str, case)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == []
