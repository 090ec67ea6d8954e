"""The benchmark times what prediction does: its parts are those of the inference graph, its figures add up."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from project_files import files_in

from centermask_keras.cli import main
from centermask_keras.config import load_config
from centermask_keras.evaluation import benchmark
from centermask_keras.evaluation.benchmark import (
    STAGES,
    benchmark_inference,
    run_decoding,
    run_network,
    stage_table,
)
from centermask_keras.inference.load import build

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "configs" / "demo.json"
SAMPLES = files_in("saved_models/nuclei/samples")


@pytest.fixture(scope="module")
def predictor():
    return build(load_config(DEMO, ["model.dtype_policy=float32"]))


def test_the_parts_are_those_of_the_inference_graph(predictor):
    images = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), np.uint8)
    whole, decoded = predictor.detect(images), run_decoding(predictor.detector, images)
    for key in ("boxes", "scores", "classes", "valid"):
        np.testing.assert_allclose(decoded[key], whole[key], rtol=1e-4, atol=1e-4)
    outputs = predictor.detector(images)
    found = run_network(predictor.detector, images)
    assert found.keys() == outputs.keys()
    np.testing.assert_allclose(found["heatmap_logits"], np.max(outputs["heatmap_logits"], axis=(1, 2, 3)), rtol=1e-5)


def test_figures_are_per_image_and_a_negative_difference_counts_as_nothing(predictor, monkeypatch):
    medians = iter([0.3, 0.06])  # reading and pasting, seconds per batch of 3
    monkeypatch.setattr(benchmark, "_median", lambda call, repeats: next(medians))
    monkeypatch.setattr(benchmark, "_median_of_each", lambda calls, repeats: [1.5, 1.2, 1.8])
    figures = benchmark_inference(predictor, SAMPLES, batch_size=3, repeats=2)
    expected = {"read": 100, "network": 500, "decode": 0, "masks": 200, "paste": 20, "total": 720}
    assert figures == pytest.approx({**expected, "images_per_second": 3 / 2.16})


def test_every_stage_is_timed(predictor):
    figures = benchmark_inference(predictor, SAMPLES, batch_size=2, repeats=2)
    assert set(figures) == {*STAGES, "total", "images_per_second"}
    assert all(figures[name] > 0 for name in ("read", "network", "paste", "total"))


SMALL = {
    "hourglass104": ["model.backbone=hourglass_small"],  # a map under `intermediate` for each head of the first stack
    "fcos_resnet101": ["model.backbone=resnet_small", "model.tower_depth=1"],  # five maps of an output
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_networks_of_several_stacks_or_levels_are_timed_as_well(name):
    small = ["data.input_hw=[128, 128]", "model.head_channels=32", "model.num_classes=3", "model.max_detections=10"]
    small += ["model.shape_size=8", "model.mask_size_infer=16", "model.dtype_policy=float32"]
    predictor = build(load_config(ROOT / "configs" / f"{name}.json", [*small, *SMALL[name]]))
    images = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), np.uint8)
    outputs, found = predictor.detector(images), run_network(predictor.detector, images)
    assert found.keys() == outputs.keys()
    for key, value in outputs.items():
        highest = [np.max(maps, axis=(1, 2, 3)) for maps in keras.tree.flatten(value)]
        assert (len(highest) > 1) == isinstance(value, list)
        np.testing.assert_allclose(found[key], np.max(highest, axis=0), rtol=1e-5)
    assert any(isinstance(value, list) for value in outputs.values())
    figures = benchmark_inference(predictor, SAMPLES, batch_size=2, repeats=1)
    assert set(figures) == {*STAGES, "total", "images_per_second"} and figures["network"] > 0


def test_the_table_has_a_row_for_each_setting():
    figures = dict.fromkeys((*STAGES, "total", "images_per_second"), 1.25)
    lines = stage_table({"float32 batch 1": figures, "bfloat16 batch 32": figures}).splitlines()
    assert len(lines) == 3 and lines[1].split()[-7:] == ["1.2"] * 7 and lines[0].split()[-1] == "img/s"


@pytest.mark.slow
def test_the_command_writes_both_precisions_and_batches(tmp_path):
    out = tmp_path / "figures.json"
    with pytest.raises(SystemExit) as stop:
        main(
            ["benchmark", "--config", str(DEMO), "--images", str(SAMPLES[0].parent)]
            + ["--batch-size", "2", "--repeats", "1", "--json", str(out)]
        )
    assert stop.value.code == 0
    figures = json.loads(out.read_text())
    titles = {"float32 batch 1", "float32 batch 2", "bfloat16 batch 1", "bfloat16 batch 2"}
    assert set(figures["milliseconds_per_image"]) == titles and figures["keras"]


@pytest.mark.parametrize("arguments", [[], ["--run", "a", "--config", "b"]])
def test_the_command_wants_one_model(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["benchmark", *arguments])
    assert stop.value.code == 1 and "expected either --run DIR or --config FILE" in capsys.readouterr().err
