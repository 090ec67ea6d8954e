"""Check the orderings of the paper's Table 1c to 1f on generated shapes.

    python benchmarks/orderings.py --json orderings.json

Trains five models equally, each with several seeds: one data set, one schedule, one base configuration, and only
`model.mask_factors`, `model.saliency` and `loss_weights.saliency` differ. Scores them on validation images and prints
their mask APs, and for each ordering the differences between models of the same seed. A run that is interrupted
continues with the same command, and finished ones are not trained again.

The objects are larger than S x stride and often hidden in part, so that the coarse local shape needs the saliency and
the saliency needs the local shape; two of the classes look alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras

from centermask_keras.config import Config, load_config
from centermask_keras.data.files.annotations import Annotations, load_annotations
from centermask_keras.demo.shapes import make_shapes
from centermask_keras.errors import CenterMaskError, ConfigError
from centermask_keras.evaluation.ceiling import measure_ceiling
from centermask_keras.evaluation.predict import evaluate_model
from centermask_keras.inference.load import load
from centermask_keras.training.run_folder import CONFIG, RunFolder
from centermask_keras.training.train import train

BASE = Path(__file__).parents[1] / "configs" / "demo.json"
MODELS = {
    "both": ("model.mask_factors=both", "model.saliency=class_agnostic", "model.loss_weights.saliency=null"),
    "shape": ("model.mask_factors=local_shape", "model.saliency=class_agnostic", "model.loss_weights.saliency=null"),
    "saliency": ("model.mask_factors=saliency", "model.saliency=class_agnostic", "model.loss_weights.saliency=null"),
    "specific": ("model.mask_factors=both", "model.saliency=class_specific", "model.loss_weights.saliency=null"),
    "specific_direct": ("model.mask_factors=both", "model.saliency=class_specific", "model.loss_weights.saliency=1.0"),
}
SINGLE_FACTOR = ("shape", "saliency")
ORDERINGS = (  # row of the paper, the better model, the worse one
    ("1c: with local shape > without", "both", "saliency"),
    ("1d: with saliency > without", "both", "shape"),
    ("1c and 1d: shape alone > saliency alone", "shape", "saliency"),
    ("1e: class-specific > class-agnostic, neither supervised directly", "specific", "both"),
    ("1f: supervised directly > only through the mask", "specific_direct", "specific"),
)

CLASS_NAMES = ("pentagon", "hexagon", "star", "ring")  # the first two look alike
SIDE = 256  # of an image: objects are 66 to 128 pixels across before others hide a part of them
SHAPE_SIZE = 8
VAL_IMAGES = 200
DATA_SEED = 0
LEAST_LARGE = 0.5  # share of the objects that are larger than S x stride
LEAST_OCCLUDED = 0.3  # share of the objects that are occluded
DROP_SHARES = (0.7, 0.9)  # of the epochs, as in configs/demo.json

PAPER_THRESHOLD = 0.4
THRESHOLDS = (PAPER_THRESHOLD, 0.5)

Scores = dict[str, list[dict[float, float]]]
"""Mask AP by model, seed and mask threshold."""


@dataclass(frozen=True)
class Spread:
    """Mean and spread over the seeds; the deviation is that of the sample, None for a single seed."""

    mean: float
    deviation: float | None
    lowest: float
    highest: float

    def __str__(self) -> str:
        deviation = "-" if self.deviation is None else f"{self.deviation:.3f}"
        return f"{self.mean:.3f} | {deviation} | {self.lowest:.3f} .. {self.highest:.3f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000, help="training images")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3, help="trainings per model")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--out", type=Path, default=Path("runs/orderings"), help="folder for data set and runs")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(arguments)
    data = options.out / f"shapes_{options.images}"
    report = {"images": options.images, "epochs": options.epochs, "seeds": options.seeds}
    report["data"] = make_data(data, images=options.images)
    report["ceiling"] = show_ceiling(make_config("both", data, epochs=options.epochs, seed=1))
    scores, report["seconds"] = run_models(options.models, data, options.out, options.epochs, options.seeds)
    compared = compare(scores)
    print(f"\n{model_table(scores)}\n\n{ordering_table(compared)}")
    if options.json:
        options.json.write_text(json.dumps({**report, "mask_ap": scores, "orderings": compared}, indent=2) + "\n")


def make_data(folder: Path, *, images: int) -> dict[str, Any]:
    """Generate the data set, unless it is there, and return its statistics.

    Raises:
        CenterMaskError: too few objects are occluded or larger than S x stride.
    """
    record = folder / "statistics.json"  # written last: what was interrupted is made anew
    if not record.exists():
        hw = (SIDE, SIDE)
        made = make_shapes(folder, train=images, val=VAL_IMAGES, hw=hw, seed=DATA_SEED, class_names=CLASS_NAMES)
        record.write_text(json.dumps(made, indent=2) + "\n")
    data = json.loads(record.read_text())
    config = make_config("both", folder, epochs=1, seed=1)
    side = config.model.shape_size * config.model.stride
    print(f"shapes: {', '.join(data['classes'])}; {SIDE} px, S {SHAPE_SIZE}, stride {config.model.stride}")
    for split in ("train", "val"):
        share = data[split]["larger_than_local_shape"] = larger_share(load_split(config, split), side)
        print(
            f"{split}: {data[split]['images']} images, {data[split]['objects']} objects, "
            f"{data[split]['occluded_fraction']:.1%} occluded, {share:.1%} larger than S x stride = {side} px"
        )
        check_share(split, "objects that are occluded", data[split]["occluded_fraction"], LEAST_OCCLUDED)
        check_share(split, "objects larger than S x stride", share, LEAST_LARGE)
    return data


def make_config(model: str, data: Path, *, epochs: int, seed: int) -> Config:
    """Return the configuration of one training; only `MODELS` and the seed tell the trainings apart."""
    paths = [
        f"data.{split}.{key}={json.dumps(str(data / name))}"
        for split in ("train", "val")
        for key, name in (("annotations", f"{split}.json"), ("images", split))
    ]
    drops = sorted({max(1, round(share * epochs)) for share in DROP_SHARES})
    return load_config(
        BASE,
        [
            f"about=Orderings of Table 1 on generated shapes: {model}",
            f"model.num_classes={len(CLASS_NAMES)}",
            f"model.shape_size={SHAPE_SIZE}",
            *MODELS[model],
            *paths,
            f"data.input_hw=[{SIDE}, {SIDE}]",
            f"train.epochs={epochs}",
            f"train.drop_epochs={drops}",
            f"train.validate_every={epochs}",  # once, at the end: the weights that are kept are the last ones
            f"train.seed={seed}",
            f"eval.mask_threshold={PAPER_THRESHOLD}",
        ],
    )


def load_split(config: Config, split: str) -> Annotations:
    """Load the annotations of "train" or "val"."""
    dataset = getattr(config.data, split)
    return load_annotations(dataset.annotations, dataset.images).under(config.data.crowd)


def larger_share(annotations: Annotations, side: float) -> float:
    """Return the share of the objects whose boxes are wider and higher than `side` pixels."""
    sides = annotations.boxes[:, 2:] - annotations.boxes[:, :2]
    return float((sides > side).all(axis=1).mean())


def check_share(split: str, what: str, share: float, least: float) -> None:
    """Refuse data on which the orderings would say nothing."""
    if share < least:
        raise CenterMaskError(
            f"{split}: expected at least {least:.0%} {what}, received {share:.1%}. Pass more --images"
        )


def show_ceiling(config: Config) -> dict[str, float]:
    """Measure and print what perfect outputs would reach on the validation images."""
    ceiling = measure_ceiling(config, load_split(config, "val"))
    print(
        f"best possible mask AP (class-agnostic): {ceiling['both']:.3f}   "
        f"shape alone {ceiling['local_shape']:.3f}   saliency alone {ceiling['saliency']:.3f}"
    )
    return ceiling


def run_models(
    models: Iterable[str], data: Path, out: Path, epochs: int, seeds: int
) -> tuple[Scores, dict[str, float]]:
    """Train and score every model with every seed; the seconds are those of the training steps, by run."""
    # Seed by seed, so that an interrupted comparison leaves whole ones behind.
    runs = [(model, seed) for seed in range(1, seeds + 1) for model in models]
    scores: Scores = {model: [] for model in models}
    seconds = {}
    for number, (model, seed) in enumerate(runs, start=1):
        begin = time.perf_counter()
        run_dir = out / f"{model}_{seed}"
        print(f"\n[{number}/{len(runs)}] {model}, seed {seed} -> {run_dir}", flush=True)
        config = make_config(model, data, epochs=epochs, seed=seed)
        run_training(config, run_dir)
        score = score_run(config, run_dir)
        scores[model].append(score)
        seconds[run_dir.name] = sum(float(row["seconds"]) for row in RunFolder(run_dir).read_metrics())
        reached = "   ".join(f"{mask_ap:.3f} at {threshold}" for threshold, mask_ap in score.items())
        print(
            f"[{number}/{len(runs)}] {model}, seed {seed}: mask AP {reached}   "
            f"({time.perf_counter() - begin:.0f} s, training steps {seconds[run_dir.name]:.0f} s)",
            flush=True,
        )
    return scores, seconds


def run_training(config: Config, run_dir: Path) -> None:
    """Train, continue, or do nothing where the run has finished.

    Raises:
        ConfigError: the folder holds a finished run of another configuration.
    """
    if not RunFolder(run_dir).read_record().get("finished"):
        keras.utils.clear_session()  # the graphs of the runs before
        train(config, name=str(BASE), run_dir=run_dir)
    elif load_config(run_dir / CONFIG) != config:
        raise ConfigError(f"{run_dir}: expected a run of these settings, received one of others. Pass another --out")


def score_run(config: Config, run_dir: Path) -> dict[float, float]:
    """Return the mask AP of the last epoch's weights at each threshold."""
    # The validation at the end of the training has scored the same weights at the configuration's own threshold.
    score = {config.eval.mask_threshold: RunFolder(run_dir).read_record()["best"]["mask_ap"]}
    for threshold in THRESHOLDS:
        if threshold not in score:
            predictor = load(run_dir, [f"eval.mask_threshold={threshold}"])
            score[threshold] = evaluate_model(predictor, load_split(config, "val")).figures["mask_ap"]
    return score


def compare(scores: Scores) -> list[dict[str, Any]]:
    """Judge the orderings whose two models were trained."""
    compared = []
    for ordering, better, worse in ORDERINGS:
        if better in scores and worse in scores:
            pairs = zip(scores[better], scores[worse], strict=True)
            differences = [judged_score(better, one) - judged_score(worse, other) for one, other in pairs]
            compared.append(
                {
                    "ordering": ordering,
                    "better": better,
                    "worse": worse,
                    "differences": differences,
                    **asdict(spread_of(differences)),
                    "verdict": verdict_on(differences),
                }
            )
    return compared


def judged_score(model: str, score: dict[float, float]) -> float:
    """Return the mask AP that counts: at the paper's threshold, for a single factor at whichever suits it better.

    The threshold was chosen for products, so a single factor judged by it alone would lose for no fault of its own.
    """
    return max(score.values()) if model in SINGLE_FACTOR else score[PAPER_THRESHOLD]


def spread_of(values: Sequence[float]) -> Spread:
    """Return mean and spread of one figure over the seeds."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.fmean(values), deviation, min(values), max(values))


def verdict_on(differences: Sequence[float]) -> str:
    """Say whether the better model won with every seed, on average, or neither."""
    if min(differences) > 0:
        return "holds"
    return "holds on average" if statistics.fmean(differences) > 0 else "FAILS"


def model_table(scores: Scores) -> str:
    """Return the mask APs of the models as a markdown table; an asterisk marks what the orderings are judged by."""
    rows = ["| model | threshold | mask AP | deviation | range |", "| --- | --- | --- | --- | --- |"]
    for model, per_seed in scores.items():
        for threshold in THRESHOLDS:
            judged = model in SINGLE_FACTOR or threshold == PAPER_THRESHOLD
            values = spread_of([score[threshold] for score in per_seed])
            rows.append(f"| `{model}` | {threshold}{'*' if judged else ''} | {values} |")
    rows += ["", "\\* judged by; of two, the better one of each seed."]
    return "\n".join(rows)


def ordering_table(compared: Iterable[dict[str, Any]]) -> str:
    """Return the orderings as a markdown table: differences between models of the same seed."""
    rows = ["| ordering | models | difference | deviation | range | verdict |", "| --- | --- | --- | --- | --- | --- |"]
    for row in compared:
        values = spread_of(row["differences"])
        rows.append(f"| {row['ordering']} | `{row['better']}` > `{row['worse']}` | {values} | {row['verdict']} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
