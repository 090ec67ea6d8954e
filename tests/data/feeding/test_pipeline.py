"""The datasets: one order for one seed, restarts, bad files, what is left out, crowds, mirrors, crowded images."""

import atexit
import importlib.util
import json
import math
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import lvis_case
import numpy as np
import pytest
import tensorflow as tf
from batches import assert_same_batch, assert_same_batches

from centermask_keras._cv2 import cv2
from centermask_keras.config import load_config
from centermask_keras.data import order
from centermask_keras.data.feeding import pipeline
from centermask_keras.data.feeding.pipeline import (
    iterate_eval_batches,
    make_eval_dataset,
    make_train_dataset,
    rebuild_batch,
    steps_per_epoch,
)
from centermask_keras.data.feeding.rows import PADDING_STEP, Share, make_train_row, make_train_transform
from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.data.files.images import read_image
from centermask_keras.data.samples.sample import SampleCounters, count_planes, make_sample
from centermask_keras.data.samples.transform import make_letterbox, mirror
from centermask_keras.errors import ImageError

CONFIG = Path(__file__).parents[3] / "configs" / "dla34.json"
FCOS = CONFIG.with_name("fcos_resnet101.json")  # takes several sizes
IDENTITY = np.array([1.0, 1.0, 0.0, 0.0])
HW = (128, 128)


def configure(*overrides, hw=HW, batch_size=2, path=CONFIG):
    return load_config(path, [f"data.input_hw={list(hw)}", f"train.batch_size={batch_size}", *overrides])


def load(folder):
    return load_annotations(folder / "annotations" / "instances.json", folder / "images")


def sample_of(annotations, index, *, config, **options):
    """Make a sample of the configured sizes."""
    size = config.model.mask_size_train
    return make_sample(annotations, index, config=config, input_hw=config.data.input_hw, mask_size=size, **options)


def batches(dataset, count):
    """Take the first batches as arrays, and let the dataset go."""
    return list(dataset.take(count).as_numpy_iterator())


def box_polygon(x0, y0, x1, y1):
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def write_dataset(folder, images, *, classes=3):
    """Write images of 128 x 128 with rectangles [(class, (x0, y0, x1, y1))], or with whole annotations."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    rows = []
    for index, objects in enumerate(images):
        cv2.imwrite(str(folder / f"{index}.png"), rng.integers(0, 256, (128, 128, 3), np.uint8))
        for class_index, (x0, y0, x1, y1), *more in objects:
            row = {"id": len(rows) + 1, "image_id": index + 1, "category_id": class_index + 1, "iscrowd": 0}
            row |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": 1, "segmentation": box_polygon(x0, y0, x1, y1)}
            rows.append(row | (more[0] if more else {}))
    document = {
        "images": [{"id": i + 1, "file_name": f"{i}.png", "height": 128, "width": 128} for i in range(len(images))],
        "categories": [{"id": c + 1, "name": f"class {c}"} for c in range(classes)],
        "annotations": rows,
    }
    (folder / "instances.json").write_text(json.dumps(document))
    return load_annotations(folder / "instances.json", folder)


def test_batches_have_the_documented_shapes_and_types(coco_tiny):
    config, annotations = configure(), load(coco_tiny)
    spec = make_train_dataset(config, annotations).element_spec
    planes, ignored = count_planes(annotations, config)
    batch = batches(make_train_dataset(config, annotations), 1)[0]
    expected = {
        "image": (np.uint8, (128, 128, 3)),
        "boxes": (np.float32, (PADDING_STEP, 4)),
        "classes": (np.int32, (PADDING_STEP,)),
        "valid": (np.bool_, (PADDING_STEP,)),
        "masks": (np.uint8, (PADDING_STEP, 64, 64)),
        "saliency_planes": (np.uint8, (planes, 32, 32)),
        "saliency_classes": (np.int32, (planes,)),
        "saliency_valid": (np.bool_, (planes,)),
        "ignore_planes": (np.uint8, (ignored, 32, 32)),
        "ignore_classes": (np.int32, (ignored,)),
        "ignore_valid": (np.bool_, (ignored,)),
        "transform": (np.float32, (4,)),
        "image_hw": (np.int32, (2,)),
        "image_id": (np.int64, ()),
        "position": (np.int64, ()),
    }
    assert batch.keys() == spec.keys() == expected.keys()
    for key, (dtype, shape) in expected.items():
        assert batch[key].dtype == dtype and batch[key].shape == (2, *shape), key
        static = spec[key].shape == (2, *shape)
        assert static or (shape[0] == PADDING_STEP and spec[key].shape == (2, None, *shape[1:])), key
    for name in ("boxes", "classes", "masks"):
        assert not batch[name][~batch["valid"]].any()
    assert batch["valid"].any() and batch["masks"][batch["valid"]].any(axis=(1, 2)).all()
    rows = json.loads((coco_tiny / "annotations" / "instances.json").read_text())["annotations"]
    for count, crowd in ((planes, 0), (ignored, 1)):
        found = {(row["image_id"], row["category_id"]) for row in rows if row["iscrowd"] == crowd}
        assert count == max(Counter(image_id for image_id, _ in found).values())


def test_one_seed_gives_one_order_and_another_seed_another(coco_tiny):
    annotations = load(coco_tiny)
    first = batches(make_train_dataset(configure(), annotations), 4)
    again = batches(make_train_dataset(configure(), annotations), 4)
    other = batches(make_train_dataset(configure("train.seed=1"), annotations), 4)
    assert_same_batches(first, again)
    ids = [np.concatenate([batch["image_id"] for batch in found]).tolist() for found in (first, other)]
    assert ids[0] != ids[1]
    assert not np.array_equal(first[0]["image"], other[0]["image"])


def test_every_epoch_shows_every_image_once_in_a_new_order(coco_tiny):
    annotations = load(coco_tiny)
    config = configure(batch_size=4, hw=(64, 64))
    assert steps_per_epoch(config, annotations) == 4
    found = batches(make_train_dataset(config, annotations), 8)
    ids = np.concatenate([batch["image_id"] for batch in found]).reshape(2, 16)
    np.testing.assert_array_equal(np.sort(ids), np.sort([annotations.image_ids] * 2))
    assert ids[0].tolist() != ids[1].tolist()
    np.testing.assert_array_equal(np.concatenate([batch["position"] for batch in found]), np.arange(32))
    same = [np.flatnonzero(ids[epoch] == ids[0][0])[0] for epoch in (0, 1)]
    images = [found[epoch * 4 + place // 4]["image"][place % 4] for epoch, place in enumerate(same)]
    assert not np.array_equal(*images)  # augmented anew


def test_a_restart_continues_as_if_there_had_been_none(coco_tiny):
    config, annotations = configure(batch_size=3, hw=(64, 64)), load(coco_tiny)
    whole = batches(make_train_dataset(config, annotations), 9)
    assert_same_batches(whole[6:], batches(make_train_dataset(config, annotations, start=6), 3))
    assert_same_batch(whole[5], rebuild_batch(config, annotations, 5))


def test_shares_are_the_parts_of_the_whole_batch(coco_tiny):
    """Two workers with two replicas each."""
    annotations, config = load(coco_tiny), configure(batch_size=4)
    whole = batches(make_train_dataset(config, annotations, start=1), 2)
    parts = [
        batches(make_train_dataset(config, annotations, start=1, share=Share(worker, 2, 4)), 4) for worker in range(2)
    ]
    in_order = [parts[worker][2 * step + replica] for step in range(2) for worker in range(2) for replica in range(2)]
    assert [len(part["image"]) for part in in_order] == [1] * 8
    for name in ("image", "position", "saliency_planes"):
        expected = np.concatenate([batch[name] for batch in whole])
        np.testing.assert_array_equal(np.concatenate([part[name] for part in in_order]), expected, err_msg=name)


def test_fewer_images_than_a_batch_still_fill_it(tmp_path):
    annotations = write_dataset(tmp_path, [[(0, (20, 20, 60, 60))], []])
    config = configure(batch_size=5)
    assert steps_per_epoch(config, annotations) == 1
    assert batches(make_train_dataset(config, annotations), 1)[0]["image"].shape[0] == 5


@pytest.fixture
def spoiled(coco_tiny, tmp_path):
    """16 photos, one of them cut off in the middle of its pixels."""
    shutil.copytree(coco_tiny, tmp_path / "set")
    for path in (tmp_path / "set").rglob("*"):
        path.chmod(0o755)
    annotations = load(tmp_path / "set")
    path = Path(annotations.image_file(5))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return annotations, path


def test_a_corrupt_file_stops_the_dataset_and_is_named(spoiled):
    annotations, path = spoiled
    counters = SampleCounters()
    with pytest.raises(tf.errors.OpError):
        batches(make_train_dataset(configure(hw=(64, 64)), annotations, counters=counters), 8)
    assert isinstance(counters.error, ImageError)
    assert (counters.error.path, counters.error.image_id) == (str(path), annotations.image_ids[5])
    image = f"{path} (image id {annotations.image_ids[5]})"
    assert str(counters.error) == f"{image}: expected a readable image, received: premature end of JPEG"


def test_a_corrupt_file_is_skipped_counted_and_replaced(spoiled, coco_tiny):
    annotations, path = spoiled
    config, counters = configure("data.on_error=skip", hw=(64, 64)), SampleCounters()
    found = batches(make_train_dataset(config, annotations, counters=counters), 8)
    ids = np.concatenate([batch["image_id"] for batch in found]).tolist()
    bad = int(annotations.image_ids[5])
    assert len(ids) == 16 and bad not in ids and len(set(ids)) == 15
    assert counters.error is None
    assert counters.to_dict()["skipped"][str(path)] >= 1
    healthy = batches(make_train_dataset(config, load(coco_tiny)), 8)
    expected = np.concatenate([batch["image_id"] for batch in healthy]).tolist()
    place = expected.index(bad)
    expected[place] = expected[(place + 1) % 16]  # the next file of the epoch
    assert ids == expected


def test_only_corrupt_files_are_an_error_even_if_skipped(tmp_path):
    annotations = write_dataset(tmp_path, [[], []])
    for path in tmp_path.glob("*.png"):
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ImageError):
        rebuild_batch(configure("data.on_error=skip"), annotations, 0)


def test_a_corrupt_file_stops_the_evaluation_and_is_named(spoiled):
    annotations, path = spoiled
    with pytest.raises(ImageError) as error:
        list(iterate_eval_batches(configure(), annotations))
    assert (error.value.path, error.value.image_id) == (str(path), annotations.image_ids[5])


def test_an_image_of_another_size_than_annotated_is_an_error(tmp_path):
    annotations = write_dataset(tmp_path, [[]])
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((64, 128, 3), np.uint8))
    with pytest.raises(
        ImageError, match=r"0\.png \(image id 1\): expected 128 x 128 pixels as annotated, received: 64 x 128"
    ):
        sample_of(annotations, 0, config=configure(), transform=IDENTITY)


def test_objects_left_out_are_counted_and_the_first_of_a_cell_stays(tmp_path):
    objects = [
        (0, (20, 20, 40, 40)),
        (0, (25, 25, 35, 35)),  # same class, same centre
        (1, (25, 25, 35, 35)),  # another class in the same cell
        (0, (0.25, 60, 0.75, 80)),  # half a pixel wide
        (2, (60, 60, 100, 100), {"segmentation": box_polygon(300, 300, 310, 310)}),  # no mask where its box is
        (2, (80, 10, 90, 20)),
        (2, (100, 10, 110, 20)),
        (2, (80, 30, 90, 40)),  # more than max_objects
    ]
    annotations, counters = write_dataset(tmp_path, [objects]), SampleCounters()
    sample = sample_of(
        annotations, 0, config=configure("data.max_objects=5"), transform=IDENTITY, counters=counters
    )  # fmt: skip
    np.testing.assert_array_equal(sample["valid"], [True, True, True, True, False])
    np.testing.assert_array_equal(
        sample["boxes"],
        [[20, 20, 40, 40], [25, 25, 35, 35], [80, 10, 90, 20], [100, 10, 110, 20], [0, 0, 0, 0]],
    )
    np.testing.assert_array_equal(sample["classes"], [0, 1, 2, 2, 0])
    assert counters.to_dict() == {
        "samples": 1,
        "objects": 4,
        "over_max_objects": 1,
        "collisions": 1,
        "too_small": 1,
        "no_mask_cell": 1,
        "skipped": {},
    }


def test_saliency_shows_every_object_also_those_left_out(tmp_path):
    objects = [(2, (20, 20, 40, 40)), (0, (60, 60, 80, 80)), (2, (84, 20, 104, 40))]
    annotations = write_dataset(tmp_path, [objects])
    sample = sample_of(annotations, 0, config=configure("data.max_objects=1"), transform=IDENTITY)
    expected = np.zeros((2, 32, 32))
    expected[0, 15:20, 15:20] = expected[1, 5:10, 5:10] = expected[1, 5:10, 21:26] = 255
    np.testing.assert_array_equal(sample["saliency_planes"], expected)
    np.testing.assert_array_equal(sample["saliency_classes"], [0, 2])
    assert sample["saliency_valid"].all() and not sample["ignore_valid"].any()

    agnostic = configure("model.saliency=class_agnostic", "model.loss_weights.saliency=null")
    sample = sample_of(annotations, 0, config=agnostic, transform=IDENTITY)
    np.testing.assert_array_equal(sample["saliency_planes"], expected.max(axis=0)[None])
    assert sample["saliency_classes"].tolist() == [0] and sample["saliency_valid"].tolist() == [True]


def crowded(tmp_path):
    crowd = {"iscrowd": 1, "segmentation": {"size": [128, 128], "counts": [0, 128 * 64, 128 * 64]}}
    objects = [(0, (8, 8, 40, 40)), (1, (0, 0, 64, 128), crowd)]
    return write_dataset(tmp_path, [objects, [(0, (8, 8, 40, 40))]])


def test_crowd_ignored_is_a_plane_and_no_object(tmp_path):
    sample = sample_of(crowded(tmp_path), 0, config=configure("data.crowd=ignore"), transform=IDENTITY)
    assert sample["valid"].sum() == 1 and sample["classes"][0] == 0
    assert sample["saliency_classes"].tolist() == [0] and sample["saliency_valid"].tolist() == [True]
    assert sample["ignore_classes"].tolist() == [1] and sample["ignore_valid"].tolist() == [True]
    expected = np.zeros((1, 32, 32))
    expected[:, :, :16] = 255
    np.testing.assert_array_equal(sample["ignore_planes"], expected)


def test_crowd_trained_is_an_object_and_no_plane(tmp_path):
    sample = sample_of(crowded(tmp_path), 0, config=configure("data.crowd=train"), transform=IDENTITY)
    assert sample["valid"].sum() == 2 and sample["classes"][:2].tolist() == [0, 1]
    assert sample["saliency_classes"].tolist() == [0, 1] and (sample["masks"][1] == 255).all()
    assert not sample["ignore_valid"].any() and not sample["ignore_planes"].any()


def test_crowd_dropped_is_nothing(tmp_path):
    sample = sample_of(crowded(tmp_path), 0, config=configure("data.crowd=drop"), transform=IDENTITY)
    assert sample["valid"].sum() == 1 and sample["saliency_valid"].tolist() == [True]
    assert not sample["ignore_valid"].any() and not sample["ignore_planes"].any()


def test_an_image_without_objects_is_an_ordinary_sample(coco_tiny):
    annotations = load(coco_tiny)
    index = int(np.flatnonzero(np.diff(annotations.object_start) == 0)[0])
    sample = sample_of(annotations, index, config=configure(), transform=make_letterbox((480, 640), HW))
    for name in ("valid", "boxes", "classes", "masks", "saliency_planes", "saliency_valid", "ignore_valid"):
        assert not sample[name].any(), name
    assert sample["image"].any()


def test_a_dataset_without_objects_has_one_empty_plane(tmp_path):
    annotations = write_dataset(tmp_path, [[], []])
    batch = batches(make_train_dataset(configure(), annotations), 1)[0]
    assert batch["saliency_planes"].shape == batch["ignore_planes"].shape == (2, 1, 32, 32)
    assert not batch["valid"].any() and not batch["saliency_valid"].any()


def test_a_mirrored_sample_is_the_mirror(coco_tiny):
    """Boxes, masks, planes and ignore planes; the image up to the rounding of the interpolation."""
    config, annotations = configure(hw=(256, 256)), load(coco_tiny)
    for index in range(len(annotations)):
        hw = tuple(int(side) for side in annotations.image_hw[index])
        transform = make_letterbox(hw, (256, 256)) * [1.1, 1.1, 1.0, 1.0] + [0.0, 0.0, -7.3, 3.1]
        plain = sample_of(annotations, index, config=config, transform=transform)
        flipped = sample_of(annotations, index, config=config, transform=mirror(transform, (256, 256)))
        valid = plain["valid"]
        np.testing.assert_array_equal(flipped["valid"], valid)
        np.testing.assert_array_equal(flipped["classes"], plain["classes"])
        expected = plain["boxes"][valid] * [-1, 1, -1, 1] + [256, 0, 256, 0]
        np.testing.assert_allclose(flipped["boxes"][valid], expected[:, [2, 1, 0, 3]], atol=1e-4)
        for name in ("masks", "saliency_planes", "ignore_planes"):
            np.testing.assert_array_equal(flipped[name], plain[name][..., ::-1], err_msg=name)
        difference = np.abs(flipped["image"].astype(int) - plain["image"][:, ::-1])
        assert difference.mean() < 0.5


def test_an_image_with_369_nuclei(nuclei_train):
    annotations = load(nuclei_train)
    index = int(np.argmax(np.diff(annotations.object_start)))
    assert np.diff(annotations.object_start)[index] == 369
    hw = tuple(int(side) for side in annotations.image_hw[index])
    config = configure("data.max_objects=400", "model.num_classes=1", hw=(512, 512))
    counters = SampleCounters()
    transform = make_letterbox(hw, (512, 512))
    sample = sample_of(annotations, index, config=config, transform=transform, counters=counters)
    counts = counters.to_dict()
    left_out = sum(counts[name] for name in ("collisions", "too_small", "no_mask_cell", "over_max_objects"))
    assert sample["valid"].sum() == counts["objects"] == 369 - left_out
    assert counts["objects"] > 330 and counts["over_max_objects"] == 0
    # Area of the union, by the sum of the objects' own areas: nuclei touch, but do not overlap.
    boxes = sample["boxes"][sample["valid"]]
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) * sample["masks"][sample["valid"]].mean(axis=(1, 2)) / 255
    assert sample["saliency_planes"].sum() / 255 * 16 == pytest.approx(areas.sum(), rel=0.05)

    few = sample_of(annotations, index, config=configure("data.max_objects=50", hw=(512, 512)), transform=transform)
    assert few["valid"].all() and len(few["valid"]) == 50
    np.testing.assert_array_equal(few["boxes"], sample["boxes"][:50])


def test_padding_follows_the_fullest_image_of_the_batch(nuclei_train):
    """Nothing valid is cut off, and the padding is the shortest multiple of its step, or max_objects."""
    annotations, rows = load(nuclei_train), set()
    config = configure("data.max_objects=150", "model.num_classes=1", hw=(256, 256))
    for step, batch in enumerate(batches(make_train_dataset(config, annotations), 12)):
        longest = int(batch["valid"].sum(axis=1).max())
        assert batch["valid"].shape[1] == min(150, max(1, math.ceil(longest / PADDING_STEP)) * PADDING_STEP)
        whole = [make_row_of(config, annotations, position) for position in (2 * step, 2 * step + 1)]
        assert batch["valid"].sum() == sum(row["valid"].sum() for row in whole)
        rows.add(batch["valid"].shape[1])
    assert len(rows) > 1


def make_row_of(config, annotations, position):
    return make_train_row(config, annotations, position, SampleCounters())


def test_centres_of_one_class_never_share_a_cell(nuclei_train):
    annotations = load(nuclei_train)
    config = configure("data.max_objects=400", "model.num_classes=1")
    sample = sample_of(annotations, 0, config=config, transform=make_letterbox(tuple(annotations.image_hw[0]), HW))
    boxes = sample["boxes"][sample["valid"]]
    cells = np.floor((boxes[:, :2] + boxes[:, 2:]) / 2 / 4)
    assert len(np.unique(cells, axis=0)) == len(cells) > 5


def test_crop_none_letterboxes_and_flips(coco_tiny):
    config = configure("data.augmentation.crop=none", "data.augmentation.flip=0.5")
    plain = make_letterbox((480, 640), HW)
    found = {
        tuple(make_train_transform((480, 640), HW, config.data.augmentation, np.random.default_rng(seed)))
        for seed in range(20)
    }
    assert found == {tuple(plain), tuple(mirror(plain, HW))}


def test_several_sizes_share_one_and_one_way_to_lie_within_a_step(coco_tiny):
    sizes = [[64, 96], [96, 128], [128, 160]]
    whole = ["data.augmentation.crop=none", "data.augmentation.flip=0.0"]
    config = configure(f"data.multi_scale_hw={sizes}", *whole, path=FCOS)
    annotations = load(coco_tiny)
    steps = 32
    drawn = batches(make_train_dataset(config, annotations), steps)
    high = annotations.image_hw[:, 0] > annotations.image_hw[:, 1]
    seen, ids, shapes = Counter(), Counter(), set()
    for batch in drawn:
        height, width = batch["image"].shape[1:3]
        lies = batch["image_hw"][:, 0] > batch["image_hw"][:, 1]
        assert len(set(lies)) == 1 and sorted([height, width]) in sizes and (height > width) == lies[0]
        assert batch["saliency_planes"].shape[2:] == (height // 8, width // 8)
        # The whole image: it touches two opposite sides.
        assert np.any(np.isclose(batch["transform"][:, :2] * batch["image_hw"][:, ::-1], [[width, height]] * 2))
        seen[bool(lies[0])] += 1
        ids.update(batch["image_id"].tolist())
        shapes.add((height, width))
    assert seen[True] == int(steps * high.mean()) and seen[False] == steps - seen[True] and min(seen.values()) > 0
    assert len(shapes) > 3
    assert len(ids) == len(annotations) and max(ids.values()) - min(ids.values()) <= 2
    later = batches(make_train_dataset(config, annotations, start=5), 1)[0]
    assert_same_batch(later, drawn[5])
    assert_same_batch(rebuild_batch(config, annotations, 5), drawn[5])


def test_steps_per_epoch_are_a_pass_unless_configured(coco_tiny):
    assert steps_per_epoch(configure(), load(coco_tiny)) == len(load(coco_tiny)) // 2
    assert steps_per_epoch(configure("train.steps_per_epoch=7"), load(coco_tiny)) == 7


def test_turned_evaluation_lies_as_the_image_does(coco_tiny):
    config = configure("eval.resize=turned", "eval.batch_size=1", hw=(64, 96))
    for batch in iterate_eval_batches(config, load(coco_tiny)):
        height, width = batch["image_hw"][0]
        assert batch["image"].shape[1:3] == ((96, 64) if height > width else (64, 96))


def test_crop_window_keeps_the_resolution_of_large_images_and_mirrors_both_ways():
    config = configure("data.augmentation.crop=window", "data.augmentation.flip_vertical=0.5")
    scales = config.data.augmentation.scale
    transforms = [
        make_train_transform((2000, 3000), HW, config.data.augmentation, np.random.default_rng(seed))
        for seed in range(60)
    ]
    zooms = {round(1 / abs(transform[0]), 6) for transform in transforms}
    assert min(zooms) == scales[0] and max(zooms) == scales[1]
    assert {(t[0] < 0, t[1] < 0) for t in transforms} == {(False, False), (True, False), (False, True), (True, True)}


def test_invert_makes_negatives(coco_tiny):
    annotations = load(coco_tiny)
    still = ["data.augmentation.color=0.0", "data.augmentation.lighting=0.0"]
    images = []
    for probability in (0.0, 1.0):
        config = configure(*still, f"data.augmentation.invert={probability}", hw=(640, 640))
        rng = np.random.default_rng(0)
        images.append(sample_of(annotations, 0, config=config, transform=IDENTITY, rng=rng)["image"])
    height, width = annotations.image_hw[0]
    np.testing.assert_array_equal(images[1][:height, :width], 255 - images[0][:height, :width])
    assert not images[1][height:].any() and not images[1][:, width:].any()  # padding stays black


def test_without_random_source_colours_stay(coco_tiny):
    annotations, config = load(coco_tiny), configure(hw=(640, 640))
    sample = sample_of(annotations, 0, config=config, transform=IDENTITY)
    image = read_image(annotations.image_file(0))
    np.testing.assert_array_equal(sample["image"][: image.shape[0], : image.shape[1]], image)
    jittered = sample_of(annotations, 0, config=config, transform=IDENTITY, rng=np.random.default_rng(0))
    assert not np.array_equal(jittered["image"], sample["image"])


def test_evaluation_keeps_sizes_one_by_one_and_in_order(coco_tiny):
    annotations = load(coco_tiny)
    found = list(iterate_eval_batches(configure(), annotations))
    assert [int(batch["index"][0]) for batch in found] == list(range(16))
    for i, batch in enumerate(found):
        height, width = annotations.image_hw[i]
        assert batch["image"].shape == (1, -(-height // 32) * 32, -(-width // 32) * 32, 3)
        assert batch["image_id"][0] == annotations.image_ids[i] and batch["transform"].dtype == np.float64
        np.testing.assert_array_equal(batch["image_hw"], [[height, width]])
        top, left = int(batch["transform"][0, 3]), int(batch["transform"][0, 2])
        inside = batch["image"][0, top : top + height, left : left + width]
        np.testing.assert_array_equal(inside, read_image(annotations.image_file(i)))


def test_letterbox_evaluation_ends_with_a_short_batch(coco_tiny):
    config = configure("eval.resize=letterbox", "eval.batch_size=5")
    found = list(iterate_eval_batches(config, load(coco_tiny)))
    assert [len(batch["image"]) for batch in found] == [5, 5, 5, 1]
    assert all(batch["image"].shape[1:] == (128, 128, 3) for batch in found)
    np.testing.assert_array_equal(np.concatenate([batch["index"] for batch in found]), np.arange(16))


def test_no_thread_of_a_dataset_delays_the_end_of_the_program(coco_tiny):
    annotations = load_annotations(coco_tiny / "annotations" / "instances.json", coco_tiny / "images")
    config = load_config(CONFIG)
    for dataset in (make_train_dataset(config, annotations), make_eval_dataset(config, annotations)):
        assert dataset.options().autotune.enabled is False


@pytest.mark.slow
def test_a_program_that_leaves_an_endless_dataset_open_ends(coco_tiny):
    program = f"""
from centermask_keras.config import load_config
from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.data.feeding.pipeline import make_train_dataset
annotations = load_annotations({str(coco_tiny / "annotations" / "instances.json")!r}, {str(coco_tiny / "images")!r})
batches = iter(make_train_dataset(load_config({str(CONFIG)!r}, ["train.batch_size=8"]), annotations))
next(batches)
print("done")
"""
    for _ in range(3):
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
        assert ended.returncode == 0 and ended.stdout == "done\n", ended.stderr[-2000:]


def test_counters_count_right_from_many_threads():
    counters = SampleCounters()

    def count():
        for _ in range(500):
            counters.add(samples=1, collisions=2)
            counters.add_skipped("a.jpg")

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.samples == 4000 and counters.collisions == 8000 and counters.skipped == {"a.jpg": 4000}


@pytest.fixture
def lvis(coco_tiny, tmp_path, monkeypatch):
    """The photos as LVIS, whose threshold for repeats is so high that classes in one of 16 images are repeated."""
    document = json.loads((coco_tiny / "annotations" / "instances.json").read_text())
    document["annotations"] = [row for row in document["annotations"] if not row["iscrowd"]]
    (tmp_path / "lvis.json").write_text(json.dumps(lvis_case.as_lvis(document)))
    monkeypatch.setattr(order, "REPEAT_THRESHOLD", 0.1)
    return load_annotations(tmp_path / "lvis.json", coco_tiny)


def test_lvis_batches_list_the_known_classes_and_no_map_of_all(lvis):
    dataset = make_train_dataset(configure(), lvis)
    batch, most = batches(dataset, 1)[0], max(len(classes) for classes in lvis.known_classes)
    assert batch.keys() == dataset.element_spec.keys()
    assert batch["known_classes"].shape == batch["known_valid"].shape == (2, most) and most < 20
    for row, image_id in enumerate(batch["image_id"]):
        known = lvis.known_classes[lvis.image_ids.tolist().index(image_id)]
        assert batch["known_classes"][row][batch["known_valid"][row]].tolist() == known.tolist()
    assert not any(80 in value.shape for value in batch.values())
    assert_same_batch(batch, rebuild_batch(configure(), lvis, 0))


def test_lvis_repeats_images_and_a_restart_continues(lvis):
    config, length = configure(batch_size=4, hw=(64, 64)), lvis.order.length()
    assert 18 < length < 32 and steps_per_epoch(config, lvis) == length // 4
    whole = batches(make_train_dataset(config, lvis), 2 * length // 4 + 1)
    ids = np.concatenate([batch["image_id"] for batch in whole]).tolist()
    index = {image_id: place for place, image_id in enumerate(lvis.image_ids.tolist())}
    for epoch in range(2):
        shown = ids[epoch * length : (epoch + 1) * length]
        assert [index[image_id] for image_id in shown] == lvis.order.epoch(config.train.seed, epoch).tolist()
        assert set(shown) == set(index) and max(Counter(shown).values()) == 2
    start = length // 4  # in this batch one epoch ends and the next begins, unless the length is a multiple of 4
    again = batches(make_train_dataset(config, lvis, start=start), len(whole) - start)
    assert_same_batches(whole[start:], again)


def test_the_program_is_prepared_by_its_first_dataset_and_not_by_an_import(coco_tiny, monkeypatch):
    """Otherwise it would depend on the order of imports whether TensorFlow takes the GPUs of another backend."""
    hidden, at_exit = [], []
    backend = SimpleNamespace(backend=lambda: "jax")
    monkeypatch.setitem(sys.modules, "keras", SimpleNamespace(backend=backend))
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *devices: hidden.append(devices))
    monkeypatch.setattr(atexit, "register", at_exit.append)
    specification = importlib.util.find_spec("centermask_keras.data.feeding.pipeline")
    module = importlib.util.module_from_spec(specification)  # a second one, which nothing else uses
    specification.loader.exec_module(module)
    assert not hidden and not at_exit
    annotations = load(coco_tiny)
    for _ in range(2):
        module.make_eval_dataset(configure(), annotations)
        module.make_train_dataset(configure(), annotations)
    assert hidden == [([], "GPU")] and len(at_exit) == 1


def test_gpus_that_tensorflow_has_begun_to_use_are_no_error(coco_tiny, monkeypatch):
    def refuse(*_):
        raise RuntimeError("Visible devices cannot be modified after being initialized")

    monkeypatch.setitem(sys.modules, "keras", SimpleNamespace(backend=SimpleNamespace(backend=lambda: "jax")))
    monkeypatch.setattr(tf.config, "set_visible_devices", refuse)
    pipeline._prepare_program.cache_clear()
    assert len(batches(make_eval_dataset(configure(), load(coco_tiny)), 1)) == 1
