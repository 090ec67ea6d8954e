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
from pycocotools import mask as coco_mask
from small_training import ROOT
from soak import compare_arrays, read_metrics, read_weights, run_trainer

sys.path.insert(0, str(ROOT / "tests"))
from lvis_case import as_coco, as_lvis, make_case

REAL = Path(os.environ.get("CENTERMASK_DATA") or ROOT.parent / "shared" / "data")
NUCLEI = Path("saved_models") / "nuclei"
STEPS_PER_EPOCH = 10
KILLED_STEP = 15  # of 30: inside of the second epoch, after a state that lies in it as well
USAGE_ERROR = 2  # exit status where there is no such option
EQUAL = "equal"
COMMAND = "from centermask_keras.cli import main; main(sys.argv[1:])"
DETECT = """
import centermask_keras as cm
found = []
for result in cm.load(sys.argv[1]).predict(sys.argv[2:]):
    arrays = {name: getattr(result, name).tolist() for name in ("boxes", "scores", "classes")}
    found.append(arrays | {"masks": [row["segmentation"] for row in result.to_coco(1)]})
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
        guard = (
            f"import json, sys, centermask_keras as c; assert c.__file__.startswith({str(self.root)!r}), c.__file__\n"
        )
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
    sets = {
        f"data.{split}": {"annotations": str(data / f"{split}.json"), "images": str(data / split)}
        for split in ("train", "val")
    }
    for key, value in (SMALL | own | sets | (changes or {})).items():
        *parents, last = key.split(".")
        section = values
        for parent in parents:
            section = section[parent]
        section[last] = value
    path = older.folder.parent / f"{name}.json"
    path.write_text(json.dumps(values))
    return path


def make_shapes(older: Side) -> Path:
    """Generate shapes of which every fifth is a crowd, and the same as LVIS; return their folder."""
    folder = older.folder.parent / "shapes"
    older.run(COMMAND, "data", "make-shapes", "--out", folder, "--train", 32, "--val", 4, "--size", 64)
    document = json.loads((folder / "train.json").read_text())
    (folder / "images").symlink_to("train")  # where the addresses in the LVIS file lead
    (folder / "lvis.json").write_text(json.dumps(as_lvis(document)))
    for number, row in enumerate(document["annotations"]):
        row["iscrowd"] = int(number % 5 == 4)
    (folder / "train.json").write_text(json.dumps(document))
    return folder


def annotate_nuclei(older: Side) -> Path:
    """Make annotations for the samples of nuclei, with crowds and as LVIS; return their folder."""
    folder, model = older.folder.parent / "nuclei", older.root / NUCLEI
    folder.mkdir()
    (folder / "images").symlink_to(model / "samples")
    names = [f"images/{path.name}" for path in list_samples(model)]
    document = move_objects(names, find_objects(older, model))
    (folder / "crowds.json").write_text(json.dumps(document))
    (folder / "lvis.json").write_text(json.dumps(as_lvis(document)))
    return folder


def move_objects(names: list[str], found: list[Values]) -> Values:
    """Make annotations of what was found: some are left out, the others moved by up to 3 pixels, some are crowds."""
    images, annotations = [], []
    for image_id, (name, objects) in enumerate(zip(names, found, strict=True), 1):
        height, width = objects["masks"][0]["size"]
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for number, mask in enumerate(objects["masks"]):
            pixels = np.roll(coco_mask.decode(mask), number % 4, axis=1)
            if number % 5 == 0 or not pixels.any():
                continue
            rle = coco_mask.encode(np.asfortranarray(pixels))
            row = {"id": len(annotations) + 1, "image_id": image_id, "category_id": 1, "iscrowd": int(number % 7 == 1)}
            row |= {"bbox": coco_mask.toBbox(rle).tolist(), "area": int(pixels.sum())}
            annotations.append(row | {"segmentation": {"size": [height, width], "counts": rle["counts"].decode()}})
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "nucleus"}]}


def list_samples(model: Path) -> list[Path]:
    return sorted((model / "samples").iterdir())


def find_objects(side: Side, model: Path) -> list[Values]:
    """Return boxes, scores, classes and masks (RLE) of each sample of a model."""
    return json.loads(side.run(DETECT, model, *list_samples(model)))


def detect(model: Path, side: Side) -> Values:
    """Return the same as values to compare; the model is relative to the checkout, or a path."""
    images = enumerate(find_objects(side, side.root / model), 1)
    return {f"{key} of image {number}": json.dumps(value) for number, found in images for key, value in found.items()}


def measure_ceiling(config: Path, annotations: Path, images: Path, side: Side) -> Values:
    """Return the figures of `data ceiling`."""
    words = ("--config", side.copy_config(config), "--annotations", annotations, "--images", images)
    return side.write_figures("data", "ceiling", *words)


def score(results: Path, annotations: Path, words: tuple[str, ...], side: Side) -> Values:
    """Return the figures of a file of results."""
    return side.write_figures("evaluate", "--results", results, "--annotations", annotations, *words)


def evaluate(model: Path, annotations: Path, words: tuple[str, ...], side: Side) -> Values:
    """Return the figures of a model on the images beside the annotations, and what it found."""
    where = ("--annotations", annotations, "--images", annotations.parent, "--out", side.folder / "eval")
    figures = side.write_figures("evaluate", "--run", model, *where, *words)
    return figures | {"detections": (side.folder / "eval" / "detections.json").read_text()}


def train(config: Path, weights: Path | None, side: Side) -> Values:
    """Train and return what is in the run folder."""
    run = side.folder / config.stem
    words = ("--weights", weights) if weights else ()
    side.run(COMMAND, "train", "--config", side.copy_config(config), "--run", run, *words)
    return read_run(run)


def read_run(run: Path) -> Values:
    """Return both weights files and the metrics of a run folder."""
    metrics = {
        f"metrics: epoch {epoch} {key}": value
        for epoch, row in enumerate(read_metrics(run), 1)
        for key, value in row.items()
    }
    return read_weights(run) | metrics


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
    shapes, nuclei, own_nuclei = make_shapes(older), annotate_nuclei(older), older.root / NUCLEI
    yield "detections of nuclei", partial(detect, NUCLEI)
    yield "detections of nuclei, the earlier commit's files", partial(detect, own_nuclei)
    for crowd in ("ignore", "train", "drop"):
        words = ("--set", f"data.crowd={crowd}")
        yield f"evaluation of nuclei, crowd {crowd}", partial(evaluate, own_nuclei, nuclei / "crowds.json", words)
    yield "evaluation of nuclei, LVIS", partial(evaluate, own_nuclei, nuclei / "lvis.json", ())

    truth, results = make_case()
    for name, content in (("truth", truth), ("results", results), ("from_coco", as_coco(results))):
        (nuclei / f"{name}.json").write_text(json.dumps(content))
    for iou_type in ("segm", "bbox", "boundary"):
        words = ("--iou-type", iou_type)
        yield f"LVIS results, {iou_type}", partial(score, nuclei / "results.json", nuclei / "truth.json", words)
    yield "LVIS, COCO's results", partial(score, nuclei / "from_coco.json", nuclei / "truth.json", ("--from-coco",))

    folder = REAL / "coco_eval_reference"
    for iou_type, kind in (("segm", "segm"), ("bbox", "bbox"), ("boundary", "segm")) if folder.is_dir() else ():
        results = folder / f"instances_val2014_fake{kind}100_results.json"
        truth = folder / "instances_val2014_100.json"
        yield f"COCO reference, {iou_type}", partial(score, results, truth, ("--iou-type", iou_type))

    photos, classes = REAL / "coco_tiny", 80
    for detector in DETECTORS:
        dataset = (shapes / "val.json", shapes / "val")
        changes = {}
        if photos.is_dir():
            dataset = (photos / "annotations" / "instances.json", photos / "images")
            changes = {"model.num_classes": classes, "data.input_hw": [128, 128]}
        config = write_config(older, detector, f"{detector}_ceiling", changes)
        yield f"data ceiling, {detector}", partial(measure_ceiling, config, *dataset)

    for detector in DETECTORS:
        yield f"20 steps, {detector}", partial(train, write_config(older, detector, detector), None)
        lvis = {"data.train": {"annotations": str(shapes / "lvis.json"), "images": str(shapes)}}
        config = write_config(older, detector, f"{detector}_lvis", lvis)
        weights = older.folder / detector / "model.weights.h5"
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
