"""The report: files hold full floats, the table lines up under its titles."""

import csv
import json

from centermask_keras.evaluation.report import COLUMNS, LVIS_COLUMNS, figure_table, write_report

FIGURES = {f"{kind}_{key}": 0.1 + 1 / 3 for kind in ("mask", "box") for key in COLUMNS.values()}
ROWS = [
    {"category_id": 3, "name": "traffic light, red", "objects": 7, "mask_ap": 2 / 3, "box_ap": 0.5},
    {"category_id": 9, "name": "tôast", "objects": 0, "mask_ap": -1.0, "box_ap": -1.0},
]


def test_files_hold_what_was_given(tmp_path):
    metrics, table = write_report(tmp_path / "new" / "eval", FIGURES, ROWS)
    assert (metrics.name, table.name) == ("metrics.json", "per_class.csv")
    document = json.loads(metrics.read_text(encoding="utf-8"))
    assert document.pop("per_class") == ROWS
    assert document == FIGURES
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [row["name"] for row in ROWS]
    assert [float(row["mask_ap"]) for row in rows] == [2 / 3, -1]


def test_report_without_classes(tmp_path):
    metrics, table = write_report(tmp_path, FIGURES, [])
    assert json.loads(metrics.read_text())["per_class"] == []
    assert table.read_text().strip() == ""


def test_table_shows_three_places_under_each_title():
    lines = figure_table({**FIGURES, "mask_ap_large": -1.0, "box_ap": 0.0, "box_ar100": 0.5}).splitlines()
    title, mask, box = lines
    assert title.split() == list(COLUMNS)
    assert mask.split() == ["mask", *["0.433"] * 5, "-"]
    assert box.split() == ["box", "0.000", *["0.433"] * 5]
    for name, cell in zip(COLUMNS, mask.split()[1:], strict=True):
        assert mask[title.index(f"{name} " if name == "AP" else name) :].startswith(cell)


def test_table_of_one_kind_has_one_line():
    figures = {key: value for key, value in FIGURES.items() if key.startswith("box")}
    assert [line.split()[0] for line in figure_table(figures).splitlines()] == ["AP", "box"]


def test_table_has_a_second_line_for_the_best_100():
    figures = FIGURES | {f"mask_at_100_{key}": 0.25 for key in COLUMNS.values()}
    lines = figure_table(figures).splitlines()
    assert [line.split()[0] for line in lines] == ["AP", "mask", "best", "box"]
    assert lines[2].split() == ["best", "100", *["0.250"] * 6]


def test_table_of_lvis_has_the_frequencies_as_well():
    figures = (
        FIGURES
        | {f"mask_{key}": 0.25 for key in LVIS_COLUMNS.values()}
        | {f"box_{key}": -1.0 for key in LVIS_COLUMNS.values()}
    )
    title, mask, box = figure_table(figures).splitlines()
    assert title.split() == [*COLUMNS, *LVIS_COLUMNS]
    assert mask.split()[-3:] == ["0.250"] * 3 and box.split()[-3:] == ["-"] * 3
