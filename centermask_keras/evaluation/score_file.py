"""Score a file of COCO results, whatever model it is of. Needs neither Keras nor TensorFlow.

Stage: evaluation.
"""

from __future__ import annotations

from pathlib import Path

from centermask_keras.evaluation.coco import Backend, evaluate_coco, evaluate_coco_on_lvis
from centermask_keras.evaluation.report import report_files, write_report
from centermask_keras.evaluation.scoring_inputs import IouType
from centermask_keras.outputs import refuse_overwriting


def score_file(
    results: Path,
    annotations: Path,
    *,
    iou_type: IouType = "segm",
    backend: Backend = "faster",
    from_coco: bool = False,
    max_detections: int | None = None,
    out: Path | None = None,
) -> dict[str, float]:
    """Score a file of COCO results; with a folder, write `metrics.json` and `per_class.csv` into it.

    Returns:
        The figures (see `evaluate_coco`).

    Raises:
        CenterMaskError: as for `evaluate_coco`; a file of the report would replace one of the two.
    """
    if out is not None:
        refuse_overwriting(report_files(out), [results, annotations])
    if from_coco:
        figures = evaluate_coco_on_lvis(annotations, results, iou_type=iou_type, backend=backend)
    else:
        figures = evaluate_coco(annotations, results, iou_type=iou_type, backend=backend, max_detections=max_detections)
    per_class = figures.pop("per_class")
    if out is not None:
        write_report(out, figures, per_class)
    return figures
