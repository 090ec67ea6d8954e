"""Run the commands of the core on shapes and print which modules of `extra` each has loaded: `core_case.py FOLDER`.

The last line is the export of a SavedModel, which does load some.
"""

import sys
from pathlib import Path

SMALL = [
    *("data.input_hw=[64, 64]", "model.head_channels=16", "model.shape_size=8", "model.mask_size_train=8"),
    *("model.mask_size_infer=16", "model.max_detections=5", "model.dtype_policy=float32"),
    *("train.epochs=1", "train.drop_epochs=[]", "train.validate_every=1", "train.batch_size=4"),
]


def run(*words: str) -> None:
    """Run a command and print its name and what of `extra` is loaded."""
    from centermask_keras.cli import main

    try:
        main([*words])
    except SystemExit as stop:
        assert not stop.code, f"{words}: {stop.code}"
    print(
        "loaded:",
        words[0],
        words[-1],
        *sorted(name for name in sys.modules if ".extra" in name and "centermask" in name),
    )


if __name__ == "__main__":
    from run_files import data_paths

    from centermask_keras.export.parity import TOLERANCES, Tolerance

    folder = Path(sys.argv[1])
    # Of two steps of training: what the files find is noise, and held by other tests.
    TOLERANCES |= dict.fromkeys(TOLERANCES, Tolerance(1e9, 1e9, 0.0, lost=1e9, worst=False))
    run("data", "make-shapes", "--train", "8", "--val", "2", "--size", "64", "--out", str(folder))
    settings = [word for value in (*data_paths(folder), *SMALL) for word in ("--set", value)]
    for distribution in ("mirrored", "none"):
        trained = ["--config", "demo", "--run", str(folder / distribution), *settings]
        run("train", *trained, "--set", f"distribution={distribution}")
    model = ["--run", str(folder / "none")]
    run("evaluate", *model)
    run("predict", *model, str(folder / "val"), "--out", str(folder / "found"))
    for written in ("tflite", "onnx", "saved_model"):
        run("export", *model, "--images", str(folder / "val"), "--to", str(folder / written), "--format", written)
