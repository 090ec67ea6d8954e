"""The COCO measure: the published figures, and that both backends agree where COCO's own defaults end."""

import copy
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from centermask_keras.errors import DataError
from centermask_keras.evaluation.coco import evaluate_coco, write_results

BACKENDS = ["faster", "pycocotools"]
PUBLISHED = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
HW = (60, 80)
RUNS = "expected RLE run lengths that add up to 60 * 80 = 4800 pixels, received "  # the COCO API may hang on others


def names(prefix, limits=(1, 10, 100)):
    """Name the figures in the order of PUBLISHED."""
    areas = ("small", "medium", "large")
    precision = ["ap", "ap50", "ap75", *(f"ap_{area}" for area in areas)]
    recall = [*(f"ar{limit}" for limit in limits), *(f"ar_{area}" for area in areas)]
    return [f"{prefix}_{name}" for name in precision + recall]


def assert_same(evaluation, reference):
    """Hold two evaluations equal to 1e-9, the rows of their classes included."""
    for row, reference_row in zip(
        [evaluation, *evaluation["per_class"]], [reference, *reference["per_class"]], strict=True
    ):
        assert row.keys() == reference_row.keys()
        for key, value in row.items():
            if key != "per_class":
                expected = reference_row[key]
                assert value == (expected if key == "name" else pytest.approx(expected, rel=0, abs=1e-9)), key


def rectangle(x, y, w, h):
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def make_rle(x, y, w, h):
    rle = coco_mask.merge(coco_mask.frPyObjects(rectangle(x, y, w, h), *HW))
    return {"size": list(HW), "counts": rle["counts"].decode()}


def make_object(number, *, box=(10, 10, 20, 20), image_id=1, category_id=1, **values):
    annotation = {"id": number, "image_id": image_id, "category_id": category_id, "bbox": list(box), "iscrowd": 0}
    return {**annotation, "area": box[2] * box[3], "segmentation": rectangle(*box), **values}


def make_result(*, box=(10, 10, 20, 20), image_id=1, category_id=1, score=0.9, **values):
    result = {"image_id": image_id, "category_id": category_id, "score": score}
    return {**result, "bbox": list(box), "segmentation": make_rle(*box), **values}


def write_ground_truth(path, objects, *, images=2, categories=("cup", "cat")):
    document = {
        "images": [{"id": i + 1, "file_name": f"{i}.png", "height": HW[0], "width": HW[1]} for i in range(images)],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(categories)],
        "annotations": objects,
    }
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def truth(tmp_path):
    """Ground truth of one cup in image 1."""
    return write_ground_truth(tmp_path / "truth.json", [make_object(1)])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("iou_type", "prefix"), [("segm", "mask"), ("bbox", "box")])
def test_published_figures(coco_eval_reference, iou_type, prefix, backend, capfd):
    expected = json.loads((coco_eval_reference / "expected_stats.json").read_text())
    evaluation = evaluate_coco(
        coco_eval_reference / expected["ground_truth"],
        coco_eval_reference / expected["results"][iou_type],
        iou_type=iou_type,
        backend=backend,
    )
    per_class = evaluation.pop("per_class")
    assert list(evaluation) == names(prefix)
    for name, published in zip(names(prefix), PUBLISHED, strict=True):
        assert evaluation[name] == pytest.approx(expected["expected"][iou_type][published], rel=0, abs=1e-9)
    assert [row["name"] for row in per_class][:2] == ["person", "bicycle"]
    assert len(per_class) == 80
    present = [row[f"{prefix}_ap"] for row in per_class if row["objects"]]
    assert all(row[f"{prefix}_ap"] == -1 for row in per_class if not row["objects"])
    assert np.mean(present) == pytest.approx(evaluation[f"{prefix}_ap"], abs=1e-12)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("most", "limits"), [(100, (1, 10, 100)), (3, (1, 3)), (1, (1,))])
@pytest.mark.parametrize(("iou_type", "prefix"), [("segm", "mask"), ("bbox", "box")])
def test_backends_agree_for_any_limit(coco_eval_reference, iou_type, prefix, most, limits):
    annotations = coco_eval_reference / "instances_val2014_100.json"
    results = coco_eval_reference / f"instances_val2014_fake{iou_type}100_results.json"
    options = {"iou_type": iou_type, "max_detections": most}
    faster, reference = (evaluate_coco(annotations, results, backend=backend, **options) for backend in BACKENDS)
    assert [name for name in faster if name != "per_class"] == names(prefix, limits)
    assert len(faster["per_class"]) == 80
    assert_same(faster, reference)


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_backends_agree_on_crowds_ties_and_duplicates(tmp_path, iou_type):
    random = np.random.default_rng(7)

    def draw_box():
        x, y = random.integers(0, 40, 2).tolist()
        return (x, y, *random.integers(8, 20, 2).tolist())

    objects, results = [], []
    for number in range(60):
        box, place = draw_box(), {"image_id": 1 + number % 3, "category_id": 1 + number % 2}
        crowd = {"iscrowd": 1, "segmentation": make_rle(*box)} if number % 7 == 0 else {}
        objects.append(make_object(number, box=box, **place, **crowd))
        for _ in range(number % 4):
            shifted = (box[0] + int(random.integers(0, 3)), *box[1:])
            results.append(make_result(box=shifted, score=round(float(random.uniform()), 1), **place))
        results.append(make_result(box=draw_box(), score=0.5, **place))
    annotations = write_ground_truth(tmp_path / "truth.json", objects, images=4)
    faster, reference = (evaluate_coco(annotations, results, iou_type=iou_type, backend=b) for b in BACKENDS)
    assert_same(faster, reference)
    prefix = "mask" if iou_type == "segm" else "box"
    assert 0.2 < faster[f"{prefix}_ap50"] < 0.95


@pytest.mark.parametrize("backend", BACKENDS)
def test_ground_truth_of_real_photos_finds_itself(coco_tiny, backend):
    path = coco_tiny / "annotations" / "instances.json"
    annotations = json.loads(path.read_text())["annotations"]
    results = [
        {key: row[key] for key in ("image_id", "category_id", "segmentation", "bbox")} | {"score": 1.0}
        for row in annotations
        if not row["iscrowd"]
    ]
    assert any(row["iscrowd"] for row in annotations)
    assert evaluate_coco(path, results, backend=backend)["mask_ap"] == pytest.approx(1)
    assert evaluate_coco(path, results, backend=backend, iou_type="bbox")["box_ap"] == pytest.approx(1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_results_count_and_coco_counts_100_of_an_image(tmp_path, backend):
    boxes = [(5 * (i % 15), 5 * (i // 15), 4, 4) for i in range(150)]
    annotations = write_ground_truth(tmp_path / "truth.json", [make_object(i, box=box) for i, box in enumerate(boxes)])
    results = [make_result(box=box, score=1 - i / 200) for i, box in enumerate(boxes)]
    figures = evaluate_coco(annotations, results, backend=backend)
    assert figures["mask_ap"] == figures["mask_ar150"] == pytest.approx(1)
    assert figures["mask_ar100"] == pytest.approx(2 / 3)
    of_coco = evaluate_coco(annotations, results, backend=backend, max_detections=100)
    assert not any("at_100" in name for name in of_coco)
    assert of_coco["mask_ap"] == pytest.approx(0.663, abs=5e-4)
    for name in ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"):
        assert figures[f"mask_at_100_{name}"] == of_coco[f"mask_{name}"]


def spread(ids: list[int]) -> dict[int, int]:
    """Give ids new values of 64 bits, negative ones and 0 among them, in the same order."""
    middle = len(ids) // 2
    return {old: (place - middle) * (2**62 // len(ids)) + (place > middle) for place, old in enumerate(sorted(ids))}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("iou_type", ["segm", "bbox", "boundary"])
def test_figures_do_not_depend_on_the_ids_of_a_file(coco_eval_reference, tmp_path, iou_type, backend):
    document = json.loads((coco_eval_reference / "instances_val2014_100.json").read_text())
    kind = "bbox" if iou_type == "bbox" else "segm"
    results = json.loads((coco_eval_reference / f"instances_val2014_fake{kind}100_results.json").read_text())
    expected = evaluate_coco(coco_eval_reference / "instances_val2014_100.json", results, iou_type=iou_type)
    images, categories, objects = (
        spread([row["id"] for row in document[name]]) for name in ("images", "categories", "annotations")
    )
    assert 0 in images.values() and min(images.values()) < 0 and max(categories.values()) > 2**60
    for name, new in (("images", images), ("categories", categories), ("annotations", objects)):
        for row in document[name]:
            row["id"] = new[row["id"]]
    for row in (*document["annotations"], *results):
        row["image_id"], row["category_id"] = images[row["image_id"]], categories[row["category_id"]]
    (tmp_path / "spread.json").write_text(json.dumps(document))
    figures = evaluate_coco(tmp_path / "spread.json", results, iou_type=iou_type, backend=backend)
    assert [row["category_id"] for row in figures["per_class"]] == sorted(categories.values())
    for row in (*figures["per_class"], *expected["per_class"]):
        del row["category_id"]
    assert figures == expected if backend == "faster" else assert_same(figures, expected) is None


@pytest.mark.parametrize("backend", BACKENDS)
def test_annotation_id_0_is_an_object_like_others(tmp_path, backend):
    annotations = write_ground_truth(tmp_path / "truth.json", [make_object(0)])
    assert evaluate_coco(annotations, [make_result()], backend=backend)["mask_ap"] == pytest.approx(1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("iou_type", "prefix"), [("segm", "mask"), ("bbox", "box")])
def test_no_results_score_0_and_no_objects_minus_1(tmp_path, truth, backend, iou_type, prefix):
    options = {"iou_type": iou_type, "backend": backend}
    figures = evaluate_coco(truth, [], **options)  # its only object is small
    assert figures.pop("per_class")[0] == {
        "category_id": 1, "name": "cup", "objects": 1, f"{prefix}_ap": 0, f"{prefix}_ap50": 0, f"{prefix}_ap75": 0
    }  # fmt: skip
    absent = {name for name in names(prefix) if name.endswith(("medium", "large"))}
    assert figures == {name: -1 if name in absent else 0 for name in names(prefix)}

    empty = write_ground_truth(tmp_path / "empty.json", [])
    for results in ([], [make_result()]):
        figures = evaluate_coco(empty, results, **options)
        assert [row.pop("name") for row in figures.pop("per_class")] == ["cup", "cat"]
        assert set(figures.values()) == {-1}


@pytest.mark.parametrize("backend", BACKENDS)
def test_area_of_a_result_is_that_of_its_mask(tmp_path, backend):
    """A false positive of a small mask in a large box: it counts among the small objects."""
    annotations = write_ground_truth(tmp_path / "truth.json", [make_object(1)])
    false = make_result(box=(50, 40, 10, 10), score=0.95, bbox=[0, 0, 80, 60])
    figures = evaluate_coco(annotations, [make_result(), false], backend=backend)
    assert figures["mask_ap_small"] == pytest.approx(0.5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_objects_without_a_mask_are_left_out_of_mask_figures(tmp_path, backend):
    without = [
        make_object(2, box=(40, 10, 9, 9), segmentation=[]),
        make_object(3, box=(50, 30, 9, 9), segmentation=[[50, 30, 59, 39]]),
        make_object(4, box=(60, 45, 9, 9)),
    ]
    del without[-1]["segmentation"]
    annotations = write_ground_truth(tmp_path / "truth.json", [make_object(1), *without])
    assert evaluate_coco(annotations, [make_result()], backend=backend)["mask_ar100"] == pytest.approx(1)
    figures = evaluate_coco(annotations, [make_result()], iou_type="bbox", backend=backend)
    assert figures["box_ar100"] == pytest.approx(1 / 4)


def test_results_are_the_same_from_a_list_and_a_file_and_stay_as_they_are(tmp_path, truth):
    results = [make_result(), make_result(box=(12, 10, 20, 20), score=0.95), make_result(image_id=2, category_id=2)]
    with_bytes = copy.deepcopy(results)
    for row in with_bytes:
        row["segmentation"]["counts"] = row["segmentation"]["counts"].encode()
    path = tmp_path / "new" / "results.json"
    write_results(path, with_bytes)
    assert json.loads(path.read_text()) == results
    before = copy.deepcopy(with_bytes)
    for iou_type in ("segm", "bbox"):
        from_file = evaluate_coco(truth, path, iou_type=iou_type)
        assert evaluate_coco(truth, with_bytes, iou_type=iou_type) == from_file
    assert with_bytes == before


def test_only_boxes_can_be_written_and_scored(tmp_path, truth):
    result = make_result()
    del result["segmentation"]
    write_results(tmp_path / "boxes.json", [result])
    assert evaluate_coco(truth, tmp_path / "boxes.json", iou_type="bbox")["box_ap"] == pytest.approx(1)
    with pytest.raises(DataError, match=r"results\[0\].segmentation: expected polygons or an RLE, received nothing"):
        evaluate_coco(truth, tmp_path / "boxes.json")


@pytest.mark.parametrize(
    ("iou_type", "change", "message"),
    [
        ("segm", {"image_id": 99}, "image_id: expected the id of an image in the ground truth, received 99"),
        ("bbox", {"image_id": "1"}, 'image_id: expected the id of an image in the ground truth, received "1"'),
        ("segm", {"category_id": 7}, "category_id: expected the id of a category in the ground truth, received 7"),
        ("segm", {"category_id": None}, "category_id: expected the id of a category"),
        ("bbox", {"score": "0.9"}, 'score: expected a finite number, received "0.9"'),
        ("bbox", {"score": float("nan")}, "score: expected a finite number, received NaN"),
        ("bbox", {"bbox": [1, float("nan"), 2, 2]}, "bbox: expected [x, y, width, height], each of at most 1e6 pixels"),
        ("bbox", {"bbox": [1, 2, 3]}, "bbox: expected [x, y, width, height]"),
        ("segm", {"segmentation": "mask"}, "segmentation: expected polygons or an RLE"),
        ("segm", {"segmentation": {"counts": "00"}}, "segmentation: expected RLE size [60, 80]"),
        ("segm", {"segmentation": {"size": [80, 60], "counts": "00"}}, "segmentation: expected RLE size [60, 80]"),
        ("segm", {"segmentation": {"size": [60, 80], "counts": 3}}, "segmentation: expected RLE counts"),
        ("segm", {"segmentation": {"size": [60, 80], "counts": [60, 80]}}, f"segmentation: {RUNS}140 pixels"),
        (
            "segm",
            {"segmentation": {"size": [60, 80], "counts": ""}},
            f"segmentation: {RUNS}a string that is no compressed RLE",
        ),
        (
            "segm",
            {"segmentation": {"size": [60, 80], "counts": "~~~~"}},
            f"segmentation: {RUNS}a string that is no compressed RLE",
        ),
        ("segm", {"segmentation": [[1, 2, 3, 4, 5]]}, "segmentation: expected a polygon with an even count"),
    ],
)
def test_faulty_results_name_file_place_expected_and_received(tmp_path, truth, iou_type, change, message):
    path = tmp_path / "results.json"
    path.write_text(json.dumps([make_result(), make_result(**change)]))
    with pytest.raises(DataError) as caught:
        evaluate_coco(truth, path, iou_type=iou_type)
    assert len(caught.value.problems) == 1
    assert str(caught.value).startswith(f"{path}: results[1].{message}")


def test_all_faults_of_results_are_listed(tmp_path, truth):
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{"bbox": [1, 1, 2, 2]}, 5, make_result(category_id=9)]))
    with pytest.raises(DataError) as caught:
        evaluate_coco(truth, path, iou_type="bbox")
    assert [problem.where for problem in caught.value.problems] == [
        "results[1]",
        "results[0].image_id",
        "results[0].category_id",
        "results[2].category_id",
        "results[0].score",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "expected a json file, received No such file"),
        ("[{", "expected json"),
        ('{"images": [], "annotations": []}', "expected a list of COCO results, received an object with images, annot"),
        ("5", "expected a list of COCO results, received 5"),
    ],
)
def test_file_without_results_is_an_error(tmp_path, truth, content, message):
    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        evaluate_coco(truth, path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category_id": 5}, r"annotation 1 \(image 1\): expected category_id of a category in this file, received 5"),
        ({"image_id": 5}, r"annotation 1 \(image 5\): expected image_id of an image in this file, received 5"),
        (
            {"segmentation": {"size": [9, 9], "counts": "aa"}},
            r"annotation 1 \(image 1\), segmentation: expected RLE size",
        ),
        ({"iscrowd": 2}, r"annotations\[0\].iscrowd \(id 1\): expected 0 or 1"),
        ({"area": "big"}, r"annotations\[0\].area \(id 1\): expected a number from 0"),
    ],
)
def test_faulty_ground_truth_is_an_error(tmp_path, change, message):
    path = write_ground_truth(tmp_path / "truth.json", [make_object(1, **change)])
    with pytest.raises(DataError, match=message):
        evaluate_coco(path, [])


def test_faulty_image_is_an_error(tmp_path, truth):
    document = json.loads(truth.read_text())
    document["images"][0]["height"] = "60"
    path = tmp_path / "faulty.json"
    path.write_text(json.dumps(document))
    with pytest.raises(DataError) as caught:
        evaluate_coco(path, [make_result()])
    assert str(caught.value) == f'{path}: images[0].height (id 1): expected a positive integer, received "60"'


def test_image_info_without_annotations_is_an_error(tmp_path, truth):
    document = json.loads(truth.read_text())
    del document["annotations"]
    image_info = tmp_path / "image_info.json"
    image_info.write_text(json.dumps(document))
    with pytest.raises(DataError, match="annotations: expected a list"):
        evaluate_coco(image_info, [])
    with pytest.raises(DataError, match="nowhere.json"):
        evaluate_coco(tmp_path / "nowhere.json", [])


@pytest.mark.parametrize("options", [{"backend": "slow"}, {"iou_type": "masks"}, {"max_detections": 0}])
def test_arguments_outside_of_their_choices_are_errors(truth, options):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name}: expected"):
        evaluate_coco(truth, [], **options)


@pytest.mark.parametrize("segmentation", [[], [[1.0, 2.0]]])
def test_a_result_without_a_mask_finds_nothing(coco_eval_reference, segmentation):
    path = coco_eval_reference / "instances_val2014_100.json"
    row = json.loads(path.read_text())["annotations"][0]
    keys = ("image_id", "category_id")
    result = {key: row[key] for key in keys} | {"score": 0.5, "segmentation": segmentation}
    assert evaluate_coco(path, [result], iou_type="segm")["mask_ap"] == 0
