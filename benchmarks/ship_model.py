"""Copy a finished run to `saved_models/`, its weights at half precision, and hold the copy to the run.

    python benchmarks/ship_model.py --run runs/nuclei --to saved_models/nuclei --set eval.mask_threshold=0.6

Half precision halves the file; the model computes in bfloat16 or float32 as before. The copy is scored on the val set
of the run, beside the run itself. The model card, `README.md`, is written by hand.
"""

import argparse
import shutil
from pathlib import Path

import h5py
import numpy as np

from centermask_keras.config import load_config, to_stored_json
from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.evaluation.predict import evaluate_model
from centermask_keras.inference.load import load

WEIGHTS = "model.weights.h5"


def ship(run: Path, to: Path, overrides: list[str]) -> None:
    """Write the folder of a shipped model."""
    to.mkdir(parents=True, exist_ok=True)
    (to / "config.json").write_text(to_stored_json(load_config(run / "config.json", overrides)))
    for name in ("run.json", "metrics.csv"):
        shutil.copyfile(run / name, to / name)
    shutil.copyfile(run / WEIGHTS, to / WEIGHTS)
    halve_weights(to / WEIGHTS)


def halve_weights(path: Path) -> None:
    """Rewrite a weights file with float16 in the place of float32.

    Raises:
        ValueError: a weight that float16 cannot hold.
    """
    smaller = path.with_suffix(".half")
    with h5py.File(path) as source, h5py.File(smaller, "w") as target:

        def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Dataset):
                values = item[()]
                if values.dtype == np.float32:
                    if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
                        raise ValueError(f"{path}: {name}: expected weights within float16, received larger ones")
                    values = values.astype(np.float16)
                target.create_dataset(name, data=values)
            else:
                target.require_group(name)
            target[name].attrs.update(item.attrs)

        source.visititems(copy)
        target.attrs.update(source.attrs)
    smaller.replace(path)


def main() -> None:
    """Parse, copy, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="a.b=v")
    arguments = parser.parse_args()
    ship(arguments.run, arguments.to, arguments.overrides)
    config = load_config(arguments.to / "config.json")
    val = load_annotations(config.data.val.annotations, config.data.val.images)
    for title, predictor in (
        ("run", load(arguments.run, arguments.overrides)),
        ("shipped", load(arguments.to)),
    ):
        figures = evaluate_model(predictor, val).figures
        print(f"{title:<8} mask AP {figures['mask_ap']:.4f}  box AP {figures['box_ap']:.4f}  (val)")
    print(f"{(arguments.to / WEIGHTS).stat().st_size / 1e6:.1f} MB of weights")


if __name__ == "__main__":
    main()
