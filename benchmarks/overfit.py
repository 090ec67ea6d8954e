"""Learn 16 photos by heart: the whole method, at full size, to a high AP on the photos that it saw.

    python benchmarks/overfit.py --data coco_tiny
    python benchmarks/overfit.py --data coco_tiny --backbone hourglass_small
    python benchmarks/overfit.py --data coco_tiny --backbone resnet_small

DLA-34 with plain convolutions, or another backbone (a residual one: CenterMask on FCOS), at 512 px, stride 4, S 32,
K 100, a saliency map per class, no augmentation: what is missing to an AP of 1 is what representation and optimisation
lose, and nothing else. Prints the ceiling of the representation, the curve of the losses and the figures.
"""

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from centermask_keras.config import Config, load_config
from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.evaluation.ceiling import measure_ceiling
from centermask_keras.evaluation.predict import evaluate_model
from centermask_keras.evaluation.report import figure_table
from centermask_keras.inference.load import load
from centermask_keras.training.train import train

CONFIGS = Path(__file__).parents[1] / "configs"
SETTINGS = {
    "data.augmentation.crop": "none",
    "data.augmentation.flip": 0.0,
    "data.augmentation.color": 0.0,
    "data.augmentation.lighting": 0.0,
    "train.batch_size": 4,
    "train.learning_rate": 5e-4,
    "train.ema_decay": 0.98,
    "train.clip_norm": 20.0,
    "model.loss_weights.mask": 3.0,
    "eval.resize": "letterbox",
    "eval.batch_size": 4,
}
CENTERNET = {"model.loss_weights.size": 0.2}
FCOS = {
    "model.stride": 4,
    "model.frozen_norm": False,
    "data.input_hw": [512, 512],
    "data.multi_scale_hw": None,
    "train.steps_per_epoch": None,
    "train.optimizer": "adam",
    "train.l2": 0.0,
    "train.warmup_steps": 50,
}


def make_config(data: Path, epochs: int, backbone: str = "dla34") -> Config:
    """Train and judge on the same photos."""
    paths = {f"data.{split}.annotations": str(data / "annotations" / "instances.json") for split in ("train", "val")}
    paths |= {f"data.{split}.images": str(data / "images") for split in ("train", "val")}
    schedule = {
        "train.epochs": epochs,
        "train.drop_epochs": [max(1, epochs * 7 // 10), max(1, epochs * 9 // 10)],
        "train.validate_every": epochs,
    }
    fcos = backbone.startswith("res")
    base, own = ("fcos_resnet101", FCOS) if fcos else ("dla34_plain", CENTERNET)
    settings = {**SETTINGS, **own, **paths, **schedule, "model.backbone": backbone}
    return load_config(CONFIGS / f"{base}.json", [f"{key}={json.dumps(value)}" for key, value in settings.items()])


def print_curve(metrics: Path, losses: Sequence[str], rows: int = 10) -> None:
    """Print the losses of about ten epochs, the first and the last among them."""
    with metrics.open() as file:
        epochs = list(csv.DictReader(file))
    print("epoch " + "".join(f"{name:>16}" for name in losses))
    for index in sorted({round(i * (len(epochs) - 1) / (rows - 1)) for i in range(rows)}):
        print(f"{epochs[index]['epoch']:>5} " + "".join(f"{float(epochs[index][name]):16.3f}" for name in losses))


def main() -> None:
    """Parse, train, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with annotations/instances.json and images/")
    parser.add_argument("--run", type=Path, default=Path("runs/overfit"))
    parser.add_argument("--backbone", default="dla34")
    parser.add_argument("--epochs", type=int, default=200)
    arguments = parser.parse_args()
    config = make_config(arguments.data, arguments.epochs, arguments.backbone)
    dataset = load_annotations(config.data.val.annotations, config.data.val.images)
    ceiling = measure_ceiling(config, dataset)
    print(f"ceiling {ceiling['both']:.3f}   shape alone {ceiling['local_shape']:.3f}", flush=True)
    result = train(config, name="overfit", run_dir=arguments.run, console=Console(width=160))
    print_curve(arguments.run / "metrics.csv", ("loss", *tuple(config.model.loss_weights.named())))
    print(figure_table(evaluate_model(load(arguments.run), dataset).figures))
    print(f"{result.epochs} epochs of {len(dataset)} photos in {result.seconds / 60:.0f} min")


if __name__ == "__main__":
    main()
