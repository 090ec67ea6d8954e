"""An evaluation and its dataset: which files are read, and where the results lie."""

import json
from pathlib import Path

import pytest

from centermask_keras.config import load_config
from centermask_keras.demo.shapes import make_shapes
from centermask_keras.errors import CenterMaskError
from centermask_keras.evaluation.evaluate import evaluate_to_files
from centermask_keras.evaluation.validation_set import load_validation_set
from centermask_keras.inference.load import build

DEMO = Path(__file__).parents[2] / "configs" / "demo.json"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    make_shapes(folder, train=1, val=2, hw=(128, 128), seed=5)
    return folder


def on_shapes(folder: Path) -> list[str]:
    return [f"data.val.annotations={folder / 'val.json'}", f"data.val.images={folder / 'val'}"]


@pytest.mark.slow
def test_results_lie_beside_the_weights_unless_a_folder_is_given(shapes, tmp_path):
    weights = tmp_path / "m.weights.h5"
    build(load_config(DEMO)).detector.save_weights(weights)
    for out, folder in ((None, tmp_path / "eval"), (tmp_path / "other", tmp_path / "other")):
        evaluated = evaluate_to_files(config=DEMO, weights=weights, overrides=on_shapes(shapes), out=out)
        assert evaluated.detections == folder / "detections.json"
        assert json.loads(evaluated.detections.read_text()) == evaluated.evaluation.results
        assert {path.name for path in folder.iterdir()} == {"detections.json", "metrics.json", "per_class.csv"}
    assert len(evaluated.dataset) == 2 and not evaluated.too_few_detections


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(CenterMaskError, match=r"expected a run folder with config\.json, received none"):
        evaluate_to_files(run=tmp_path)


def test_the_validation_set_has_the_classes_of_the_model(shapes):
    config = load_config(DEMO, on_shapes(shapes))
    assert len(load_validation_set(config, "demo.json", None, None)) == 2
    other = load_config(DEMO, [*on_shapes(shapes), "model.num_classes=80"])
    with pytest.raises(CenterMaskError, match=r"val\.json: expected 80 categories \(model\.num_classes\), received"):
        load_validation_set(other, "demo.json", None, None)
    assert len(load_validation_set(other, "demo.json", None, None, other_classes=True)) == 2


def test_given_files_stand_for_those_of_the_configuration(shapes):
    config = load_config(DEMO, ["data.val.annotations=none.json", "data.val.images=none"])
    assert len(load_validation_set(config, "demo.json", shapes / "val.json", shapes / "val")) == 2
    with pytest.raises(CenterMaskError, match=r"demo\.json: data\.val\.annotations: expected a file"):
        load_validation_set(config, "demo.json", None, shapes / "val")
