"""Compare this code with an earlier commit: what both give is equal, and this code continues the runs of that commit.

    python benchmarks/older_runs.py --commit 7efeff8 --part same
    python benchmarks/older_runs.py --commit 7efeff8 --part continued

The earlier commit lies in a git worktree, which is removed at the end. Every command runs in a process of its own, with
deterministic operations. Configurations are written in the form of the earlier commit; `centermask config --upgrade`
brings those of this code up to date. The folder of `CENTERMASK_DATA`, if it is there, adds real images.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from older_data import annotate_samples, annotate_shapes, write_lvis_case
from small_training import ROOT
from soak import compare_arrays, read_metrics, read_weights, run_trainer

REAL = Path(os.environ.get("CENTERMASK_DATA") or ROOT.parent / "shared" / "data")
NUCLEI = Path("saved_models") / "nuclei"
STEPS_PER_EPOCH = 10
KILLED_STEP = 15  # of 30: inside of the second epoch, after a state that lies in it as well
USAGE_ERROR = 2  # exit status where there is no such option
EQUAL = "equal"
COMMAND = "from centermask_keras.cli import main; main(sys.argv[1:])"
DETECT = """
import centermask_keras as cm
from pathlib import Path
predictor, found = cm.load(sys.argv[1]), {}
for path in sorted(Path(sys.argv[1], "samples").iterdir()):
    (result,) = predictor.predict(path)
    arrays = {name: getattr(result, name).tolist() for name in ("boxes", "scores", "classes")}
    found[path.name] = arrays | {"masks": [row["segmentation"] for row in result.to_coco(1)]}
print(json.dumps(found))
"""
SMALL = {
    **{"data.input_hw": [64, 64], "model.head_channels": 32, "model.shape_size": 8, "model.mask_size_train": 16},
    **{"model.mask_size_infer": 16, "train.batch_size": 4, "train.steps_per_epoch": STEPS_PER_EPOCH},
    **{"train.validate_every": 2, "train.drop_epochs": [1], "train.save": {"every": 4, "unit": "steps"}},
    **{"model.num_classes": 5, "train.epochs": 2},
}
DETECTORS = {
    "centernet": ("demo", {"train.ema_decay": 0.9, "train.accumulation_steps": 3}),
    "fcos": (
        "fcos_resnet101",
        {
            **{"model.backbone": "resnet_small", "model.tower_depth": 1, "model.frozen_norm": False},
            **{"data.multi_scale_hw": [[64, 64], [64, 96]], "model.max_detections": 30, "train.warmup_steps": 5},
        },
    ),
}
Values = dict[str, Any]


@dataclass(frozen=True)
class Side:
    """A checkout, and a folder of its own that its commands run in."""

    root: Path
    folder: Path

    def run(self, code: str, *words: Any, usage_errors: bool = False) -> str:
        """Run Python code with this checkout's package and return what it printed.

        Raises:
            RuntimeError: it failed; with the end of what it said.
        """
        guard = f"import json, sys, centermask_keras as c; assert c.__file__.startswith({str(self.root)!r})\n"
        environment = os.environ | {"PYTHONPATH": str(self.root), "TF_DETERMINISTIC_OPS": "1"}
        command = [sys.executable, "-c", guard + code, *map(str, words)]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        if done.returncode and not (usage_errors and done.returncode == USAGE_ERROR):
            raise RuntimeError(" ".join((done.stderr or done.stdout).strip().splitlines()[-2:]))
        return done.stdout

    def write_figures(self, *words: Any) -> Values:
        """Run a `centermask` command with `--json` and return its figures."""
        path = self.folder / "figures.json"
        path.unlink(missing_ok=True)
        self.run(COMMAND, *words, "--json", path)
        figures = json.loads(path.read_text())
        figures.pop("seconds", None)
        return figures

    def copy_config(self, path: Path) -> Path:
        """Copy a configuration and bring the copy up to date where this checkout has a command for it."""
        copy = self.folder / path.name
        copy.write_text(path.read_text())
        self.run(COMMAND, "config", "--upgrade", copy, usage_errors=True)
        return copy


def write_config(older: Side, detector: str, name: str, changes: Values | None = None) -> Path:
    """Write a small configuration in the form of the earlier commit; without changes it trains on the shapes."""
    base, own = DETECTORS[detector]
    values = json.loads((older.root / "configs" / f"{base}.json").read_text())
    data = older.folder.parent / "shapes"
    for split in ("train", "val"):
        values["data"][split] = {"annotations": str(data / f"{split}.json"), "images": str(data / split)}
    for key, value in (SMALL | own | (changes or {})).items():
        section, last = key.split(".")
        values[section][last] = value
    path = older.folder.parent / f"{name}.json"
    path.write_text(json.dumps(values))
    return path


def make_shapes(older: Side) -> Path:
    """Generate shapes with crowds, and the same as LVIS; return their folder."""
    folder = older.folder.parent / "shapes"
    older.run(COMMAND, "data", "make-shapes", "--out", folder, "--train", 32, "--val", 4, "--size", 64)
    annotate_shapes(folder)
    return folder


def make_nuclei(older: Side) -> Path:
    """Make annotations for the samples of nuclei of what the earlier commit finds in them; return their folder."""
    folder, model = older.folder.parent / "nuclei", older.root / NUCLEI
    annotate_samples(folder, model / "samples", json.loads(older.run(DETECT, model)))
    return folder


def detect(side: Side) -> Values:
    """Return boxes, scores, classes and masks (RLE) of each sample of the shipped model."""
    found = json.loads(side.run(DETECT, side.root / NUCLEI))
    return {f"{name} {key}": json.dumps(value) for name, result in found.items() for key, value in result.items()}


def score(results: Path, annotations: Path, words: tuple[str, ...], side: Side) -> Values:
    """Return the figures of a file of results."""
    return side.write_figures("evaluate", "--results", results, "--annotations", annotations, *words)


def evaluate(model: Path, annotations: Path, words: tuple[str, ...], side: Side) -> Values:
    """Return the figures of a model on the images beside the annotations, and what it found."""
    out = side.folder / "eval"
    data = ("--annotations", annotations, "--images", annotations.parent)
    figures = side.write_figures("evaluate", "--run", model, *data, "--out", out, *words)
    return figures | {"detections": (out / "detections.json").read_text()}


def measure_ceiling(config: Path, annotations: Path, images: Path, side: Side) -> Values:
    """Return the figures of `data ceiling`."""
    data = ("--annotations", annotations, "--images", images)
    return side.write_figures("data", "ceiling", "--config", side.copy_config(config), *data)


def train(config: Path, weights: Path | None, side: Side) -> Values:
    """Train and return what is in the run folder."""
    run = side.folder / config.stem
    words = ("--weights", weights) if weights else ()
    side.run(COMMAND, "train", "--config", side.copy_config(config), "--run", run, *words)
    return read_run(run)


def read_run(run: Path) -> Values:
    """Return both weights files and the metrics of a run folder."""
    rows = enumerate(read_metrics(run), 1)
    return read_weights(run) | {f"{key} of epoch {epoch}": value for epoch, row in rows for key, value in row.items()}


def end_run(config: Path, older: Side, side: Side) -> Values:
    """Return what the earlier commit gives when left alone; or, when it is killed, and the other side continues.

    Raises:
        RuntimeError: the run ended before it was killed, or was not continued inside of an epoch.
    """
    run = side.folder / config.stem
    ended = run_trainer(config, run, None if side is older else ("step", "", KILLED_STEP, 0.0), root=older.root)
    if ended != (side is older):
        raise RuntimeError(f"the run of the earlier commit {'was not killed' if ended else 'failed'}")
    if side is not older:
        side.run(COMMAND, "train", "--config", side.copy_config(config), "--run", run)
        starts = [start["step"] for start in json.loads((run / "run.json").read_text())["starts"]]
        if len(starts) != 2 or starts[1] % STEPS_PER_EPOCH == 0:
            raise RuntimeError(f"expected a start inside of an epoch, received starts at {starts}")
    return read_run(run)


def list_same(older: Side) -> Iterator[tuple[str, Callable[[Side], Values]]]:
    """Yield what both sides do alike: title and check."""
    yield "detections of nuclei", detect
    model, nuclei = older.root / NUCLEI, make_nuclei(older)
    for crowd in ("ignore", "train", "drop"):
        words = ("--set", f"data.crowd={crowd}")
        yield f"evaluation of nuclei, crowd {crowd}", partial(evaluate, model, nuclei / "crowds.json", words)
    yield "evaluation of nuclei, LVIS", partial(evaluate, model, nuclei / "lvis.json", ())

    truth, results, from_coco = write_lvis_case(nuclei)
    yield "LVIS, COCO's results", partial(score, from_coco, truth, ("--from-coco",))
    reference = REAL / "coco_eval_reference"
    for iou_type, kind in (("segm", "segm"), ("bbox", "bbox"), ("boundary", "segm")):
        words = ("--iou-type", iou_type)
        yield f"LVIS, {iou_type}", partial(score, results, truth, words)
        if reference.is_dir():
            files = (f"instances_val2014_fake{kind}100_results.json", "instances_val2014_100.json")
            yield f"COCO reference, {iou_type}", partial(score, *(reference / file for file in files), words)

    shapes, photos = make_shapes(older), REAL / "coco_tiny"
    dataset, changes = (shapes / "val.json", shapes / "val"), {}
    if photos.is_dir():
        dataset = (photos / "annotations" / "instances.json", photos / "images")
        changes = {"model.num_classes": 80, "data.input_hw": [96, 96]}
    lvis = {"data.train": {"annotations": str(shapes / "lvis.json"), "images": str(shapes)}}
    for detector in DETECTORS:
        config = write_config(older, detector, f"{detector}_ceiling", changes)
        yield f"data ceiling, {detector}", partial(measure_ceiling, config, *dataset)
        yield f"20 steps, {detector}", partial(train, write_config(older, detector, detector), None)
        weights = older.folder / detector / "model.weights.h5"  # of the older side's row above
        config = write_config(older, detector, f"{detector}_lvis", lvis)
        yield f"20 steps, {detector}, --weights, LVIS", partial(train, config, weights)


def list_continued(older: Side) -> Iterator[tuple[str, Callable[[Side], Values]]]:
    """Yield the runs that the earlier commit begins: title and check."""
    make_shapes(older)
    for detector in DETECTORS:
        config = write_config(older, detector, detector, {"train.epochs": 3})
        yield f"killed in an epoch and continued, {detector}", partial(end_run, config, older)


PARTS = {"same": list_same, "continued": list_continued}


def compare(check: Callable[[Side], Values], older: Side, new: Side) -> str:
    """Run a check on both sides at once; return "equal", or what is not."""
    with ThreadPoolExecutor(2) as pool:
        try:
            values = [{key: np.asarray(value) for key, value in side.items()} for side in pool.map(check, (older, new))]
        except RuntimeError as error:
            return f"failed: {error}"
    differences = compare_arrays(*values)
    if differences or not values[0]:
        return f"different, {len(differences)} of {len(values[0])}: {', '.join(differences[:3])}"
    return EQUAL


def compare_commit(commit: str, parts: list[str]) -> bool:
    """Print a row for every check of the parts; return whether all are equal."""
    outcomes = []
    with tempfile.TemporaryDirectory() as name, add_worktree(commit, Path(name).resolve() / "worktree") as worktree:
        for part in parts:
            folder = worktree.parent / part
            sides = [Side(root, folder / side) for root, side in ((worktree, "older"), (ROOT, "new"))]
            for side in sides:
                side.folder.mkdir(parents=True)
            for title, check in PARTS[part](sides[0]):
                began = time.monotonic()
                outcomes.append(compare(check, *sides))
                print(f"{part:10} {title:52} {time.monotonic() - began:4.0f} s  {outcomes[-1]}", flush=True)
    return all(outcome == EQUAL for outcome in outcomes)


@contextmanager
def add_worktree(commit: str, folder: Path) -> Iterator[Path]:
    """Check a commit out into a folder, for as long as it is needed."""
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(folder), commit], cwd=ROOT, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(folder)], cwd=ROOT, check=True)


def main() -> None:
    """Parse, compare, exit with 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commit", default="7efeff8")
    parser.add_argument("--part", choices=PARTS, help="one part; default: both")
    arguments = parser.parse_args()
    if not REAL.is_dir():
        print(f"no real images in {REAL}: COCO's reference is left out, ceilings are those of shapes")
    began = time.monotonic()
    equal = compare_commit(arguments.commit, [arguments.part] if arguments.part else list(PARTS))
    print(f"{'all equal to' if equal else 'NOT equal to'} {arguments.commit}, {time.monotonic() - began:.0f} s")
    sys.exit(not equal)


if __name__ == "__main__":
    main()
