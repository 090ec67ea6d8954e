"""The small training that `soak.py` and `memory.py` run: the demo's network on generated shapes of 64 px."""

from __future__ import annotations

from pathlib import Path

from centermask_keras.config import load_config
from centermask_keras.demo.shapes import make_shapes

ROOT = Path(__file__).parents[1]
SIDE = 64


def write_small_config(
    folder: Path, *, batch_size: int, steps_per_epoch: int, epochs: int, overrides: list[str]
) -> Path:
    """Generate the data in a folder, and write the configuration; return its path."""
    data = folder / "data"
    make_shapes(data, train=steps_per_epoch * batch_size, val=4, hw=(SIDE, SIDE), seed=3)
    config = load_config(
        ROOT / "configs" / "demo.json",
        [
            *(f'data.{split}.annotations="{data / split}.json"' for split in ("train", "val")),
            *(f'data.{split}.images="{data / split}"' for split in ("train", "val")),
            f"data.input_hw=[{SIDE}, {SIDE}]",
            f"train.batch_size={batch_size}",
            f"train.epochs={epochs}",
            "train.save.unit=steps",
            *overrides,
        ],
    )
    path = folder / "small.json"
    path.write_text(config.to_json())
    return path
