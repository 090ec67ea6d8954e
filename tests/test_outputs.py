"""Outputs never replace inputs, and are never read as inputs: through the commands, and the rule itself."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from centermask_keras.cli import main
from centermask_keras.errors import CenterMaskError
from centermask_keras.outputs import is_own_picture, refuse_overwriting, save_picture

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "saved_models" / "nuclei" / "samples"
MODEL = ROOT / "saved_models" / "nuclei"


def run(*arguments: object) -> int:
    """Run a command in this process; return its exit code."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code or 0
    return 0


def content(folder: Path) -> dict[str, str]:
    """Return the digest of every file below a folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def make_dataset(folder: Path, name: str = "a.json") -> Path:
    """Write two photos, named by the ids of their images, and annotations of them."""
    (folder / "photos").mkdir(parents=True)
    rows = [{"id": number, "file_name": f"{number}.jpg", "height": 32, "width": 48} for number in (1, 2)]
    for row in rows:
        pixels = np.random.default_rng(row["id"]).integers(0, 256, (32, 48, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / row["file_name"])
    box = {"bbox": [4, 4, 20, 20], "area": 400, "segmentation": [[4, 4, 24, 4, 24, 24, 4, 24]], "iscrowd": 0}
    annotations = [{"id": 5, "image_id": 1, "category_id": 1, **box}]
    path = folder / name
    path.write_text(
        json.dumps({"images": rows, "annotations": annotations, "categories": [{"id": 1, "name": "nucleus"}]})
    )
    return path


def assert_refused(capsys, folder: Path, name: str, *command: object) -> None:
    """Assert that a command ends with one error that names a file, and leaves the folder as it was."""
    before = content(folder)
    assert run(*command) == 1
    error = capsys.readouterr().err
    assert "expected to write where nothing is read from" in error and name in error and "Traceback" not in error
    assert content(folder) == before


@pytest.mark.parametrize("link", ["none", "to the folder", "to the file"])
def test_predict_does_not_draw_over_an_image(tmp_path, capsys, link):
    photos = out = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(SAMPLES / "fluorescence.png", photos / "cell.png")
    if link == "to the folder":
        out = tmp_path / "out"
        out.symlink_to(photos)
    if link == "to the file":
        out = tmp_path / "out"
        out.mkdir()
        os.link(photos / "cell.png", out / "cell.png")
    assert_refused(capsys, tmp_path, "cell.png", "predict", "--model", MODEL, photos, "--out", out)


def test_predict_does_not_write_over_the_annotations(tmp_path, capsys):
    path = make_dataset(tmp_path / "set", "predictions.json")
    images = tmp_path / "set" / "photos"
    command = ("predict", "--model", MODEL, images, "--annotations", path, "--out", path.parent)
    assert_refused(capsys, tmp_path, "predictions.json", *command)


def test_data_check_does_not_draw_over_an_image(tmp_path, capsys):
    path = make_dataset(tmp_path / "set")
    images = path.parent / "photos"
    command = ("data", "check", "--annotations", path, "--images", images)
    assert_refused(capsys, tmp_path, "1.jpg", *command, "--out", images)
    assert_refused(capsys, tmp_path, "a.json", *command, "--out", tmp_path / "out", "--json", path)


@pytest.mark.parametrize("spoiled", [False, True])
def test_data_check_does_not_report_over_the_annotations(tmp_path, capsys, spoiled):
    path = make_dataset(tmp_path / "set", "report.json")
    if spoiled:
        path.write_text("no json")
    command = ("data", "check", "--annotations", path, "--images", path.parent / "photos", "--out", path.parent)
    assert_refused(capsys, tmp_path, "report.json", *command)


@pytest.mark.parametrize("name", ["metrics.json", "per_class.csv"])
def test_evaluate_does_not_write_over_what_it_scores(tmp_path, capsys, name):
    path = make_dataset(tmp_path, name)
    results = tmp_path / "results.json"
    results.write_text("[]")
    command = ("evaluate", "--results", results, "--annotations", path)
    assert_refused(capsys, tmp_path, name, *command, "--out", tmp_path)
    assert_refused(capsys, tmp_path, "results.json", *command, "--json", results)


def test_figures_replace_figures_alone(tmp_path, capsys):
    path = make_dataset(tmp_path)
    (tmp_path / "results.json").write_text("[]")
    command = ("evaluate", "--results", tmp_path / "results.json", "--annotations", path, "--json")
    before = content(tmp_path)
    assert run(*command, tmp_path / "photos" / "1.jpg") == 1
    assert "1.jpg: expected figures to replace" in capsys.readouterr().err and content(tmp_path) == before
    for _ in range(2):
        assert run(*command, tmp_path / "figures.json") == 0


@pytest.mark.slow
def test_evaluate_does_not_write_over_the_annotations_of_a_model(tmp_path, capsys):
    path = make_dataset(tmp_path, "detections.json")
    command = ("evaluate", "--run", MODEL, "--annotations", path, "--images", tmp_path / "photos", "--out", tmp_path)
    assert_refused(capsys, tmp_path, "detections.json", *command)


@pytest.mark.slow
def test_shards_do_not_replace_what_they_are_written_from(tmp_path, capsys):
    path = make_dataset(tmp_path / "set")
    shards = tmp_path / "partial.train"
    assert run("data", "shard", "--annotations", path, "--images", path.parent / "photos", "--out", shards) == 0
    capsys.readouterr()
    command = ("--annotations", shards / "annotations.json", "--images", shards, "--out", tmp_path / "train")
    assert_refused(capsys, tmp_path, "partial.train", "data", "shard", *command)
    assert_refused(capsys, tmp_path, "a.json", "data", "shard", *command[:1], path, *command[2:], "--json", path)


@pytest.mark.slow
def test_exports_do_not_replace_what_they_are_made_from(tmp_path, capsys):
    folder = tmp_path / "mine"
    shutil.copytree(MODEL, folder / "1")  # a run of this name, in whose place the SavedModel would go
    command = ("export", "--format", "saved_model", "--run", folder / "1", "--images", SAMPLES)
    assert_refused(capsys, tmp_path, "config.json", *command, "--to", folder)
    assert run(*command, "--to", folder / "1") == 1
    assert "expected another folder than that of the run" in capsys.readouterr().err
    shutil.rmtree(folder / "1")
    shutil.copytree(SAMPLES, folder / "1" / "photos")
    command = ("export", "--format", "saved_model", "--run", MODEL, "--images", folder, "--to", folder)
    assert_refused(capsys, tmp_path, "fluorescence.png", *command)


@pytest.mark.slow
def test_pictures_that_were_drawn_are_not_read(tmp_path, capsys):
    folder = tmp_path / "in"
    shutil.copytree(SAMPLES, folder)
    (folder / "scan.tif").write_bytes(b"II*\0")
    (folder / ".hidden.png").write_bytes(b"")
    dataset = make_dataset(tmp_path / "set")
    images = dataset.parent / "photos"
    assert run("data", "check", "--annotations", dataset, "--images", images, "--out", folder / "check") == 0
    for _ in range(2):
        assert run("predict", "--model", MODEL, folder, "--out", folder / "out") == 0
        printed = capsys.readouterr().out
        assert "in 2 images" in printed
        assert f"not read: {folder / 'scan.tif'}: suffix .tif" in printed
        assert f"not read: {folder / '.hidden.png'}: hidden" in printed
        assert f"not read: {folder / 'check'}: a folder of outputs" in printed
    assert f"not read: {folder / 'out'}: a folder of outputs, pictures that this program drew: 2" in printed
    assert run("predict", "--model", MODEL, f"{folder}/**/*.png", "--out", tmp_path / "elsewhere") == 0
    assert "in 2 images" in capsys.readouterr().out
    assert run("predict", "--model", MODEL, folder / "out" / "fluorescence.png", "--out", tmp_path / "named") == 0
    assert "in 1 images" in capsys.readouterr().out  # who names a picture means it


def test_names_of_files_and_classes_are_printed_and_drawn_on_one_line(tmp_path, capsys):
    path = make_dataset(tmp_path / "set")
    document = json.loads(path.read_text())
    document["categories"][0]["name"] = "cell\nwall\x1b[2J"
    path.write_text(json.dumps(document))
    command = ("data", "check", "--annotations", path, "--images", path.parent / "photos", "--out", tmp_path / "check")
    assert run(*command) == 0 and (tmp_path / "check" / "1.jpg").is_file()
    name = "two  spaces\nand a line\x1b[2J.png"
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / name).write_bytes(b"no image")
    (tmp_path / "photos" / f"{name}.txt").touch()
    capsys.readouterr()
    assert run("predict", "--model", MODEL, tmp_path / "photos", "--out", tmp_path / "out") == 1
    printed = capsys.readouterr()
    shown = "two  spaces\\nand a line\\x1b[2J.png"
    (line,) = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert f"{shown}: expected a JPEG" in line and f"{shown}.txt: suffix" in printed.out
    assert "\x1b[2J" not in printed.out + printed.err


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_pictures_carry_a_mark(tmp_path, name):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8))
    save_picture(picture, tmp_path / name)
    picture.save(tmp_path / f"other_{name}")
    assert is_own_picture(tmp_path / name) and not is_own_picture(tmp_path / f"other_{name}")
    assert not is_own_picture(tmp_path / "none.png") and not is_own_picture(tmp_path)
    pixels = [np.array(Image.open(tmp_path / file)) for file in (name, f"other_{name}")]
    assert name == "a.jpg" or (pixels[0] == pixels[1]).all()


def test_a_folder_that_is_replaced_guards_all_that_is_in_it(tmp_path):
    (tmp_path / "1" / "deep").mkdir(parents=True)
    (tmp_path / "1" / "deep" / "a.png").write_bytes(b"a")
    (tmp_path / "link.png").symlink_to(tmp_path / "1" / "deep" / "a.png")
    for name in ("1/deep/a.png", "link.png"):
        with pytest.raises(CenterMaskError, match=f"received .*{name}, which this command reads"):
            refuse_overwriting([tmp_path / "new.json", tmp_path / "1"], [tmp_path / "none.png", tmp_path / name])
    refuse_overwriting([tmp_path / "1"], [tmp_path / "b.png"])
    refuse_overwriting([tmp_path / "1" / "deep" / "b.png"], [tmp_path / "1" / "deep" / "a.png"])
