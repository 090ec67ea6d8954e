"""The demo: generate a dataset, train a small CenterMask on it, evaluate, draw. One command, minutes on a laptop."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console

from centermask_keras import shipped
from centermask_keras.config import load_config
from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.demo.shapes import make_shapes
from centermask_keras.errors import InterruptedTraining
from centermask_keras.evaluation.pictures import draw_examples
from centermask_keras.evaluation.predict import evaluate_model
from centermask_keras.evaluation.report import figure_table, write_report
from centermask_keras.inference.load import load
from centermask_keras.outputs import save_picture
from centermask_keras.training.train import train

CONFIG = "demo"
TRAIN_IMAGES = 2000
VAL_IMAGES = 100
PICTURES = 4


def run_demo(*, run_dir: Path = Path("runs/demo"), overrides: tuple[str, ...] = (), console: Console) -> dict[str, Any]:
    """Run the demo and write `predictions.png` and `report.json` into the run folder.

    Args:
        run_dir: where the run goes; its dataset goes to `data` in it. An earlier demo there is replaced.
        overrides: `a.b=v` for the shipped configuration `demo`.
        console: where the stages are told.

    Returns:
        The report: `mask_ap`, `box_ap` and the other COCO figures, `seconds` per stage, `dataset` statistics.
    """
    data = run_dir / "data"
    paths = [
        f"data.{split}.{key}={json.dumps(str(data / name))}"
        for split in ("train", "val")
        for key, name in (("annotations", f"{split}.json"), ("images", split))
    ]
    config = load_config(shipped.configs()[CONFIG], [*paths, *overrides])
    seconds: dict[str, float] = {}

    begin = time.perf_counter()
    statistics = make_shapes(data, train=TRAIN_IMAGES, val=VAL_IMAGES, hw=config.data.input_hw, seed=config.train.seed)
    seconds["shapes"] = time.perf_counter() - begin
    console.print(f"\\[2/5] shapes: {_describe(statistics)} -> {data}", highlight=False, soft_wrap=True)

    model = config.model
    console.print(
        f"\\[3/5] training configuration {CONFIG} "
        f"({model.backbone}, {config.data.input_hw[0]} px, {model.dtype_policy})",
        highlight=False,
        soft_wrap=True,
    )
    begin = time.perf_counter()
    try:
        train(config, name=CONFIG, run_dir=run_dir, overwrite=True, console=console)
    except InterruptedTraining:
        raise InterruptedTraining("stopped by SIGTERM; the demo begins anew with the same command") from None
    seconds["training"] = time.perf_counter() - begin

    begin = time.perf_counter()
    annotations = load_annotations(config.data.val.annotations, config.data.val.images)
    evaluation = evaluate_model(load(run_dir), annotations)
    seconds["evaluation"] = time.perf_counter() - begin
    figures = evaluation.figures
    write_report(run_dir / "eval", figures, evaluation.per_class)
    console.print(
        f"\\[4/5] validation   mask AP {figures['mask_ap']:.3f}  AP50 {figures['mask_ap50']:.3f}  "
        f"AP75 {figures['mask_ap75']:.3f}   box AP {figures['box_ap']:.3f}",
        highlight=False,
        soft_wrap=True,
    )

    console.print(figure_table(figures), highlight=False)
    picture = run_dir / "predictions.png"
    save_picture(Image.fromarray(draw_examples(annotations, evaluation.results, count=PICTURES)), picture)
    report = {**figures, "seconds": seconds, "dataset": statistics}
    (run_dir / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    console.print(
        f'\\[5/5] look: {picture}    figures: {run_dir / "report.json"}    next: README "Your own data"',
        highlight=False,
        soft_wrap=True,
    )
    return report


def _describe(statistics: dict[str, Any]) -> str:
    train, val = statistics["train"], statistics["val"]
    low, high = train["objects_per_image_min"], train["objects_per_image_max"]
    return (
        f"{train['images']} training and {val['images']} validation images, {len(statistics['classes'])} classes, "
        f"{low}-{high} objects each, {train['occluded_fraction']:.0%} occluded"
    )
