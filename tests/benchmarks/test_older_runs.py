"""The comparison with an earlier commit sees what differs, what fails and what compares nothing: a row per check."""

import json
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import older_data
import older_runs
from older_runs import Side

UPGRADES = """
import sys
def main(words):
    assert words[:2] == ["config", "--upgrade"]
    open(words[2], "a").write(" new")
"""
CANNOT_UPGRADE = "import sys\ndef main(words):\n    sys.exit(2)\n"
FAILS = "import sys\ndef main(words):\n    print('error: why', file=sys.stderr)\n    sys.exit(1)\n"


def make_side(root: Path, command_line: str) -> Side:
    """Make a checkout that holds a command line alone."""
    (root / "centermask_keras").mkdir(parents=True)
    (root / "centermask_keras" / "__init__.py").touch()
    (root / "centermask_keras" / "cli.py").write_text(command_line)
    (root / "runs").mkdir()
    return Side(root, root / "runs")


@pytest.fixture
def sides(tmp_path) -> tuple[Side, Side]:
    return make_side(tmp_path / "older", CANNOT_UPGRADE), make_side(tmp_path / "new", UPGRADES)


def test_a_copy_of_the_configuration_is_upgraded_where_there_is_a_command(sides, tmp_path):
    path = tmp_path / "small.json"
    path.write_text("old")
    assert [side.copy_config(path).read_text() for side in sides] == ["old", "old new"]
    assert path.read_text() == "old"


def test_a_command_that_fails_and_another_package_are_errors(sides, tmp_path):
    path = tmp_path / "small.json"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="error: why"):
        make_side(tmp_path / "broken", FAILS).copy_config(path)
    with pytest.raises(RuntimeError, match="AssertionError"):
        Side(tmp_path / "older" / "centermask_keras", tmp_path).run("pass")


@pytest.mark.parametrize(
    ("new", "outcome"),
    [
        ({"a": 1.0, "b": np.zeros(3, np.float32)}, "equal"),
        ({"a": 1.0 + 1e-15, "b": np.zeros(3, np.float32)}, "different, 1 of 2: a"),
        ({"a": 1.0, "b": np.zeros(3, np.float64)}, "different, 1 of 2: b"),
        ({"a": 1.0}, "different, 1 of 2: b"),
    ],
)
def test_values_are_compared_bit_for_bit(sides, new, outcome):
    older = {"a": 1.0, "b": np.zeros(3, np.float32)}
    assert older_runs.compare(lambda side: older if side is sides[0] else new, *sides) == outcome


def test_a_check_without_values_does_not_count_as_equal(sides):
    assert older_runs.compare(lambda side: {}, *sides).startswith("different")


def test_every_check_has_a_row(sides, capsys, monkeypatch):
    @contextmanager
    def no_worktree(commit, folder):
        yield folder

    def fail(side):
        raise RuntimeError("why")

    checks = {"fine": lambda side: {"a": 1}, "broken": fail, "other": lambda side: {"a": side.folder.name}}
    monkeypatch.setattr(older_runs, "add_worktree", no_worktree)
    monkeypatch.setattr(older_runs, "PARTS", {"some": lambda older: list(checks.items())[:1]})
    assert older_runs.compare_commit("HEAD", ["some"])
    monkeypatch.setattr(older_runs, "PARTS", {"some": lambda older: checks.items()})
    capsys.readouterr()
    assert not older_runs.compare_commit("HEAD", ["some"])
    rows = capsys.readouterr().out.splitlines()
    assert [row.split(" s  ")[1] for row in rows] == ["equal", "failed: why", "different, 1 of 1: a"]


def test_objects_that_were_found_become_annotations_that_are_nearly_them(tmp_path):
    pixels = np.zeros((20, 30), np.uint8)
    pixels[5:15, 5:15] = 1
    rle = coco_mask.encode(np.asfortranarray(pixels))
    found = {"a.png": {"masks": [{"size": [20, 30], "counts": rle["counts"].decode()}] * 10}}
    (tmp_path / "samples").mkdir()
    older_data.annotate_samples(tmp_path / "nuclei", tmp_path / "samples", found)
    document = json.loads((tmp_path / "nuclei" / "crowds.json").read_text())
    rows = document["annotations"]
    assert [row["bbox"][0] for row in rows] == [6, 7, 8, 5, 7, 8, 5, 6] and {row["area"] for row in rows} == {100}
    assert [row["iscrowd"] for row in rows] == [1, 0, 0, 0, 0, 0, 1, 0]
    assert coco_mask.iou([rows[1]["segmentation"]], [rle], [0])[0, 0] == pytest.approx(80 / 120)
    lvis = json.loads((tmp_path / "nuclei" / "lvis.json").read_text())
    assert len(lvis["annotations"]) == 8 and lvis["images"][0]["not_exhaustive_category_ids"] == [1]
