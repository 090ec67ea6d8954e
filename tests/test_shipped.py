"""Shipped configurations and models have names; a path that exists wins, and an error lists the names."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import centermask_keras as cm
from centermask_keras import shipped
from centermask_keras.cli import main
from centermask_keras.errors import CenterMaskError, ConfigError

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "configs" / "demo.json"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert not stop.value.code


def test_every_file_of_the_repository_has_a_name():
    named = shipped.configs()
    assert {"demo", "dla34", "ablations/1a_shape_size_24"} <= set(named)
    assert named["demo"] == DEMO
    assert named["ablations/1a_shape_size_24"] == ROOT / "configs" / "ablations" / "1a_shape_size_24.json"
    assert shipped.models()["nuclei"] == ROOT / "saved_models" / "nuclei"


def test_copies_inside_of_the_package_are_the_shipped_ones(tmp_path, monkeypatch):
    (tmp_path / "configs" / "ablations").mkdir(parents=True)
    (tmp_path / "saved_models" / "mine" / "samples").mkdir(parents=True)
    for name in ("configs/a.json", "configs/ablations/b.json", "saved_models/mine/model.weights.h5"):
        (tmp_path / name).touch()
    monkeypatch.setattr(shipped, "COPIES", tmp_path)
    assert list(shipped.configs()) == ["a", "ablations/b"] and list(shipped.models()) == ["mine"]


def test_a_configuration_loads_by_its_name_from_everywhere(elsewhere):
    assert cm.load_config("demo") == cm.load_config(DEMO)
    row = Path("ablations/1a_shape_size_24")
    assert cm.load_config(row) == cm.load_config(ROOT / "configs" / row.with_suffix(".json"))


def test_mistakes_in_a_named_configuration_are_told_by_its_name(elsewhere):
    with pytest.raises(ConfigError, match=r"^demo: train\.epochs: expected"):
        cm.load_config("demo", ["train.epochs=none"])


def test_a_file_that_exists_wins_over_a_name(elsewhere):
    values = json.loads(DEMO.read_text()) | {"about": "my own, under a name that is taken"}
    (elsewhere / "dla34").write_text(json.dumps(values))
    assert cm.load_config("dla34").about == values["about"]
    (elsewhere / "demo").mkdir()  # a folder is no configuration
    assert shipped.find_config("demo") == DEMO


def test_a_model_that_exists_wins_over_a_name(elsewhere):
    assert shipped.find_model("nuclei") == ROOT / "saved_models" / "nuclei"
    (elsewhere / "nuclei").mkdir()
    assert shipped.find_model("nuclei") == Path("nuclei")
    with pytest.raises(CenterMaskError, match=r"nuclei: expected a run folder with config\.json"):
        cm.load("nuclei")


@pytest.mark.parametrize("given", ["dla3", "dla34.json", "../configs/dla34", "", "."])
def test_what_is_no_configuration_lists_the_names(elsewhere, given):
    with pytest.raises(ConfigError, match=r"expected a readable JSON configuration, received.* demo, dla34, ") as error:
        shipped.find_config(given)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("given", ["nucleus", "runs/nuclei", "nuclei.onnx"])
def test_what_is_no_model_lists_the_names(elsewhere, given):
    with pytest.raises(CenterMaskError, match=r"expected a run folder or an exported model, .* models: nuclei"):
        shipped.find_model(given)


@pytest.mark.slow
def test_commands_take_names(elsewhere, capsys):
    run("config", "--show", "demo", "--set", "train.epochs=7")
    assert json.loads(capsys.readouterr().out)["train"]["epochs"] == 7
    run("predict", "--model", "nuclei", str(ROOT / "saved_models/nuclei/samples"), "--out", "out")
    found = json.loads((elsewhere / "out" / "predictions.json").read_text())["images"]
    assert [len(row["objects"]) >= 20 for row in found] == [True, True]
    run("data", "make-shapes", "--out", "shapes", "--train", "1", "--val", "2")
    val = ["--annotations", "shapes/val.json", "--images", "shapes/val"]
    capsys.readouterr()
    run("data", "ceiling", "--config", "demo", *val)
    assert "best possible mask AP" in capsys.readouterr().out
    run("benchmark", "--model", "nuclei", "--batch-size", "1", "--repeats", "1", "--set", "data.val.images=none")
    assert "float32 batch 1" in capsys.readouterr().out


def test_an_evaluation_of_a_named_model_writes_below_runs(elsewhere):
    run("data", "make-shapes", "--out", "shapes", "--train", "1", "--val", "2")
    document = json.loads(Path("shapes/val.json").read_text())
    document["categories"] = [{"id": 1, "name": "nucleus"}]
    for row in document["annotations"]:
        row["category_id"] = 1
    Path("shapes/val.json").write_text(json.dumps(document))
    run("evaluate", "--model", "nuclei", "--annotations", "shapes/val.json", "--images", "shapes/val")
    assert (elsewhere / "runs" / "nuclei" / "eval" / "metrics.json").is_file()


def test_a_training_by_name_goes_to_the_run_folder_of_that_name(elsewhere, monkeypatch, capsys):
    called = {}

    def train(config, *, run_dir, name, **_):
        called.update(about=config.about, run_dir=run_dir, name=name)
        raise CenterMaskError("enough")

    monkeypatch.setattr("centermask_keras.training.train.train", train)
    for name, run_dir in (("dla34", "runs/dla34"), ("ablations/1a_shape_size_24", "runs/1a_shape_size_24")):
        with pytest.raises(SystemExit):
            main(["train", "--config", name])
        assert called == {"about": cm.load_config(name).about, "run_dir": Path(run_dir), "name": name}


def test_names_cost_no_imports():
    code = "import sys; import centermask_keras.shipped; print(*{'numpy', 'pydantic', 'keras'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []
