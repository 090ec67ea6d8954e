"""The Predictor: every kind of input, results in original pixels, run folders, errors."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

import centermask_keras as cm
from centermask_keras.config import load_config
from centermask_keras.data.feeding.pipeline import iterate_eval_batches
from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.data.files.images import read_image
from centermask_keras.data.samples.transform import make_eval_transform
from centermask_keras.errors import CenterMaskError, ImageError
from centermask_keras.inference.load import build, load, load_weights
from centermask_keras.inference.objects import Category

DEMO = Path(__file__).parents[2] / "configs" / "demo.json"
CATEGORIES = [Category(10 * index + 3, name) for index, name in enumerate(["a", "b", "c", "d", "e"])]


def demo_config(*overrides):
    return load_config(DEMO, overrides)


def build_finding(config, categories=CATEGORIES):
    """Build a fresh predictor whose sizes start at 8 x 6 cells: with sizes around 0 it would find next to nothing."""
    predictor = build(config, categories)
    predictor.detector.point_heads.get_layer("size").project.bias.assign([8.0, 6.0])
    return predictor


@pytest.fixture(scope="module")
def predictor():
    return build_finding(demo_config())


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 150, 3), np.uint8)).save(path)
    return path


def save_run(predictor, folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(predictor.config.to_json())
    rows = [{"id": category.id, "name": category.name} for category in predictor.categories]
    (folder / "run.json").write_text(json.dumps({"categories": rows}))
    predictor.detector.save_weights(folder / "model.weights.h5")
    return folder


def assert_same(first, second):
    np.testing.assert_array_equal(first.boxes, second.boxes)
    np.testing.assert_array_equal(first.scores, second.scores)
    assert list(first.masks) == list(second.masks)


def test_path_text_array_and_list_give_the_same_objects(predictor, photo):
    by_path = predictor.predict(photo, score_threshold=0)
    assert len(by_path) == 1 and len(by_path[0]) > 0
    image = read_image(photo)
    several = predictor.predict([str(photo), image], score_threshold=0)
    for result in [*several, predictor.predict(image, score_threshold=0)[0]]:
        assert_same(result, by_path[0])
    assert predictor.predict([]) == []


def test_results_are_in_original_pixels(predictor, photo):
    result = predictor.predict(photo, score_threshold=0)[0]
    assert result.boxes.dtype == np.float32 and result.boxes.shape == (len(result), 4)
    assert (result.boxes[:, :2] >= 0).all() and (result.boxes[:, 2:] <= [150, 90]).all()
    assert result.masks.dense().shape == (len(result), 90, 150)
    assert set(result.class_names) <= {"a", "b", "c", "d", "e"}
    assert [10 * index + 3 for index in result.classes] == result.category_ids
    assert result.draw().size == (450, 270)  # small images are enlarged by a whole factor, so that names can be read
    rows = result.to_coco(image_id=7)
    assert {row["image_id"] for row in rows} == {7}
    decoded = [coco_mask.decode(row["segmentation"]) for row in json.loads(json.dumps(rows))]
    np.testing.assert_array_equal(np.array(decoded, bool), result.masks.dense())


def test_score_threshold_leaves_out_the_rest(predictor, photo):
    everything = predictor.predict(photo, score_threshold=0)[0]
    threshold = float(np.median(everything.scores))
    some = predictor.predict(photo, score_threshold=threshold)[0]
    assert len(some) == int((everything.scores >= threshold).sum()) < len(everything)
    none = predictor.predict(photo, score_threshold=1.0)[0]
    assert len(none) == 0 and none.masks.dense().shape == (0, 90, 150) and none.draw().size == (450, 270)


def test_keep_runs_at_the_original_size_padded_to_32():
    predictor = build_finding(demo_config('eval.resize="keep"', "eval.batch_size=1"))
    image = np.random.default_rng(0).integers(0, 256, (90, 150, 3), np.uint8)
    transform, hw = make_eval_transform((90, 150), predictor.config)
    assert hw == (96, 160) and tuple(transform[:2]) == (1, 1)
    assert len(predictor.predict(image, score_threshold=0)[0]) > 0


def test_predictor_and_pipeline_agree_on_real_photos(coco_tiny):
    annotations = load_annotations(coco_tiny / "annotations" / "instances.json", coco_tiny / "images")
    config = demo_config("model.num_classes=80", "eval.batch_size=4", "model.dtype_policy=float32")
    predictor = build_finding(config, None)
    batch = next(iterate_eval_batches(config, annotations))
    detections = predictor.detect(batch["image"])
    for row in range(4):
        hw = tuple(int(side) for side in batch["image_hw"][row])
        piped = predictor.to_objects(detections, row, batch["transform"][row], hw)
        single = predictor.predict(annotations.image_file(int(batch["index"][row])), score_threshold=0)[0]
        np.testing.assert_allclose(piped.scores, single.scores, rtol=1e-3)
        np.testing.assert_allclose(piped.boxes, single.boxes, atol=0.05)
        np.testing.assert_array_equal(piped.classes, single.classes)
        overlap = (piped.masks.dense() & single.masks.dense()).sum((1, 2))
        union = (piped.masks.dense() | single.masks.dense()).sum((1, 2))
        assert (overlap >= 0.99 * union).all()


def test_a_run_folder_gives_the_same_results_again(predictor, photo, tmp_path):
    run = save_run(predictor, tmp_path / "run")
    again = cm.load(run)
    assert_same(again.predict(photo, score_threshold=0)[0], predictor.predict(photo, score_threshold=0)[0])
    assert again.categories == predictor.categories


def test_build_without_categories_numbers_them():
    assert [category.name for category in cm.build(demo_config()).categories][:2] == ["class 0", "class 1"]


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5", "run.json"])
def test_missing_files_of_a_run_are_named(predictor, tmp_path, name):
    run = save_run(predictor, tmp_path / "run")
    (run / name).unlink()
    with pytest.raises(CenterMaskError, match=rf"run: expected a run folder with {name}, received none"):
        load(run)


def test_damaged_run_folders_are_named(predictor, tmp_path):
    run = save_run(predictor, tmp_path / "run")
    (run / "run.json").write_text('{"categories": [{"id": 1}]}')
    with pytest.raises(CenterMaskError, match=r"run\.json: expected the categories"):
        load(run)
    (run / "run.json").write_text('{"categories": [{"id": 1, "name": "x"}]}')
    with pytest.raises(CenterMaskError, match=r"expected 5 categories .*, received 1"):
        load(run)
    (run / "run.json").write_text('{"categories": [{"id": 1e999, "name": "x"}]}')
    with pytest.raises(CenterMaskError, match=r"run\.json: expected the categories"):
        load(run)
    with pytest.raises(CenterMaskError, match=r"nowhere: expected a run folder"):
        load(tmp_path / "nowhere")


def test_a_run_loads_with_changes(predictor, tmp_path):
    run = save_run(predictor, tmp_path / "run")
    assert load(run, "eval.mask_threshold=0.5").config.eval.mask_threshold == 0.5
    assert load(run, ["eval.mask_threshold=0.5"]).config.eval.mask_threshold == 0.5


def test_weights_of_another_model_are_refused(predictor, tmp_path):
    run = save_run(predictor, tmp_path / "run")
    other = build(demo_config("model.num_classes=7")).detector
    with pytest.raises(
        CenterMaskError, match=r"model\.weights\.h5: expected the weights of this configuration's model"
    ):
        load_weights(other, run / "model.weights.h5")
    text = tmp_path / "text.weights.h5"
    text.write_text("no weights")
    with pytest.raises(CenterMaskError, match="expected the weights"):
        load_weights(other, text)
    with pytest.raises(CenterMaskError, match=r"none\.weights\.h5: expected a weights file"):
        load_weights(other, tmp_path / "none.weights.h5")
    shutil.rmtree(run)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_arrays_of_another_form_are_refused(predictor, array):
    with pytest.raises(ImageError, match=r"array: expected uint8 \[H, W, 3\] in RGB, received: "):
        predictor.predict(array)


def test_unreadable_files_are_refused(predictor, tmp_path):
    with pytest.raises(ImageError, match=r"none\.jpg"):
        predictor.predict(tmp_path / "none.jpg")


@pytest.mark.parametrize("source", [None, 3, Image.new("RGB", (8, 8)), b"photo.png", [["photo.png"]]])
def test_what_is_no_image_is_refused(predictor, source):
    with pytest.raises(ImageError, match=r"expected a path or an array uint8 \[H, W, 3\] in RGB, received: "):
        predictor.predict(source)
    with pytest.raises(ImageError, match="null byte"):
        predictor.predict("a\0b.png")


@pytest.mark.parametrize("hw", [(1, 1), (1, 300), (7, 5)])
def test_tiny_and_thin_images_are_ordinary(predictor, hw):
    result = predictor.predict(np.zeros((*hw, 3), np.uint8), score_threshold=0)[0]
    assert result.masks.dense().shape == (len(result), *hw)
