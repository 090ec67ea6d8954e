"""benchmarks/export.py opens every format and scores and times it."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import export as benchmark

from centermask_keras.demo.shapes import make_shapes


@pytest.mark.slow
def test_every_format_gets_a_row_of_figures(demo, tmp_path, monkeypatch, capsys):
    make_shapes(tmp_path, train=1, val=2, hw=(128, 128), seed=1)
    values = json.loads((tmp_path / "val.json").read_text())
    for category, of_model in zip(values["categories"], demo.predictor.categories, strict=True):
        category["name"] = of_model.name
    (tmp_path / "val.json").write_text(json.dumps(values))
    options = {
        "--run": demo.folder.parent / "run",
        "--exported": demo.folder,
        "--annotations": tmp_path / "val.json",
        "--images": tmp_path / "val",
        "--rounds": 1,
        "--json": tmp_path / "figures.json",
    }
    arguments = [str(part) for option in options.items() for part in option]
    monkeypatch.setattr(sys, "argv", ["export.py", *arguments])
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "2")
    benchmark.main()
    rows = json.loads((tmp_path / "figures.json").read_text())
    titles = {"Keras fp32", "SavedModel", "ONNX", "TFLite fp32", "TFLite fp16", "TFLite dynamic", "TFLite int8"}
    assert set(rows) == titles
    printed = capsys.readouterr().out
    assert all(title in printed for title in titles)
    assert all(row["bytes"] > 1e6 and row["milliseconds"] > 0 and "mask_ap" in row for row in rows.values())
    assert rows["SavedModel"]["mask_ap"] == rows["Keras fp32"]["mask_ap"]


def test_the_first_rounds_are_not_counted():
    calls = {"a": [], "b": []}
    found = benchmark.time_rounds({name: lambda name=name: calls[name].append(1) for name in calls}, rounds=3)
    assert set(found) == {"a", "b"} and [len(calls[name]) for name in calls] == [5, 5]
