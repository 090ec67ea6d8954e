"""The LVIS measure: the figures of its own package, and each federated rule by a case that needs nothing but itself."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import lvis_case
import naive
import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster

from centermask_keras.coco_categories import COCO_TO_LVIS, coco_categories
from centermask_keras.config import load_config
from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.errors import CenterMaskError, DataError
from centermask_keras.evaluation import coco
from centermask_keras.evaluation.boundary import boundary_width
from centermask_keras.evaluation.coco import evaluate_coco, evaluate_coco_on_lvis
from centermask_keras.evaluation.lvis import check_coco_classes, federate
from centermask_keras.evaluation.predict import evaluate_model, score
from centermask_keras.evaluation.scoring_inputs import read_ground_truth, read_results
from centermask_keras.inference.load import build
from centermask_keras.inference.objects import Category, categories_of
from centermask_keras.masks import rle_to_bitmap, segmentation_to_rle

REFERENCE = json.loads(Path(lvis_case.__file__).with_name("lvis_reference.json").read_text())
DEMO = Path(__file__).parents[2] / "configs" / "demo.json"
KINDS = [("segm", "mask"), ("bbox", "box")]
BACKENDS = ["faster", "pycocotools"]
OUR_NAMES = {
    "AP": "ap", "AP50": "ap50", "AP75": "ap75", "APs": "ap_small", "APm": "ap_medium", "APl": "ap_large",
    "APr": "ap_rare", "APc": "ap_common", "APf": "ap_frequent",
    "AR@300": "ar300", "ARs@300": "ar_small", "ARm@300": "ar_medium", "ARl@300": "ar_large",
}  # fmt: skip


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    document, results = lvis_case.make_case()
    path = tmp_path_factory.mktemp("lvis") / "lvis.json"
    path.write_text(json.dumps(document))
    return path, results


def assert_figures(figures, reference, prefix):
    per_class = figures.pop("per_class")
    assert figures.keys() == {f"{prefix}_{name}" for name in OUR_NAMES.values()}
    for name, ours in OUR_NAMES.items():
        assert figures[f"{prefix}_{ours}"] == pytest.approx(reference[name], rel=0, abs=1e-9), name
    np.testing.assert_allclose([row[f"{prefix}_ap"] for row in per_class], reference["per_class"], rtol=0, atol=1e-9)


def test_case_is_that_of_the_reference_and_holds_every_situation():
    document, results = lvis_case.make_case()
    assert hashlib.sha256(json.dumps([document, results]).encode()).hexdigest() == REFERENCE["case_sha256"]
    present = {(row["image_id"], row["category_id"]) for row in document["annotations"]}
    absent, partial = (
        {(image["id"], category) for image in document["images"] for category in image[key]}
        for key in ("neg_category_ids", "not_exhaustive_category_ids")
    )
    found = {(row["image_id"], row["category_id"]) for row in results}
    assert len(found & present - partial) > 20 and len(found & partial) > 20
    assert len(found & absent) > 20 and len(found - present - absent) > 20
    assert sum(row["image_id"] == lvis_case.CROWDED for row in results) > 300


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("iou_type", "prefix"), KINDS)
def test_figures_are_those_of_the_lvis_package(case, iou_type, prefix, backend, monkeypatch):
    path, results = case
    expected = REFERENCE[iou_type]
    assert_figures(evaluate_coco(path, results, iou_type=iou_type, backend=backend), expected, prefix)
    monkeypatch.setattr(coco, "CLASSES_TOGETHER", 4)  # 9 classes in three blocks
    assert_figures(evaluate_coco(path, results, iou_type=iou_type, backend=backend), expected, prefix)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("iou_type", "prefix"), KINDS)
def test_coco_results_score_on_lvis_as_in_its_package(case, iou_type, prefix, backend):
    """Table 4: categories through the map, what has no counterpart left out."""
    path, results = case
    figures = evaluate_coco_on_lvis(path, lvis_case.as_coco(results), iou_type=iou_type, backend=backend)
    assert [row["name"] for row in figures["per_class"]] == [name for name, _, _ in lvis_case.CATEGORIES[:6]]
    assert_figures(figures, REFERENCE[f"coco_{iou_type}"], prefix)


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_figures_are_those_of_another_implementation(case, iou_type):
    """faster-coco-eval knows the federated rules itself, but no limit per image: it gets the best 300."""
    path, results = case
    truth, prefix = COCO(str(path)), dict(KINDS)[iou_type]
    kept = []
    for image in truth.getImgIds():
        rows = sorted((row for row in results if row["image_id"] == image), key=lambda row: -row["score"])[:300]
        kept += [{key: value for key, value in row.items() if iou_type == "bbox" or key != "bbox"} for row in rows]
    evaluator = COCOeval_faster(truth, truth.loadRes(kept), iou_type, lvis_style=True)
    evaluator.params.maxDets = [300]
    evaluator.evaluate()
    precision = evaluator.eval["precision"][:, :, :, 0, 0]
    expected = np.mean(precision[precision > -1])
    assert evaluate_coco(path, results, iou_type=iou_type)[f"{prefix}_ap"] == pytest.approx(expected, abs=1e-9)


def make_document(*, absent=(), partial=(), objects=((10, 10, 40, 30),), images=1):
    lists = {"neg_category_ids": list(absent), "not_exhaustive_category_ids": list(partial)}
    return {
        "images": [{"id": 1 + i, "height": 100, "width": 100, **lists} for i in range(images)],
        "categories": [
            {"id": 7, "name": "baby", "synset": "person.n.01", "frequency": "f"},
            {"id": 8, "name": "acorn", "synset": "acorn.n.01", "frequency": "r"},
        ],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 7, "bbox": list(box), "area": box[2] * box[3],
             "segmentation": as_polygon(box)}
            for i, box in enumerate(objects)
        ],
    }  # fmt: skip


def as_polygon(box):
    x, y, w, h = box
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def make_result(box=(10, 10, 40, 30), score=0.5, category_id=7, image_id=1):
    result = {"image_id": image_id, "category_id": category_id, "score": score, "bbox": list(box)}
    return {**result, "segmentation": as_polygon(box)}


FALSE = (60, 60, 20, 20)


@pytest.mark.parametrize("iou_type", ["segm", "bbox", "boundary"])
@pytest.mark.parametrize(
    ("lists", "image_id", "expected"),
    [
        ({}, 1, 0.5),  # the class is annotated in the image: a false detection before the true one halves the AP
        ({"partial": [7]}, 1, 1.0),  # not all of its objects are: the false one may be another object
        ({}, 2, 1.0),  # the class is not annotated in the image and not listed: nothing is known
        ({"absent": [7]}, 2, 0.5),  # listed as absent
    ],
    ids=["present", "partial", "unknown", "absent"],
)
def test_four_situations(tmp_path, lists, image_id, expected, iou_type):
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps(make_document(images=2, **lists)))
    results = [make_result(), make_result(FALSE, 0.9, image_id=image_id)]
    for backend in BACKENDS:
        figures = evaluate_coco(path, results, iou_type=iou_type, backend=backend)
        assert figures[f"{coco.PREFIX[iou_type]}_ap"] == pytest.approx(expected)
        rows = {row["name"]: row for row in figures["per_class"]}
        assert (rows["baby"]["objects"], rows["acorn"]["objects"]) == (1, 0)
    assert figures[f"{coco.PREFIX[iou_type]}_ap_frequent"] == pytest.approx(expected)
    assert figures[f"{coco.PREFIX[iou_type]}_ap_rare"] == -1


def test_partial_labels_have_the_rules_for_unknown_classes_and_none_of_the_others(tmp_path):
    document = make_document(absent=[8])
    for category in document["categories"]:
        del category["frequency"]
    path = tmp_path / "partial.json"
    path.write_text(json.dumps(document))
    others = [make_result(FALSE, 0.9, category_id=8) for _ in range(400)]
    figures = evaluate_coco(path, [make_result(), *others])
    assert figures["mask_ap"] == pytest.approx(1) and "mask_ap_rare" not in figures
    document["images"][0]["neg_category_ids"] = []
    document["annotations"] = []
    path.write_text(json.dumps(document))
    truth = read_ground_truth(path, "segm")
    assert not truth.federation.is_lvis
    assert (
        federate(truth, read_results([make_result()], truth, "segm"), "segm")[1] == []
    )  # of its class nothing is known
    with pytest.raises(CenterMaskError, match="expected an LVIS json"):
        evaluate_coco_on_lvis(path, [])


@pytest.mark.parametrize("iou_type", ["segm", "bbox", "boundary"])
def test_an_empty_or_far_detection_of_a_partial_class_does_not_count(tmp_path, iou_type):
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps(make_document(partial=[7])))
    empty = make_result((60, 60, 0, 0), 0.9)
    far = make_result((-900_000, -900_000, 950_000, 900_000) if iou_type == "bbox" else FALSE, 0.8)
    figures = evaluate_coco(path, [empty, far, make_result()], iou_type=iou_type)
    assert figures[f"{coco.PREFIX[iou_type]}_ap"] == pytest.approx(1)


def test_300_detections_of_all_classes_count(tmp_path):
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps(make_document(absent=[8])))
    others = [make_result(FALSE, 0.9, category_id=8) for _ in range(299)]
    assert evaluate_coco(path, [make_result(), *others])["mask_ap"] == pytest.approx(1)
    assert evaluate_coco(path, [make_result(), *others, others[0]])["mask_ap"] == 0


def test_boundary_figures_follow_the_rules_by_an_independent_computation(case):
    path, results = case
    document = json.loads(path.read_text())
    category = 5
    images = []
    for image in document["images"][6:12]:
        rows = [row for row in results if (row["image_id"], row["category_id"]) == (image["id"], category)]
        truth = [r for r in document["annotations"] if (r["image_id"], r["category_id"]) == (image["id"], category)]
        if not truth and category not in image["neg_category_ids"]:
            continue
        rows.sort(key=lambda row: -row["score"])
        partial = category in image["not_exhaustive_category_ids"]
        masks = [[decode(row["segmentation"]) for row in group] for group in (rows, truth)]
        table = [
            [naive.boundary_overlap(found, true, False, boundary_width(lvis_case.HW)) for true in masks[1]]
            + [1.0] * partial
            for found in masks[0]
        ]
        images.append(([row["score"] for row in rows], table, [False] * len(truth) + [True] * partial))
    assert any(ignored and ignored[-1] for _, _, ignored in images)
    document["images"] = document["images"][6:12]
    ids = {image["id"] for image in document["images"]}
    document["annotations"] = [row for row in document["annotations"] if row["image_id"] in ids]
    path = path.with_name("part.json")
    path.write_text(json.dumps(document))
    figures = evaluate_coco(path, [row for row in results if row["image_id"] in ids], iou_type="boundary")
    received = figures["per_class"][category - 1]["boundary_ap"]
    assert received == pytest.approx(naive.average_precision(images), abs=1e-9) and 0 < received < 1


def decode(segmentation):
    return rle_to_bitmap(segmentation_to_rle(segmentation, lvis_case.HW))


def test_map_covers_cocos_classes(coco_train):
    rows = json.loads((coco_train / "annotations" / "instances.json").read_text())["categories"]
    assert coco_categories() == {row["id"]: row["name"] for row in rows}
    synsets = [synset for _, synset in COCO_TO_LVIS.values()]
    assert len(set(synsets)) == 80 and all(synset.count(".") == 2 for synset in synsets)
    check_coco_classes((row["id"], row["name"]) for row in rows)
    with pytest.raises(CenterMaskError, match=r"--from-coco: expected a model of COCO's categories, received 'ring'"):
        check_coco_classes([(1, "person"), (2, "ring")])


def test_coco_results_need_an_lvis_file_and_coco_ids(tmp_path):
    document = make_document()
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps(document))
    figures = evaluate_coco_on_lvis(path, [make_result(category_id=1)])
    assert figures["mask_ap"] == pytest.approx(1) and len(figures["per_class"]) == 1
    with pytest.raises(DataError, match=r"results\[0\].category_id: expected the id of a category"):
        evaluate_coco_on_lvis(path, [make_result(category_id=12)])  # COCO's ids have gaps
    for image in document["images"]:
        del image["neg_category_ids"], image["not_exhaustive_category_ids"]
    path.write_text(json.dumps(document))
    with pytest.raises(CenterMaskError, match="expected an LVIS json, received one without neg_category_ids"):
        evaluate_coco_on_lvis(path, [])


@pytest.fixture(scope="module")
def photos(coco_tiny, tmp_path_factory):
    """COCO's photos with LVIS ids and names: 70 of COCO's classes by their synsets, and 10 that COCO lacks."""
    document = json.loads((coco_tiny / "annotations" / "instances.json").read_text())
    document["annotations"] = [row for row in document["annotations"] if not row["iscrowd"]]
    lvis = lvis_case.as_lvis(document)
    for index, row in enumerate(lvis["categories"]):
        row["synset"] = COCO_TO_LVIS[row["id"]][1] if index < 70 else f"acorn.n.{index}"
        row["name"], row["id"] = f"lvis {index}", row["id"] + 1000
    for row in lvis["annotations"]:
        row["category_id"] += 1000
    for image in lvis["images"]:
        for key in ("neg_category_ids", "not_exhaustive_category_ids"):
            image[key] = [category + 1000 for category in image[key]]
    path = tmp_path_factory.mktemp("photos") / "lvis.json"
    path.write_text(json.dumps(lvis))
    return load_annotations(path, coco_tiny), document


def test_ground_truth_of_real_photos_finds_itself_through_the_map(photos):
    annotations, document = photos
    results = [
        {key: row[key] for key in ("image_id", "category_id", "segmentation", "bbox")} | {"score": 0.9}
        for row in document["annotations"]
    ]
    kinds = ("segm", "bbox", "boundary")
    figures, per_class = score(annotations, results, iou_types=kinds, from_coco=True)
    assert len(per_class) == 70 and sum(row["objects"] for row in per_class) < len(results)
    for prefix in ("mask", "box", "boundary"):
        assert figures[f"{prefix}_ap"] == figures[f"{prefix}_ar300"] == pytest.approx(1)


def test_a_model_of_coco_is_scored_on_lvis(photos):
    annotations, _ = photos
    config = load_config(DEMO, ["model.num_classes=80", "eval.batch_size=8", "model.max_detections=300"])
    coco_model = build(config, [Category(*row) for row in coco_categories().items()])
    coco_model.detector.point_heads.get_layer("size").project.bias.assign([8.0, 6.0])  # boxes of 32 x 24 px
    with pytest.raises(CenterMaskError, match=r"category 1: expected 'person' \(of the model\), received 'lvis 0'"):
        evaluate_model(coco_model, annotations)
    evaluation = evaluate_model(coco_model, annotations, from_coco=True, iou_types=("segm",))
    assert {row["category_id"] for row in evaluation.results} <= set(coco_categories())
    assert Counter(row["image_id"] for row in evaluation.results).most_common(1)[0][1] > 100
    assert evaluation.figures.keys() >= {"mask_ap", "mask_ap_rare", "mask_ar300"} and len(evaluation.per_class) == 70
    lvis_model = build(config, categories_of(annotations))
    with pytest.raises(CenterMaskError, match="expected a model of COCO's categories, received 'lvis 0'"):
        evaluate_model(lvis_model, annotations, from_coco=True)
    assert len(evaluate_model(lvis_model, annotations, iou_types=("bbox",)).per_class) == 80
