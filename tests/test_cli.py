"""The command line as a user meets it: figures, files, and errors of one or two lines without a traceback."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import lvis_case
import pytest

from centermask_keras import __version__, cli
from centermask_keras.cli import (
    benchmark,
    client,
    config,
    data_ceiling,
    data_check,
    data_convert,
    data_make_shapes,
    data_shard,
    data_split,
    demo,
    evaluate,
    export,
    import_weights,
    main,
    predict,
    train,
)
from centermask_keras.cli.output import write_json
from centermask_keras.config import load_config
from centermask_keras.demo.shapes import make_shapes
from centermask_keras.errors import CenterMaskError, InterruptedTraining
from centermask_keras.inference.input_images import own_images

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "configs" / "demo.json"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    make_shapes(folder, train=8, val=4, hw=(128, 128), seed=5)
    return folder


def on_shapes(folder: Path) -> list[str]:
    """Return the options that make the demo configuration a run of 2 steps on a few shapes."""
    values = {
        "data.train.annotations": str(folder / "train.json"),
        "data.train.images": str(folder / "train"),
        "data.val.annotations": str(folder / "val.json"),
        "data.val.images": str(folder / "val"),
        "train.batch_size": 4,
        "train.epochs": 1,
        "train.drop_epochs": [1],
        "train.validate_every": 1,
    }
    return [part for key, value in values.items() for part in ("--set", f"{key}={json.dumps(value)}")]


def run(*arguments: str) -> None:
    """Run a command in this process; a nonzero exit raises SystemExit."""
    try:
        main(list(arguments))
    except SystemExit as stop:
        if stop.code:
            raise


@pytest.fixture(scope="module")
def trained(shapes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    run(
        "train",
        "--config",
        str(DEMO),
        "--run",
        str(folder),
        *on_shapes(shapes),
        "--json",
        str(folder.parent / "t.json"),
    )
    return folder


def test_train_leaves_a_run_folder_and_figures(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"config.json", "model.weights.h5", "metrics.csv", "run.json"} <= names
    figures = json.loads((trained.parent / "t.json").read_text())
    assert 0 <= figures["mask_ap"] <= 1 and figures["epoch"] == 1


@pytest.fixture(scope="module")
def shards(shapes, tmp_path_factory):
    """The same shapes, written as shards by the command."""
    folder = tmp_path_factory.mktemp("shards")
    for split in ("train", "val"):
        out = folder / split
        run(
            "data",
            "shard",
            "--annotations",
            str(shapes / f"{split}.json"),
            "--images",
            str(shapes / split),
            "--out",
            str(out),
        )
    return folder


def on_shards(folder: Path) -> list[str]:
    """Return the options that put shards in the place of the image files."""
    places = {
        split: {"annotations": str(folder / split / "annotations.json"), "images": str(folder / split)}
        for split in ("train", "val")
    }
    return [part for split, place in places.items() for part in ("--set", f"data.{split}={json.dumps(place)}")]


def test_shards_tell_their_sizes_and_what_to_configure(shapes, shards, capsys, tmp_path):
    run(
        "data",
        "shard",
        "--annotations",
        str(shapes / "val.json"),
        "--images",
        str(shapes / "val"),
        "--out",
        str(tmp_path / "out"),
        "--json",
        str(tmp_path / "figures.json"),
    )
    figures = json.loads((tmp_path / "figures.json").read_text())
    files = sum(path.stat().st_size for path in (shapes / "val").iterdir())
    assert figures == {
        "images": 4,
        "image_bytes": files,
        "shards": 1,
        "total_bytes": sum(path.stat().st_size for path in (tmp_path / "out").iterdir()),
    }
    printed = capsys.readouterr().out
    assert f"4 images, {files / 1e6:.1f} MB   shards: 1" in printed
    assert f"annotations {tmp_path / 'out' / 'annotations.json'}, images {tmp_path / 'out'}" in printed
    run(
        "data",
        "check",
        "--annotations",
        str(shards / "val" / "annotations.json"),
        "--images",
        str(shards / "val"),
        "--out",
        str(tmp_path / "check"),
    )
    assert "4 images" in capsys.readouterr().out


def read_figures(path: Path) -> dict[str, str]:
    with path.open(newline="") as file:
        (row,) = csv.DictReader(file)
    return {key: value for key, value in row.items() if key not in ("seconds", "images_per_second")}


@pytest.mark.slow
def test_training_and_evaluation_of_shards_are_those_of_image_files(trained, shapes, shards, tmp_path):
    run("train", "--config", str(DEMO), "--run", str(tmp_path / "run"), *on_shapes(shapes), *on_shards(shards))
    figures = [read_figures(folder / "metrics.csv") for folder in (trained, tmp_path / "run")]
    assert figures[0] == figures[1] and len(figures[0]) > 6
    for name, options in (("files", []), ("shards", on_shards(shards))):
        run("evaluate", "--run", str(trained), *options, "--out", str(tmp_path / name))
    found = [(tmp_path / name / "detections.json").read_text() for name in ("files", "shards")]
    assert found[0] == found[1] and len(json.loads(found[0])) > 0


def test_a_training_stopped_by_sigterm_has_its_exit_code(monkeypatch, capsys, tmp_path):
    def stop(*args, **kwargs):
        raise InterruptedTraining("stopped by SIGTERM after step 7; the same command continues the training")

    monkeypatch.setattr("centermask_keras.training.train.train", stop)
    with pytest.raises(SystemExit) as caught:
        main(["train", "--config", str(DEMO), "--run", str(tmp_path)])
    assert caught.value.code == 143
    assert capsys.readouterr().err == "stopped by SIGTERM after step 7; the same command continues the training\n"


def test_evaluate_a_run_writes_report_and_results(trained, capsys, tmp_path):
    run("evaluate", "--run", str(trained), "--json", str(tmp_path / "figures.json"))
    printed = capsys.readouterr().out
    assert "AP50" in printed and "mask" in printed and "box" in printed and "4 images in" in printed
    assert {path.name for path in (trained / "eval").iterdir()} == {"metrics.json", "per_class.csv", "detections.json"}
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert {"mask_ap", "mask_ap_small", "mask_ar100", "box_ap", "boundary_ap", "boundary_ap_large"} <= set(figures)
    header = (trained / "eval" / "per_class.csv").read_text().splitlines()[0].split(",")
    assert {"name", "mask_ap", "box_ap", "boundary_ap"} <= set(header)


def test_evaluate_by_weights_agrees_with_the_run(trained, tmp_path):
    run("evaluate", "--run", str(trained), "--json", str(tmp_path / "a.json"), "--out", str(tmp_path / "a"))
    config, weights = str(trained / "config.json"), str(trained / "model.weights.h5")
    run(
        "evaluate",
        "--config",
        config,
        "--weights",
        weights,
        "--json",
        str(tmp_path / "b.json"),
        "--out",
        str(tmp_path / "b"),
    )
    first, second = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert first["mask_ap"] == second["mask_ap"] and first["box_ap"] == second["box_ap"]


def test_results_score_as_the_evaluation_that_wrote_them(trained, shapes, tmp_path):
    run("evaluate", "--run", str(trained), "--json", str(tmp_path / "a.json"), "--out", str(tmp_path / "a"))
    detections = str(tmp_path / "a" / "detections.json")
    run(
        "evaluate",
        "--results",
        detections,
        "--annotations",
        str(shapes / "val.json"),
        "--json",
        str(tmp_path / "b.json"),
    )
    first, second = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert second == {key: first[key] for key in second} and "mask_ap" in second


def test_a_test_set_gets_a_submission_and_no_figures(trained, shapes, tmp_path, capsys):
    data = json.loads((shapes / "val.json").read_text())
    del data["annotations"]
    (tmp_path / "image_info.json").write_text(json.dumps(data))
    paths = ["--annotations", str(tmp_path / "image_info.json"), "--images", str(shapes / "val")]
    run("evaluate", "--run", str(trained), *paths, "--out", str(tmp_path / "out"))
    printed = capsys.readouterr().out
    assert "nothing to score" in printed and "AP" not in printed
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["detections.json"]


def test_predict_writes_pictures_and_masks(trained, shapes, tmp_path, capsys):
    out = tmp_path / "out"
    run("predict", "--model", str(trained), str(shapes / "val"), "--out", str(out), "--score", "0")
    predictions = json.loads((out / "predictions.json").read_text())
    assert len(predictions["images"]) == 4
    assert len(list(out.glob("*.png"))) == 4
    rows = [row for image in predictions["images"] for row in image["objects"]]
    assert rows and {"category_id", "bbox", "score", "segmentation"} <= set(rows[0])
    assert "in 4 images" in capsys.readouterr().out


def test_predict_goes_on_after_a_broken_image_and_fails_at_the_end(trained, shapes, tmp_path, capsys):
    good = next((shapes / "val").iterdir())
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(SystemExit):
        run("predict", "--model", str(trained), str(tmp_path / "broken.jpg"), str(good), "--out", str(tmp_path / "out"))
    captured = capsys.readouterr()
    assert "broken.jpg" in captured.err and "in 1 images" in captured.out


def test_ceiling_and_check_print_their_figures(shapes, tmp_path, capsys):
    run("data", "ceiling", "--config", str(DEMO), *on_shapes(shapes), "--json", str(tmp_path / "ceiling.json"))
    assert "best possible mask AP with this configuration: 0." in capsys.readouterr().out
    figures = json.loads((tmp_path / "ceiling.json").read_text())
    assert figures["mask_ap"] > 0.9 > figures["saliency_alone"]
    val = ["--annotations", str(shapes / "val.json"), "--images", str(shapes / "val")]
    run("data", "check", *val, "--out", str(tmp_path / "check"))
    printed = capsys.readouterr().out
    assert "4 images" in printed and "centre collisions at stride 4" in printed
    assert (tmp_path / "check" / "report.json").is_file()
    fcos = str(DEMO.parent / "fcos_resnet101.json")
    run("data", "check", "--config", fcos, *val, "--out", str(tmp_path / "check"))
    assert "collisions" not in capsys.readouterr().out


def test_check_of_a_configuration_looks_at_both_sets(shapes, tmp_path, capsys):
    out, figures = tmp_path / "check", tmp_path / "check.json"
    run("data", "check", "--config", str(DEMO), *on_shapes(shapes), "--out", str(out), "--json", str(figures))
    printed = capsys.readouterr().out
    written = json.loads(figures.read_text())
    for part in ("train", "val"):
        images = len(json.loads((shapes / f"{part}.json").read_text())["images"])
        assert f"{part}: {images} images" in printed and written[part]["images"] == images
        assert json.loads((out / part / "report.json").read_text()) == written[part]
        assert written[part]["config_drops"]["max_objects"] > 0 and list((out / part).glob("*.jpg"))
    assert printed.count("this configuration drops") == 2 and printed.count("median size") == 2


def test_check_fails_on_a_broken_image(shapes, tmp_path, capsys):
    data = json.loads((shapes / "val.json").read_text())
    images = tmp_path / "images"
    images.mkdir()
    for path in (shapes / "val").iterdir():
        (images / path.name).write_bytes(path.read_bytes())
    name = data["images"][0]["file_name"]
    (images / name).write_bytes((images / name).read_bytes()[:-200])
    with pytest.raises(SystemExit):
        run(
            "data",
            "check",
            "--annotations",
            str(shapes / "val.json"),
            "--images",
            str(images),
            "--out",
            str(tmp_path / "c"),
        )
    assert name in capsys.readouterr().out


def test_make_shapes_writes_a_dataset(tmp_path, capsys):
    run("data", "make-shapes", "--out", str(tmp_path / "shapes"), "--train", "3", "--val", "2")
    assert json.loads(capsys.readouterr().out)
    assert (tmp_path / "shapes" / "train.json").is_file()


def test_config_brings_a_file_of_an_earlier_version_up_to_date(tmp_path, capsys):
    path = tmp_path / "mine.json"
    values = json.loads(DEMO.read_text())
    values["loss_weights"] = values["model"].pop("loss_weights")
    values["data"]["processes"] = 4
    path.write_text(json.dumps(values))
    run("config", "--upgrade", str(path))
    assert capsys.readouterr().out.splitlines() == [
        "loss_weights: moved to model.loss_weights",
        "data.processes: moved to the option --processes of `centermask train`, as it belongs to a host (received 4)",
        f"{path}: written anew",
    ]
    assert load_config(path) == load_config("demo")
    run("config", "--upgrade", str(path))
    assert capsys.readouterr().out == f"{path}: has today's form already\n"
    with pytest.raises(CenterMaskError, match="--set: expected with --show FILE only"):
        cli.config_command(upgrade=path, set_=["train.epochs=1"])


def test_config_prints_schema_and_checked_configurations(capsys):
    run("config", "--schema")
    assert "properties" in json.loads(capsys.readouterr().out)
    run("config", "--show", str(DEMO), "--set", "train.epochs=7")
    assert json.loads(capsys.readouterr().out)["train"]["epochs"] == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--config", "none.json"], r"error: none.json: expected a readable JSON configuration"),
        (["train", "--config", str(DEMO), "--set", "train.epoch=3"], "no such key"),
        (
            ["predict", "--model", "nowhere", str(ROOT / "configs"), "--out", "out"],
            "expected an image, a folder of images",
        ),
        (["evaluate", "--run", "nowhere"], "nowhere: expected a run folder"),
        (["train", "--config", str(DEMO), "--set", "data.train.images=none"], "data.train.images: expected a folder"),
        (["evaluate", "--config", str(DEMO)], "expected --run DIR, or --config FILE with --weights FILE"),
        (["data", "shard", "--annotations", "none.json", "--images", "none", "--out", "out"], "none.json: expected"),
        (["data", "check", "--images", "none"], "expected --annotations FILE and --images DIR"),
    ],
)
def test_mistakes_give_one_or_two_lines_and_no_traceback(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code != 0
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert len(error.strip().splitlines()) <= 4  # one for each path of the demo, which has not run here


def test_a_wrong_number_of_classes_says_what_to_type(shapes, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(
            "train",
            "--config",
            str(DEMO),
            "--run",
            str(tmp_path / "r"),
            *on_shapes(shapes),
            "--set",
            "model.num_classes=80",
        )
    classes = len(json.loads((shapes / "train.json").read_text())["categories"])
    error = capsys.readouterr().err
    assert f"model.num_classes: expected {classes} (classes in train.json), received 80" in error
    assert f"Pass --set model.num_classes={classes}" in error


@pytest.mark.parametrize("arguments", [["train.py"], ["evaluate.py"], ["-m", "centermask_keras"]])
def test_help_is_quick_and_complete(arguments):
    done = subprocess.run([sys.executable, *arguments, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout and ("--set" in done.stdout or "predict" in done.stdout)


def test_demo_configuration_is_the_one_of_the_shapes(shapes):
    classes = json.loads((shapes / "train.json").read_text())["categories"]
    assert load_config(DEMO).model.num_classes == len(classes)


def test_places_that_cannot_be_written_are_told_in_one_line(shapes, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    commands = [
        ["train", "--config", str(DEMO), "--run", str(tmp_path / "file"), *on_shapes(shapes)],
        ["data", "make-shapes", "--out", str(tmp_path / "file"), "--train", "1", "--val", "1"],
        ["predict", "--model", "none", str(shapes / "val"), "--out", str(tmp_path / "file" / "out")],
    ]
    for command in commands:
        with pytest.raises(SystemExit) as stop:
            main(command)
        assert stop.value.code == 1
        error = capsys.readouterr().err
        assert f"error: {tmp_path / 'file'}" in error and "Traceback" not in error and len(error.splitlines()) == 1


def test_the_same_image_is_predicted_once(trained, shapes, tmp_path, capsys):
    image = next((shapes / "val").iterdir())
    twice = [str(image), str(image.parent / ".." / "val" / image.name)]
    run("predict", "--model", str(trained), *twice, "--out", str(tmp_path / "out"))
    assert "in 1 images" in capsys.readouterr().out


def test_figures_are_written_into_a_folder_that_is_not_there_yet(tmp_path):
    write_json(tmp_path / "a" / "b.json", {"mask_ap": 0.5})
    assert json.loads((tmp_path / "a" / "b.json").read_text()) == {"mask_ap": 0.5}
    write_json(None, {})  # no file asked for


COMMANDS = (benchmark, client, config, demo, evaluate, export, import_weights, predict, train)
DATA_COMMANDS = (data_ceiling, data_check, data_convert, data_make_shapes, data_shard, data_split)


def test_every_command_has_a_file_of_its_own():
    for app, files in ((cli.app, COMMANDS), (cli.data_app, DATA_COMMANDS)):
        places = {command.callback.__module__ for command in app.registered_commands}
        assert places == {file.__name__ for file in files} and len(places) == len(app.registered_commands)
    names = {command.name for command in cli.data_app.registered_commands}
    assert names == {"convert", "check", "ceiling", "shard", "make-shapes", "split"}


@pytest.mark.parametrize("module", ["centermask_keras", "centermask_keras.cli"])
def test_the_version_is_printed(module):
    done = subprocess.run([sys.executable, "-m", module, "--version"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"centermask-keras {__version__}\n", "")


def test_coco_results_are_scored_on_lvis(tmp_path, capsys):
    document, results = lvis_case.make_case()
    (tmp_path / "lvis.json").write_text(json.dumps(document))
    (tmp_path / "lvis_results.json").write_text(json.dumps(results))
    (tmp_path / "coco_results.json").write_text(json.dumps(lvis_case.as_coco(results)))
    arguments = ["evaluate", "--annotations", str(tmp_path / "lvis.json"), "--json", str(tmp_path / "figures.json")]
    reference = json.loads((Path(lvis_case.__file__).with_name("lvis_reference.json")).read_text())
    run(*arguments, "--results", str(tmp_path / "lvis_results.json"))
    assert json.loads((tmp_path / "figures.json").read_text())["mask_ap_rare"] == pytest.approx(
        reference["segm"]["APr"]
    )
    title, mask = capsys.readouterr().out.splitlines()[:2]
    assert title.split()[-3:] == ["rare", "common", "freq."] and len(mask.split()) == 10
    run(*arguments, "--results", str(tmp_path / "coco_results.json"), "--from-coco")
    assert json.loads((tmp_path / "figures.json").read_text())["mask_ap"] == pytest.approx(reference["coco_segm"]["AP"])


def test_a_model_comes_with_the_images_of_its_validation_set(shapes):
    config = load_config(DEMO, on_shapes(shapes)[1::2])
    names = [row["file_name"] for row in json.loads((shapes / "val.json").read_text())["images"]]
    assert own_images(ROOT, config) == [shapes / "val" / name for name in names]


def test_a_model_comes_with_the_images_of_its_validation_shards(shapes, shards):
    config = load_config(DEMO, [*on_shapes(shapes)[1::2], *on_shards(shards)[1::2]])
    expected = [path.read_bytes() for path in sorted((shapes / "val").iterdir())]
    assert sorted(file.read_bytes() for file in own_images(ROOT, config)) == sorted(expected)


def test_images_of_lvis_are_found_by_their_addresses(tmp_path):
    """LVIS 1.0 has no `file_name`."""
    images = [{"id": 7, "coco_url": "http://images.cocodataset.org/val2017/000000000007.jpg", "width": 4, "height": 4}]
    images[0] |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    document = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "val.json").write_text(json.dumps(document))
    folder = {"annotations": str(tmp_path / "val.json"), "images": str(tmp_path)}
    config = load_config(DEMO, [f"data.val={json.dumps(folder)}"])
    assert own_images(ROOT, config) == [tmp_path / "val2017" / "000000000007.jpg"]


def test_a_model_without_its_validation_set_comes_with_samples(tmp_path):
    config = load_config(DEMO, [f"data.val.annotations={tmp_path / 'none.json'}"])
    samples = ROOT / "saved_models" / "nuclei"
    assert own_images(samples, config) == sorted((samples / "samples").iterdir())
    with pytest.raises(CenterMaskError, match="expected the images of the validation set.*Pass --images DIR"):
        own_images(tmp_path, config)


def test_an_unknown_backend_is_told_without_a_traceback():
    command = [sys.executable, "-m", "centermask_keras.cli", "train", "--config", "configs/demo.json"]
    environment = {**os.environ, "KERAS_BACKEND": "foo"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "error: KERAS_BACKEND: expected tensorflow, jax or torch" in done.stderr
    assert "Traceback" not in done.stderr
