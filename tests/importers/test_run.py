"""An import gives a run folder that loads, or an error and nothing."""

import json

import numpy as np
import pytest

import centermask_keras as cm
from centermask_keras.cli import main
from centermask_keras.cli.import_weights import CheckpointKind
from centermask_keras.coco_categories import coco_categories
from centermask_keras.errors import CenterMaskError
from centermask_keras.importers import run as importer
from centermask_keras.importers.convert import assign, convert
from centermask_keras.importers.kinds import KINDS
from centermask_keras.importers.run import format_report, import_weights


@pytest.fixture
def small(monkeypatch, kind, tensors):
    """Import the small checkpoint under the name of a kind, without PyTorch."""
    monkeypatch.setitem(importer.KINDS, "centernet-dla34", kind.__class__(**{**vars(kind), "left_out": ()}))
    monkeypatch.setattr(importer, "read_checkpoint", lambda path: dict(tensors))


def run_import(tmp_path, config, run="run"):
    file = tmp_path / "small.pth"
    file.write_bytes(b"stands for a checkpoint")
    return import_weights(file, kind="centernet-dla34", config=config, name="my.json", run_dir=tmp_path / run)


def test_an_imported_folder_loads_with_the_weights_of_the_checkpoint(small, tmp_path, config, detector, tensors):
    report = run_import(tmp_path, config)
    values, expected = convert(tensors, detector, importer.KINDS["centernet-dla34"], source="file")
    assign(detector, values)
    assert report == expected
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype("uint8")
    loaded = cm.load(tmp_path / "run").detector
    for name in ("heatmap_logits", "features"):
        np.testing.assert_array_equal(loaded(images)[name], detector(images)[name])
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["imported"]["kind"] == "centernet-dla34" and len(record["imported"]["sha256"]) == 64
    assert record["imported"]["mapped"] == len(report.mapped)
    assert len(record["categories"]) == config.model.num_classes


def test_weights_of_coco_know_their_classes_without_the_annotations(small, tmp_path, config):
    """What they find is evaluated on COCO, whose ids have gaps."""
    section = {"num_classes": 80}
    assert categories_of_import(config.model_copy(update={"model": config.model.model_copy(update=section)})) == [
        {"id": category, "name": name} for category, name in coco_categories().items()
    ]
    run_import(tmp_path, config)  # of 5 classes: nobody knows which
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [row["name"] for row in record["categories"]] == [f"class {index}" for index in range(5)]


def categories_of_import(config):
    missing = config.data.val.model_copy(update={"annotations": "missing.json"})
    config = config.model_copy(update={"data": config.data.model_copy(update={"val": missing})})
    return importer._read_categories(config, KINDS["centernet-dla34"])


def test_the_report_has_a_line_for_every_tensor_and_a_total(small, tmp_path, config, tensors):
    report = run_import(tmp_path, config)
    *lines, total = format_report(report).splitlines()
    assert len(lines) == len(tensors) + len(report.initial)
    assert f"{len(report.mapped)} tensors mapped, {len(report.left_out)} left out" in total


def test_nothing_is_written_on_an_error(small, tmp_path, config, tensors):
    del tensors["hm.2.bias"]
    with pytest.raises(CenterMaskError, match="received none for: heatmap_2_bias"):
        run_import(tmp_path, config)
    assert not (tmp_path / "run").exists()


def test_a_folder_with_a_run_is_not_touched(small, tmp_path, config):
    run_import(tmp_path, config)
    before = (tmp_path / "run" / "run.json").read_bytes()
    with pytest.raises(CenterMaskError, match="expected a new folder, received one with a run"):
        run_import(tmp_path, config)
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def test_another_backbone_is_named(tmp_path, config):
    with pytest.raises(CenterMaskError, match=r"my\.json: model\.backbone: expected dla34 for .*, received dla_small"):
        run_import(tmp_path, config)


def test_the_command_offers_every_kind():
    assert set(CheckpointKind.__args__) == set(KINDS)


@pytest.mark.slow
def test_a_file_of_pytorch_goes_through_the_command(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    torch.save({"state_dict": {"module.a": torch.zeros(2)}}, tmp_path / "a.pth")
    arguments = ["--config", "dla34_plain", "--run", str(tmp_path / "run")]
    with pytest.raises(SystemExit):
        main(["import", str(tmp_path / "a.pth"), "--from", "centernet-dla34", *arguments])
    assert "received others: a" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
