"""Figures -> a table for the terminal, metrics.json and per_class.csv.

Stage: evaluation, its last step. Files keep full floats and -1 for figures that nothing was there to measure.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COLUMNS = {"AP": "ap", "AP50": "ap50", "AP75": "ap75", "small": "ap_small", "medium": "ap_medium", "large": "ap_large"}
KINDS = {
    name: title
    for kind in ("mask", "box", "boundary")
    for name, title in {kind: kind, f"{kind}_at_100": "  best 100"}.items()
}
"""What figures begin with -> the title of their line. COCO counts the best 100 results of each image."""
LVIS_COLUMNS = {"rare": "ap_rare", "common": "ap_common", "freq.": "ap_frequent"}


def figure_table(figures: Mapping[str, float]) -> str:
    """Lay out the average precisions, a line each for masks, boxes and boundaries, and one below for COCO's best 100.

    Args:
        figures: as `evaluate_coco` gives them, `mask_...`, `box_...`, `boundary_...`, or several in one.

    Returns:
        Lines without a final line break; a figure of -1 (no object to find) shows as `-`.
    """
    columns = COLUMNS | LVIS_COLUMNS if any(name.endswith("_ap_rare") for name in figures) else COLUMNS
    lines = [" " * 16 + "".join(f"{title:<7}" for title in columns).rstrip()]
    for kind, title in KINDS.items():
        if f"{kind}_ap" in figures:
            cells = [_cell(figures[f"{kind}_{key}"]) for key in columns.values()]
            lines.append(f"{title:<16}" + "".join(f"{cell:<7}" for cell in cells).rstrip())
    return "\n".join(lines)


def report_files(out_dir: Path) -> tuple[Path, Path]:
    """Return the files that `write_report` writes."""
    return out_dir / "metrics.json", out_dir / "per_class.csv"


def write_report(
    out_dir: str | Path, figures: Mapping[str, float], per_class: Sequence[Mapping[str, Any]]
) -> tuple[Path, Path]:
    """Write `metrics.json` (the figures, and the rows under `per_class`) and `per_class.csv`.

    Args:
        out_dir: folder of the files; it is made.
        figures: name -> figure.
        per_class: one row per class, all with the same keys.

    Returns:
        The two files.
    """
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    metrics, table = report_files(out_dir)
    document = {**figures, "per_class": [dict(row) for row in per_class]}
    metrics.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(per_class[0]) if per_class else [])
        writer.writeheader()
        writer.writerows(per_class)
    return metrics, table


def _cell(figure: float) -> str:
    return "-" if figure == -1 else f"{figure:.3f}"
