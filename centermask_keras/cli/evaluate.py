"""`centermask evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from centermask_keras.backend import start_backend
from centermask_keras.cli.options import JsonOption, Overrides
from centermask_keras.cli.output import check_json, progress_bar, write_json
from centermask_keras.errors import CenterMaskError, one_line
from centermask_keras.evaluation.coco import Backend
from centermask_keras.evaluation.lvis import LVIS_DETECTIONS
from centermask_keras.evaluation.report import figure_table
from centermask_keras.evaluation.scoring_inputs import IouType

if TYPE_CHECKING:
    from centermask_keras.evaluation.evaluate import Evaluated


def evaluate_command(
    run: Annotated[Path | None, typer.Option("--run", "--model", help="Run folder or name of a shipped model.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="Configuration of --weights.")] = None,
    weights: Annotated[Path | None, typer.Option(help="A *.weights.h5 file.")] = None,
    results: Annotated[Path | None, typer.Option(help="COCO results to score instead of a model.")] = None,
    annotations: Annotated[Path | None, typer.Option(help="Annotations; default: validation set of the run.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of their images.")] = None,
    iou_type: Annotated[
        IouType, typer.Option("--iou-type", help="What --results are scored by; a model is scored by all.")
    ] = "segm",
    backend: Annotated[Backend, typer.Option(help="The scorer; both give the same figures.")] = "faster",
    from_coco: Annotated[
        bool, typer.Option("--from-coco", help="Score COCO's 80 categories on an LVIS file (the paper's Table 4).")
    ] = False,
    max_detections: Annotated[
        int | None, typer.Option("--max-detections", min=1, help="Results that count per image and class; default all.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the files; default RUN/eval, of a named model runs/NAME/eval.")
    ] = None,
    set_: Overrides = [],  # noqa: B006
    json_: JsonOption = None,
) -> None:
    """Score a model (masks, boxes, boundaries), or a file of results, by the measure of COCO or LVIS."""
    check_json(json_, annotations, results, config, weights)
    if results is not None:
        if annotations is None:
            raise CenterMaskError("--results: expected --annotations FILE as well")
        from centermask_keras.evaluation.score_file import score_file

        figures = score_file(
            results,
            annotations,
            iou_type=iou_type,
            backend=backend,
            from_coco=from_coco,
            max_detections=max_detections,
            out=out,
        )
        print(figure_table(figures))
        write_json(json_, figures)
        return
    if (run is None) == (config is None and weights is None) or (config is None) != (weights is None):
        raise CenterMaskError("expected --run DIR, or --config FILE with --weights FILE, or --results FILE")
    start_backend()
    from centermask_keras.evaluation.evaluate import evaluate_to_files

    with progress_bar("evaluate") as advance:
        evaluated = evaluate_to_files(
            run=run,
            config=config,
            weights=weights,
            overrides=set_,
            annotations=annotations,
            images=images,
            backend=backend,
            from_coco=from_coco,
            max_detections=max_detections,
            out=out,
            progress=advance,
        )
    _print(evaluated)
    evaluation = evaluated.evaluation
    write_json(json_, {**evaluation.figures, "seconds": evaluation.seconds, "images": len(evaluated.dataset)})


def _print(evaluated: Evaluated) -> None:
    evaluation, dataset = evaluated.evaluation, evaluated.dataset
    if dataset.has_annotations:
        print(figure_table(evaluation.figures))
    else:
        name = one_line(str(dataset.path))
        print(f"{name} has no annotations: nothing to score. {evaluated.detections} is the submission")
    if evaluated.too_few_detections:
        print(f"LVIS counts {LVIS_DETECTIONS} detections per image: --set model.max_detections={LVIS_DETECTIONS}")
    for path in evaluation.unreadable:
        print(f"skipped, not readable: {one_line(path)}")
    spent = ", ".join(f"{name} {value:.0f} s" for name, value in evaluation.seconds.items() if name != "total")
    total = evaluation.seconds["total"]
    print(f"{len(dataset):,} images in {total:.0f} s ({spent})   {evaluated.detections.parent}")
