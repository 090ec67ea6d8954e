"""Run folders: what is written comes back, a kill at any moment leaves whole files, other runs are not touched."""

import json
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from centermask_keras.config import load_config
from centermask_keras.errors import CenterMaskError, ConfigError
from centermask_keras.training.run_folder import RunFolder, check_same, open_run
from centermask_keras.training.state import RunProgress

DEMO = Path(__file__).parents[2] / "configs" / "demo.json"


def build_model() -> keras.Model:
    inputs = keras.Input((2,))
    return keras.Model(inputs, keras.layers.BatchNormalization()(keras.layers.Dense(3)(inputs)))


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_weights_are_written_without_optimizer_and_load(tmp_path):
    model, again = build_model(), build_model()
    RunFolder(tmp_path).save_weights(model, "model.weights.h5")
    assert files_of(tmp_path) == {"model.weights.h5"}
    with h5py.File(tmp_path / "model.weights.h5") as file:
        assert "optimizer" not in file
    again.load_weights(tmp_path / "model.weights.h5")
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_metrics_take_new_columns_and_replace_repeated_epochs(tmp_path):
    run = RunFolder(tmp_path)
    run.append_metrics({"epoch": 1, "loss": 0.1 + 0.2})
    run.append_metrics({"epoch": 2, "loss": 2.0, "mask_ap": 0.5})
    run.append_metrics({"epoch": 3, "loss": 3.0})
    run.append_metrics({"epoch": 2, "loss": 2.5, "mask_ap": 0.6})  # epoch 2 again, after a kill
    assert (tmp_path / "metrics.csv").read_text() == "epoch,loss,mask_ap\n1,0.30000000000000004,\n2,2.5,0.6\n"


def test_record_keeps_other_entries(tmp_path):
    run = RunFolder(tmp_path)
    run.update_record(finished=False, best=None)
    run.update_record(best={"mask_ap": 0.5, "name": "größer"})
    assert run.read_record() == {"finished": False, "best": {"mask_ap": 0.5, "name": "größer"}}


def test_a_new_folder_gets_the_configuration(tmp_path):
    config = load_config(DEMO)
    run = open_run(tmp_path / "runs" / "new", config, overwrite=False)
    assert load_config(run.path / "config.json") == config


def test_the_same_configuration_opens_an_unfinished_run(tmp_path):
    config = load_config(DEMO)
    run = open_run(tmp_path, config, overwrite=False)
    run.update_record(finished=False)
    run.save_weights(build_model(), "model.weights.h5")
    open_run(tmp_path, config, overwrite=False)
    assert files_of(tmp_path) == {"config.json", "run.json", "model.weights.h5"}


def test_every_difference_of_configuration_is_named(tmp_path):
    open_run(tmp_path, load_config(DEMO), overwrite=False)
    before = (tmp_path / "config.json").read_bytes()
    other = load_config(DEMO, ["train.batch_size=24", "data.input_hw=[64, 128]"])
    with pytest.raises(ConfigError) as caught:
        open_run(tmp_path, other, overwrite=False)
    path = tmp_path / "config.json"
    assert str(caught.value).splitlines() == [
        f"{path}: data.input_hw: expected [128, 128], received [64, 128]",
        f"{path}: train.batch_size: expected 8, received 24",
        "Pass another --run, or --overwrite to start anew",
    ]
    assert path.read_bytes() == before


def test_a_run_of_an_earlier_version_continues(tmp_path):
    """Its configuration is brought up to date before it is compared, and is written anew."""
    config = load_config(DEMO)
    run = open_run(tmp_path, config, overwrite=False)
    values = json.loads(config.to_json())
    values["loss_weights"] = values["model"].pop("loss_weights")
    values["data"]["processes"] = 2
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"model\.loss_weights\.mask: expected 5\.0, received 2\.0"):
        open_run(tmp_path, load_config(DEMO, ["model.loss_weights.mask=2.0"]), overwrite=False)
    open_run(tmp_path, config, overwrite=False)
    assert json.loads((run.path / "config.json").read_text())["format"] == 2
    assert load_config(run.path / "config.json") == config


def test_missing_and_additional_keys_are_differences():
    with pytest.raises(ConfigError) as caught:
        check_same(Path("run.json"), {"a": {"b": 1}}, {"a": {"c": None}})
    lines = str(caught.value).splitlines()
    assert lines[0] == "run.json: a.b: expected 1, received nothing"
    assert lines[1] == "run.json: a.c: expected nothing, received null"


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"finished": True}, "received a finished one.*--overwrite"),
        ({"categories": []}, "imported or shipped.*pass --weights .* and another --run"),
    ],
    ids=["finished", "shipped or imported"],
)
def test_finished_runs_and_shipped_models_are_left_alone(tmp_path, record, message):
    config = load_config(DEMO)
    run = RunFolder(tmp_path)
    run.write_config(config)
    run.save_weights(build_model(), "model.weights.h5")
    run.update_record(**record)
    before = {name: (tmp_path / name).read_bytes() for name in files_of(tmp_path)}
    with pytest.raises(ConfigError, match=message):
        open_run(tmp_path, config, overwrite=False)
    assert {name: (tmp_path / name).read_bytes() for name in files_of(tmp_path)} == before


def test_overwrite_deletes_what_a_run_made_and_nothing_else(tmp_path):
    run = RunFolder(tmp_path)
    run.write_config(load_config(DEMO))
    run.save_weights(build_model(), "model.weights.h5")
    run.states.save(RunProgress(epoch=1), {})
    run.append_metrics({"epoch": 1})
    run.update_record(finished=True)
    run.save_batch({"image": np.zeros(1)}, 12)
    run.tensorboard.mkdir()
    made = [run.tensorboard / "events.out.tfevents.1.host", tmp_path / "partial.state_000002_new.npz"]
    kept = [
        tmp_path / "notes.txt",
        tmp_path / "data" / "train.json",
        run.tensorboard / "mine.txt",
        tmp_path / "batch.npz",
    ]
    for path in made + kept:
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    config = load_config(DEMO, ["train.epochs=3"])
    open_run(tmp_path, config, overwrite=True)
    assert files_of(tmp_path) == {str(path.relative_to(tmp_path)) for path in kept} | {"config.json"}
    assert json.loads((tmp_path / "config.json").read_text())["train"]["epochs"] == 3


def test_a_record_of_another_form_is_refused(tmp_path):
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(CenterMaskError, match=r"run\.json: expected a JSON object, received list"):
        RunFolder(tmp_path).read_record()


def test_a_deletion_that_is_killed_leaves_the_configuration_until_the_states_are_gone(tmp_path, monkeypatch):
    config = load_config(DEMO)
    open_run(tmp_path, config, overwrite=False).update_record(finished=False)
    for number in (1, 2):
        (tmp_path / f"state_{number:06}_0123456789abcdef.npz").touch()
    unlink, gone = Path.unlink, []
    monkeypatch.setattr(Path, "unlink", lambda self, **how: (gone.append(self.name), unlink(self, **how)))
    open_run(tmp_path, config, overwrite=True)
    assert [name for name in gone if name.startswith("state_")] == gone[:2]
    assert gone[-2:] == ["config.json", "run.json"]


def test_rows_beyond_the_state_go(tmp_path):
    run = RunFolder(tmp_path)
    run.drop_metrics(after=0)
    assert not (tmp_path / "metrics.csv").exists()
    for epoch in (1, 2, 3):
        run.append_metrics({"epoch": epoch, "loss": 0.5})
    run.drop_metrics(after=2)
    assert [row["epoch"] for row in run.read_metrics()] == ["1", "2"]
    run.drop_metrics(after=0)
    assert run.read_metrics() == []
