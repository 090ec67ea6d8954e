"""Evaluating a detector over a dataset: every image once, the dataset's ids, figures, pictures, test sets."""

import builtins
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from centermask_keras.config import load_config
from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.demo.shapes import make_shapes
from centermask_keras.errors import CenterMaskError, ImageError
from centermask_keras.evaluation.pictures import draw_examples
from centermask_keras.evaluation.predict import evaluate_model, score
from centermask_keras.inference.load import build
from centermask_keras.inference.objects import categories_of
from centermask_keras.inference.runtimes.keras import KerasPredictor
from centermask_keras.masks import rle_to_json, segmentation_to_rle

DEMO = Path(__file__).parents[2] / "configs" / "demo.json"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    make_shapes(folder, train=4, val=7, hw=(128, 128), seed=5)
    return folder


@pytest.fixture(scope="module")
def annotations(shapes):
    return load_annotations(shapes / "val.json", shapes / "val")


@pytest.fixture(scope="module")
def config():
    return load_config(DEMO, ["eval.batch_size=3"])


@pytest.fixture(scope="module")
def predictor(config, annotations):
    predictor = build(config, categories_of(annotations))
    sizes = predictor.detector.point_heads.get_layer("size")
    sizes.project.bias.assign([8.0, 6.0])  # boxes of 32 x 24 px, not of about 0
    return predictor


def truth_as_results(annotations) -> list[dict]:
    data = json.loads(Path(annotations.path).read_text())
    hw = {image["id"]: (image["height"], image["width"]) for image in data["images"]}
    keys = ("image_id", "category_id", "bbox")
    return [
        {key: row[key] for key in keys}
        | {"score": 0.9, "segmentation": rle_to_json(segmentation_to_rle(row["segmentation"], hw[row["image_id"]]))}
        for row in data["annotations"]
    ]


def test_every_image_is_seen_once_with_a_short_last_batch(predictor, annotations):
    seen = []
    evaluation = evaluate_model(predictor, annotations, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(3, 7), (6, 7), (7, 7)]
    assert {row["image_id"] for row in evaluation.results} == set(annotations.image_ids.tolist())
    assert {row["category_id"] for row in evaluation.results} <= set(annotations.category_ids.tolist())
    assert set(evaluation.seconds) == {"network", "masks", "scoring", "total"}


def test_figures_of_a_fresh_detector_are_low_and_complete(predictor, annotations):
    evaluation = evaluate_model(predictor, annotations)
    assert 0 <= evaluation.figures["mask_ap"] < 0.2
    assert {key.split("_")[0] for key in evaluation.figures} == {"mask", "box"}
    assert len(evaluation.figures) == 24
    assert [row["name"] for row in evaluation.per_class] == annotations.class_names
    assert all({"mask_ap", "box_ap"} <= set(row) for row in evaluation.per_class)
    json.dumps([evaluation.figures, evaluation.per_class, evaluation.results, evaluation.seconds])


def test_ground_truth_scores_one_and_draws(annotations):
    results = truth_as_results(annotations)
    figures, per_class = score(annotations, results, iou_types=("segm", "bbox", "boundary"))
    assert figures["mask_ap"] == figures["box_ap"] == figures["boundary_ap"] == pytest.approx(1.0)
    assert all(row["mask_ap"] == pytest.approx(1.0) for row in per_class)
    picture = draw_examples(annotations, results, count=2)
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[1] > picture.shape[0] // 2


def test_a_test_set_is_predicted_and_not_scored(predictor, shapes, tmp_path):
    data = json.loads((shapes / "val.json").read_text())
    del data["annotations"]
    path = tmp_path / "image_info.json"
    path.write_text(json.dumps(data))
    annotations = load_annotations(path, shapes / "val", require_annotations=False)
    evaluation = evaluate_model(predictor, annotations)
    assert evaluation.figures == {} and evaluation.per_class == []
    assert evaluation.results


def test_categories_are_those_of_the_file(annotations, shapes):
    rows = json.loads((shapes / "val.json").read_text())["categories"]
    assert [(category.id, category.name) for category in categories_of(annotations)] == [
        (row["id"], row["name"]) for row in rows
    ]


@pytest.fixture
def spoiled(shapes, tmp_path):
    """Copy the validation set with one truncated image."""
    shutil.copytree(shapes / "val", tmp_path / "val")
    shutil.copy(shapes / "val.json", tmp_path)
    annotations = load_annotations(tmp_path / "val.json", tmp_path / "val")
    path = annotations.image_file(2)
    path.write_bytes(path.read_bytes()[:-100])
    return annotations


def test_an_unreadable_image_stops_the_evaluation(predictor, spoiled):
    with pytest.raises(ImageError, match=spoiled.image_file(2).name):
        evaluate_model(predictor, spoiled)


def test_an_unreadable_image_is_skipped_and_named_if_so_configured(predictor, spoiled):
    config = load_config(DEMO, ["eval.batch_size=3", 'data.on_error="skip"'])
    evaluation = evaluate_model(KerasPredictor(predictor.detector, config, predictor.categories), spoiled)
    assert evaluation.unreadable == [str(spoiled.image_file(2))]
    found = {row["image_id"] for row in evaluation.results}
    assert found == set(spoiled.image_ids.tolist()) - {int(spoiled.image_ids[2])}
    four = draw_examples(spoiled, evaluation.results, count=4)
    assert four.shape == draw_examples(spoiled, [], count=4).shape and four.shape[0] > 4 * 128
    for index in range(len(spoiled)):
        spoiled.image_file(index).write_bytes(b"")
    assert draw_examples(spoiled, [], count=4).shape == (1, 1, 3)


def test_classes_of_one_name_keep_their_own_rows(annotations, shapes, tmp_path):
    data = json.loads((shapes / "val.json").read_text())
    data["categories"][1]["name"] = data["categories"][0]["name"]
    (tmp_path / "val.json").write_text(json.dumps(data))
    _, per_class = score(load_annotations(tmp_path / "val.json", shapes / "val"), [], iou_types=("segm", "bbox"))
    assert [row["category_id"] for row in per_class] == annotations.category_ids.tolist()


def test_another_order_of_classes_is_refused(predictor, annotations):
    turned = KerasPredictor(predictor.detector, predictor.config, predictor.categories[::-1])
    with pytest.raises(CenterMaskError, match=r"category 1: expected 'ring' \(of the model\), received 'circle'"):
        evaluate_model(turned, annotations)
    with pytest.raises(CenterMaskError, match=r"expected 4 categories \(those of the model\), received 5"):
        evaluate_model(KerasPredictor(predictor.detector, predictor.config, predictor.categories[:4]), annotations)


def test_the_annotation_file_is_opened_once(predictor, shapes, monkeypatch):
    path, opened = shapes / "val.json", []

    def count(file, *arguments, **options):
        opened.append(str(file))
        return really_open(file, *arguments, **options)

    really_open = io.open
    monkeypatch.setattr(io, "open", count)
    monkeypatch.setattr(builtins, "open", count)
    annotations = load_annotations(path, shapes / "val")
    evaluation = evaluate_model(predictor, annotations, iou_types=("segm", "bbox", "boundary"))
    assert opened.count(str(path)) == 1
    assert len(evaluation.figures) == 36
