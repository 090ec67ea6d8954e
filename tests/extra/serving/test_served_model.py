"""The shipped model of nuclei, exported and served: the client finds what the model finds at hand."""

import json

import numpy as np
import pytest
import tensorflow as tf
from extra.serving.stand_in import GrpcServer, RestServer, answer_with
from project_files import files_in

from centermask_keras.cli import main
from centermask_keras.export.saved_model import export_saved_model
from centermask_keras.extra.serving.client import ServedPredictor, connect
from centermask_keras.inference.load import load
from centermask_keras.inference.runtimes.description import Description
from centermask_keras.inference_config import to_inference_config

MODEL = "nuclei"


@pytest.fixture(scope="module")
def local():
    return load(MODEL, ["model.dtype_policy=float32"])


@pytest.fixture(scope="module")
def samples():
    return files_in("saved_models/nuclei/samples")


@pytest.fixture(scope="module")
def served_answer(local, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nuclei")
    path = export_saved_model(
        local.detector, Description(to_inference_config(local.config), local.categories), folder, []
    )["fp32"]
    return answer_with(tf.saved_model.load(str(path)))


@pytest.mark.slow
@pytest.mark.parametrize("server", [RestServer, GrpcServer])
def test_the_client_finds_what_the_model_finds(server, local, samples, served_answer):
    with server(served_answer) as url:
        served = ServedPredictor(connect(url), batch_size=2)
        results = served.predict(samples)
    assert served.categories == local.categories
    for result, expected in zip(results, local.predict(samples), strict=True):
        assert len(result) == len(expected) >= 20
        np.testing.assert_array_equal(result.classes, expected.classes)
        np.testing.assert_allclose(result.scores, expected.scores, atol=0.02)  # canvases differ by a grey level
        np.testing.assert_allclose(result.boxes, expected.boxes, atol=1.0)
        masks, wanted = result.masks.dense(), expected.masks.dense()
        iou = (masks & wanted).sum(axis=(1, 2)) / (masks | wanted).sum(axis=(1, 2))
        assert iou.min() > 0.9 and iou.mean() > 0.99


@pytest.mark.slow
def test_the_command_writes_what_predict_writes(samples, served_answer, tmp_path, capsys):
    with GrpcServer(served_answer) as url:
        main_exits_cleanly(["client", "--url", url, *map(str, samples), "--out", str(tmp_path), "--batch-size", "2"])
    written = json.loads((tmp_path / "predictions.json").read_text())
    assert [row["file_name"] for row in written["images"]] == [str(path) for path in samples]
    assert all(len(row["objects"]) >= 20 for row in written["images"])
    assert sorted(path.name for path in tmp_path.glob("*.png")) == sorted(f"{path.stem}.png" for path in samples)
    assert "objects in 2 images" in capsys.readouterr().out


def main_exits_cleanly(arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code in (0, None)
