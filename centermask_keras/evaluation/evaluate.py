"""From a run folder, or from a configuration and weights, to the files of an evaluation.

Stage: evaluation. The files are `detections.json` (COCO results), and with ground truth `metrics.json` and
`per_class.csv`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from centermask_keras.coco_categories import coco_categories
from centermask_keras.config import Config, load_config
from centermask_keras.data.files.annotations import Annotations
from centermask_keras.evaluation.coco import Backend, write_results
from centermask_keras.evaluation.lvis import LVIS_DETECTIONS
from centermask_keras.evaluation.predict import Evaluation, Progress, evaluate_model
from centermask_keras.evaluation.report import report_files, write_report
from centermask_keras.evaluation.validation_set import load_validation_set
from centermask_keras.inference.load import build, check_run_folder, load, load_weights
from centermask_keras.inference.objects import Category, categories_of
from centermask_keras.inference.predictor import Predictor
from centermask_keras.outputs import refuse_overwriting
from centermask_keras.shipped import find_model


@dataclass(frozen=True)
class Evaluated:
    """An evaluation and where it was written.

    Attributes:
        evaluation: what was found and its figures.
        dataset: what it was found in.
        detections: the file of COCO results; the other files are beside it.
        too_few_detections: the dataset is LVIS, which counts more detections per image than the model gives.
    """

    evaluation: Evaluation
    dataset: Annotations
    detections: Path
    too_few_detections: bool


def evaluate_to_files(
    *,
    run: Path | None = None,
    config: Path | None = None,
    weights: Path | None = None,
    overrides: Sequence[str] = (),
    annotations: Path | None = None,
    images: Path | None = None,
    backend: Backend = "faster",
    from_coco: bool = False,
    max_detections: int | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> Evaluated:
    """Evaluate a model by masks, boxes and boundaries, and write the files of the evaluation.

    Args:
        run: a run folder or the name of a shipped model; or, in its place, `config` and `weights`.
        config: a configuration file, or the name of a shipped one.
        weights: a *.weights.h5 file for it.
        overrides: `a.b=v` changes to the configuration.
        annotations: annotations to score on; the validation set of the configuration if not given.
        images: folder of their images.
        backend: the scorer (see `evaluate_coco`).
        from_coco: a model of COCO's categories on an LVIS file (see `evaluate_coco_on_lvis`).
        max_detections: how many results count per image and class (see `evaluate_coco`).
        out: folder for the files; if not given, `eval` beside the weights, of a named model `runs/NAME/eval`.
        progress: told about every batch.

    Raises:
        CenterMaskError: a file is missing or does not fit the others; an output would replace an input.
    """
    folder = weights.parent if run is None else find_model(run)
    if run is not None:
        check_run_folder(folder)
    source = config or folder / "config.json"
    loaded = load_config(source, overrides)
    dataset = load_validation_set(loaded, str(source), annotations, images, other_classes=from_coco)
    categories = [Category(*row) for row in coco_categories().items()] if from_coco else categories_of(dataset)
    predictor = load(folder, overrides) if run is not None else _build_with_weights(loaded, weights, categories)
    if out is None:
        by_name = run is not None and not run.exists()  # a shipped model lies where packages are installed
        out = (Path("runs") / run if by_name else folder) / "eval"
    detections = out / "detections.json"
    inputs = [weights or folder / "model.weights.h5", source, folder / "run.json", *dataset.input_files()]
    refuse_overwriting([detections, *report_files(out)], inputs)
    out.mkdir(parents=True, exist_ok=True)
    evaluation = evaluate_model(
        predictor,
        dataset,
        iou_types=("segm", "bbox", "boundary"),
        backend=backend,
        from_coco=from_coco,
        max_detections=max_detections,
        progress=progress,
    )
    write_results(detections, evaluation.results)
    if dataset.has_annotations:
        write_report(out, evaluation.figures, evaluation.per_class)
    too_few = dataset.lvis is not None and loaded.model.max_detections < LVIS_DETECTIONS
    return Evaluated(evaluation, dataset, detections, too_few)


def _build_with_weights(config: Config, weights: Path, categories: Sequence[Category]) -> Predictor:
    predictor = build(config, categories)
    load_weights(predictor.detector, weights)
    return predictor
