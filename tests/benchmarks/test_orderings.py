"""The orderings of Table 1 on generated shapes: what differs between the models, how they are judged, a whole run."""

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from centermask_keras.errors import CenterMaskError, ConfigError
from centermask_keras.training.run_folder import RunFolder

ROOT = Path(__file__).parents[2]


@pytest.fixture
def orderings(monkeypatch):
    spec = importlib.util.spec_from_file_location("orderings", ROOT / "benchmarks" / "orderings.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "orderings", module)  # its dataclass looks itself up there
    spec.loader.exec_module(module)
    return module


def leaves(value, path=""):
    if not isinstance(value, dict):
        return {path: value}
    return {leaf: v for key, member in value.items() for leaf, v in leaves(member, f"{path}.{key}").items()}


def constant_scores(**models):
    """Scores of two seeds that are the same at both thresholds."""
    return {model: [{0.4: value, 0.5: value} for value in values] for model, values in models.items()}


def test_models_differ_in_nothing_but_what_is_compared(orderings):
    configs = {
        model: leaves(json.loads(orderings.make_config(model, Path("data"), epochs=8, seed=2).to_json()))
        for model in orderings.MODELS
    }
    keys = {key for config in configs.values() for key in config}
    differing = {key for key in keys if len({json.dumps(config.get(key)) for config in configs.values()}) > 1}
    assert differing == {".about", ".model.mask_factors", ".model.saliency", ".model.loss_weights.saliency"}
    told_apart = {
        model: (config[".model.mask_factors"], config[".model.saliency"], config.get(".model.loss_weights.saliency"))
        for model, config in configs.items()
    }
    assert told_apart == {
        "both": ("both", "class_agnostic", None),
        "shape": ("local_shape", "class_agnostic", None),
        "saliency": ("saliency", "class_agnostic", None),
        "specific": ("both", "class_specific", None),
        "specific_direct": ("both", "class_specific", 1),
    }


@pytest.mark.parametrize(("epochs", "drops"), [(1, (1,)), (8, (6, 7)), (10, (7, 9))])
def test_schedule_follows_the_epochs(orderings, epochs, drops):
    config = orderings.make_config("both", Path("data"), epochs=epochs, seed=3)
    settings = config.train
    assert (settings.epochs, settings.validate_every, settings.drop_epochs) == (epochs, epochs, drops)
    assert settings.seed == 3
    assert config.model.shape_size == 8 and config.data.input_hw == (256, 256)
    assert config.data.val.annotations == "data/val.json"


def test_an_object_is_larger_only_with_both_sides(orderings):
    boxes = np.array([[0, 0, 33, 33], [5, 5, 38, 37], [0, 0, 100, 20], [1, 2, 40, 90]], np.float32)
    assert orderings.larger_share(SimpleNamespace(boxes=boxes), 32) == 0.5


def test_data_that_would_say_nothing_are_refused(orderings):
    orderings.check_share("val", "objects that are occluded", 0.3, 0.3)
    with pytest.raises(CenterMaskError, match=r"val: expected at least 30% objects that are occluded, received 29.9%"):
        orderings.check_share("val", "objects that are occluded", 0.299, 0.3)


def test_single_factors_are_judged_at_the_threshold_that_suits_them(orderings):
    score = {0.4: 0.3, 0.5: 0.35}
    assert {model: orderings.judged_score(model, score) for model in orderings.MODELS} == {
        "both": 0.3,
        "shape": 0.35,
        "saliency": 0.35,
        "specific": 0.3,
        "specific_direct": 0.3,
    }
    scores = {"both": [{0.4: 0.34, 0.5: 0.4}], "shape": [{0.4: 0.3, 0.5: 0.35}]}
    (row,) = orderings.compare(scores)
    assert row["differences"] == pytest.approx([-0.01]) and row["verdict"] == "FAILS"


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([0.1, 0.02, 0.001], "holds"),
        ([0.1, -0.02, 0.0], "holds on average"),
        ([0.1, 0.02, 0.0], "holds on average"),
        ([-0.1, 0.02, 0.05], "FAILS"),
        ([0.0], "FAILS"),
    ],
)
def test_verdict(orderings, differences, verdict):
    assert orderings.verdict_on(differences) == verdict


def test_spread_over_seeds(orderings):
    spread = orderings.spread_of([0.1, 0.2, 0.6])
    assert (spread.mean, spread.lowest, spread.highest) == pytest.approx((0.3, 0.1, 0.6))
    assert spread.deviation == pytest.approx(math.sqrt((0.04 + 0.01 + 0.09) / 2))
    assert orderings.spread_of([0.25]).deviation is None


def test_orderings_compare_models_of_the_same_seed(orderings):
    scores = constant_scores(
        both=[0.5, 0.7],
        shape=[0.4, 0.65],
        saliency=[0.3, 0.2],
        specific=[0.49, 0.73],
        specific_direct=[0.4, 0.7],
    )
    compared = orderings.compare(scores)
    found = {row["ordering"].partition(":")[0]: (row["differences"], row["verdict"]) for row in compared}
    expected = {
        "1c": ([0.2, 0.5], "holds"),
        "1d": ([0.1, 0.05], "holds"),
        "1c and 1d": ([0.1, 0.45], "holds"),
        "1e": ([-0.01, 0.03], "holds on average"),
        "1f": ([-0.09, -0.03], "FAILS"),
    }
    assert found.keys() == expected.keys()
    for key, (differences, verdict) in expected.items():
        assert found[key] == (pytest.approx(differences), verdict)
    assert "| -0.060 | 0.042 | -0.090 .. -0.030 | FAILS |" in orderings.ordering_table(compared)


def test_orderings_without_both_models_are_left_out(orderings):
    compared = orderings.compare(constant_scores(specific=[0.5], both=[0.4]))
    assert [(row["better"], row["worse"]) for row in compared] == [("specific", "both")]


def test_table_states_both_thresholds_and_marks_what_counts(orderings):
    table = orderings.model_table({"both": [{0.4: 0.5, 0.5: 0.25}], "shape": [{0.4: 0.125, 0.5: 0.375}]})
    assert "| `both` | 0.4* | 0.500 | - | 0.500 .. 0.500 |" in table
    assert "| `both` | 0.5 | 0.250 |" in table
    assert "| `shape` | 0.4* | 0.125 |" in table and "| `shape` | 0.5* | 0.375 |" in table


def test_a_finished_run_of_other_settings_is_not_taken_for_this_one(orderings, tmp_path):
    run = RunFolder(tmp_path / "both_1")
    config = orderings.make_config("both", tmp_path, epochs=8, seed=1)
    run.write_config(config)
    run.update_record(finished=True)
    orderings.run_training(config, run.path)  # the same settings: nothing to do
    with pytest.raises(ConfigError, match=r"both_1: expected a run of these settings, .* Pass another --out"):
        orderings.run_training(orderings.make_config("both", tmp_path, epochs=4, seed=1), run.path)


@pytest.mark.slow
def test_the_whole_script_at_its_smallest(orderings, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(orderings, "SIDE", 128)
    monkeypatch.setattr(orderings, "VAL_IMAGES", 8)
    figures = tmp_path / "figures.json"
    arguments = ["--images", "8", "--epochs", "1", "--seeds", "1", "--out", str(tmp_path), "--json", str(figures)]
    orderings.main(arguments)
    printed = capsys.readouterr().out
    report = json.loads(figures.read_text())
    assert report["mask_ap"].keys() == orderings.MODELS.keys()
    assert report["ceiling"].keys() == {"both", "local_shape", "saliency"}
    assert all(score.keys() == {"0.4", "0.5"} for (score,) in report["mask_ap"].values())
    assert all(0 <= value <= 1 for (score,) in report["mask_ap"].values() for value in score.values())
    assert len(report["orderings"]) == len(orderings.ORDERINGS)
    assert report["seconds"].keys() == {f"{model}_1" for model in orderings.MODELS}
    assert report["data"]["val"]["occluded_fraction"] >= 0.3
    assert "8 images" in printed and "[5/5] specific_direct, seed 1: mask AP" in printed

    monkeypatch.setattr(orderings, "train", None)  # finished runs are not trained again
    orderings.main([*arguments, "--models", "both", "shape"])
    again = json.loads(figures.read_text())
    assert again["mask_ap"] == {model: report["mask_ap"][model] for model in ("both", "shape")}
    assert [row["verdict"] for row in again["orderings"]] == [
        row["verdict"] for row in report["orderings"] if (row["better"], row["worse"]) == ("both", "shape")
    ]
