"""The worked examples of CONTRIBUTING.md, applied to a copy of the package: they train, export and touch few files."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from project_files import ROOT, files_below

MOST_EDITED = {"A backbone": 2, "A loss": 2, "A format of annotations": 1, "A format of export": 2}
TRAINING = {
    "model.backbone": "plain",
    "model.loss_weights.dice": 2.0,
    "train.epochs": 1,
    "data.train.annotations": "converted/train/annotations.json",
    "data.train.images": "converted/train/images",
    "data.val.annotations": "converted/val/annotations.json",
    "data.val.images": "converted/val/images",
}

pytestmark = pytest.mark.slow


def examples() -> dict[str, list[tuple[str, str]]]:
    """Return the code blocks of each example: (language, text)."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    sections = re.split(r"^#{2,3} (.+)\n", text, flags=re.MULTILINE)
    titled = dict(zip(sections[1::2], sections[2::2], strict=True))
    return {title: re.findall(r"```(\w+)\n(.*?)```", titled[title], flags=re.DOTALL) for title in MOST_EDITED}


def apply_block(folder: Path, language: str, block: str) -> set[str]:
    """Make the file that a block is, or change those that it names; return the existing files that it changes."""
    if language == "python":
        path = folder / block.partition("\n")[0].removeprefix("# ")
        assert not path.exists() and path.parent.is_dir(), path
        path.write_text(block.partition("\n")[2], encoding="utf-8")
        return set()
    edited = set()
    for name, changes in re.findall(r"^\+\+\+ (\S+)\n(.*?)(?=^--- |\Z)", block, flags=re.MULTILINE | re.DOTALL):
        text = (folder / name).read_text(encoding="utf-8")
        for hunk in changes.split("@@\n")[1:]:
            lines = hunk.splitlines()
            before, after = ("".join(f"{line[1:]}\n" for line in lines if line[:1] in f" {sign}") for sign in "-+")
            assert text.count(before) == 1, (name, before)
            text = text.replace(before, after)
        (folder / name).write_text(text, encoding="utf-8")
        edited.add(name)
    return edited


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A copy of the package with all examples applied."""
    folder = tmp_path_factory.mktemp("copy")
    for path in (*files_below("centermask_keras"), *files_below("configs")):
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for title, blocks in examples().items():
        edited = set().union(*(apply_block(folder, *block) for block in blocks))
        assert 0 < len(edited) <= MOST_EDITED[title], (title, edited)
    return folder


def call(folder: Path, *words: object) -> str:
    command = [sys.executable, "-m", "centermask_keras", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write_labels(coco: Path, out: Path) -> None:
    """Write the boxes of a COCO json in the form of the example."""
    document = json.loads(coco.read_text())
    names = {category["id"]: category["name"] for category in document["categories"]}
    labels = {image["id"]: {"file": image["file_name"], "polygons": []} for image in document["images"]}
    for annotation in document["annotations"]:
        left, top, width, height = annotation["bbox"]
        right, bottom = left + width, top + height
        polygon = [left, top, right, top, right, bottom, left, bottom]
        labels[annotation["image_id"]]["polygons"].append([names[annotation["category_id"]], polygon])
    out.write_text(json.dumps({"labels": list(labels.values())}))


def test_a_backbone_a_loss_and_a_format_of_annotations_train(copy):
    call(copy, "data", "make-shapes", "--out", "shapes", "--train", "80", "--val", "4")
    for split in ("train", "val"):
        labels = copy / "shapes" / split / "labels.json"
        write_labels(copy / "shapes" / f"{split}.json", labels)
        printed = call(copy, "data", "convert", labels, "--out", copy / "converted" / split)
        assert f"{labels}: json of labels" in printed
    settings = [word for key, value in TRAINING.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    printed = call(copy, "train", "--config", "demo", *settings, "--run", "runs/example")
    assert re.search(r"epoch 1/1 .* dice [\d.]+", printed)
    metrics = (copy / "runs" / "example" / "metrics.csv").read_text()
    assert "dice" in metrics.partition("\n")[0]
    config = json.loads((copy / "runs" / "example" / "config.json").read_text())
    assert config["model"]["backbone"] == "plain"


def test_a_format_of_export_is_proven_and_predicts(copy):
    samples = ROOT / "saved_models" / "nuclei" / "samples"
    model = samples.parent
    printed = call(copy, "export", "--run", model, "--format", "pbz", "--images", samples, "--to", "exported/nuclei")
    assert re.search(r"Frozen graph fp32 +nuclei\.pbz .*\n.*all within tolerance", printed)
    call(copy, "predict", "--model", "exported/nuclei/nuclei.pbz", samples, "--out", "out")
    found = json.loads((copy / "out" / "predictions.json").read_text())["images"]
    assert all(image["objects"] for image in found)
