"""Each kind of bad input, under both values of `data.on_error`: what stops, what is left out, what is skipped.

What stops before training does so under either value, and so does what is left out: `data.on_error` is about files
that fail to decode while training runs.
"""

import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from centermask_keras.config import Config, load_config
from centermask_keras.data.feeding.pipeline import make_train_dataset, rebuild_batch
from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.data.samples.sample import SampleCounters
from centermask_keras.errors import DataError, ImageError
from centermask_keras.evaluation.data_check import check_dataset
from centermask_keras.training import fit
from centermask_keras.training.train import train

DEMO = Path(__file__).parents[3] / "configs" / "demo.json"
SIDE = 64
IMAGES = 4
BOXES = {11: (4, 8, 24, 20), 12: (30, 8, 30, 20), 13: (8, 30, 40, 30)}  # annotation id -> x, y, width, height
IMAGE_OF = {11: 1, 12: 1, 13: 3}

on_error = pytest.mark.parametrize("on_error", ["stop", "skip"])


def make_document() -> dict:
    """Four images with two objects, none, one, none."""
    return {
        "images": [{"id": i + 1, "file_name": f"{i + 1}.jpg", "height": SIDE, "width": SIDE} for i in range(IMAGES)],
        "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [make_object(annotation_id, box) for annotation_id, box in BOXES.items()],
    }


def make_object(annotation_id: int, box: tuple[int, int, int, int], **changes) -> dict:
    x, y, width, height = box
    return {
        "id": annotation_id,
        "image_id": IMAGE_OF.get(annotation_id, 2),
        "category_id": 7,
        "bbox": list(box),
        "area": width * height,
        "iscrowd": 0,
        "segmentation": [[x, y, x + width, y, x + width, y + height, x, y + height]],
        **changes,
    }


def write(folder: Path, document: dict | str) -> None:
    """Write my.json and the images, with content enough to be cut in two."""
    folder.mkdir(parents=True)
    (folder / "my.json").write_text(document if isinstance(document, str) else json.dumps(document))
    rng = np.random.default_rng(0)
    for number in range(1, IMAGES + 1):
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(folder / f"{number}.jpg")


def configure(folder: Path, on_error: str, *, train: str = "train", val: str = "val") -> Config:
    sets = {"train": folder / train, "val": folder / val}
    paths = [f"data.{name}.annotations={path}/my.json" for name, path in sets.items()]
    paths += [f"data.{name}.images={path}" for name, path in sets.items()]
    sizes = [f"data.input_hw=[{SIDE},{SIDE}]", "model.num_classes=2", "train.batch_size=2"]
    plain = ["data.augmentation.flip=0.0", "data.augmentation.color=0.0", f"data.on_error={on_error}"]
    return load_config(DEMO, [*paths, *sizes, *plain])


# --- What stops before training: with all faults of the file, each with file, place, expected, received.


def with_nan() -> str:
    document = make_document()
    document["annotations"][0]["bbox"][1] = float("nan")
    document["annotations"][2]["area"] = float("inf")
    return json.dumps(document)


def changed(change: Callable[[dict], None]) -> dict:
    document = make_document()
    change(document)
    return document


def repeat(key: str) -> dict:
    """Repeat the first two entries."""
    return changed(lambda document: document[key].extend([dict(entry) for entry in document[key][:2]]))


def lose_images(document: dict) -> None:
    document["images"][1]["file_name"] = "none.jpg"
    document["images"][3]["file_name"] = "nowhere.jpg"


def rename_categories(document: dict) -> None:
    document["annotations"][0]["category_id"] = 99
    document["annotations"][2]["category_id"] = 98


MISSING = [
    "/none.jpg: image 2: expected a readable image, received no such file or directory",
    "/nowhere.jpg: image 4: expected a readable image, received no such file or directory",
]
UNKNOWN = [
    "/my.json: annotation 11 (image 1): expected category_id of a category in this file, received 99",
    "/my.json: annotation 13 (image 3): expected category_id of a category in this file, received 98",
]
FATAL = {
    "unreadable json": (
        json.dumps(make_document())[:12],
        ["/my.json: line 1, column 13: expected json, received Expecting value"],
    ),
    "NaN": (
        with_nan(),
        [
            "/my.json: annotations[0].bbox[1] (id 11): expected a finite number, received NaN",
            "/my.json: annotations[2].area (id 13): expected a finite number, received Infinity",
        ],
    ),
    "missing image": (changed(lose_images), MISSING),
    "unknown category": (changed(rename_categories), UNKNOWN),
    "repeated image id": (
        repeat("images"),
        [f"/my.json: images: expected one entry with id {i}, received 2 entries" for i in (1, 2)],
    ),
    "repeated annotation id": (
        repeat("annotations"),
        [f"/my.json: annotations: expected one entry with id {i}, received 2 entries" for i in (11, 12)],
    ),
    "repeated category id": (
        repeat("categories"),
        [f"/my.json: categories: expected one entry with id {i}, received 2 entries" for i in (7, 9)],
    ),
    "several kinds": (
        changed(lambda document: (lose_images(document), rename_categories(document))),
        UNKNOWN + MISSING,
    ),
}


@on_error
@pytest.mark.parametrize("spoiled", ["train", "val"])
@pytest.mark.parametrize("kind", FATAL)
def test_fatal_input_stops_before_a_model_is_built(tmp_path, monkeypatch, kind, spoiled, on_error):
    document, lines = FATAL[kind]
    for name in ("train", "val"):
        write(tmp_path / name, document if name == spoiled else make_document())
    monkeypatch.setattr(fit, "build_detector", lambda config, **_: pytest.fail("a model is built"))
    with pytest.raises(DataError) as caught:
        train(configure(tmp_path, on_error), name="mine.json", run_dir=tmp_path / "run")
    assert [str(problem) for problem in caught.value.problems] == [f"{tmp_path / spoiled}{line}" for line in lines]
    for problem in caught.value.problems:
        assert str(problem) in str(caught.value)
    assert not (tmp_path / "run").exists()


# --- What is left out and counted.

DROPPED = {
    "box without area": ({"bbox": [5, 5, 0, 20]}, ["a bbox with width and height above 0", "[5.0, 5.0, 0.0, 20.0]"]),
    "polygon of under 3 points": ({"segmentation": [[5, 5, 9, 9]]}, ["a polygon of at least 3 points", "2 points"]),
    "box outside of the image": (
        {"bbox": [70, 5, 20, 20]},
        ["a bbox in its image of width 64, height 64", "[70.0, 5.0, 20.0, 20.0]"],
    ),
}


@on_error
@pytest.mark.parametrize("reason", DROPPED)
def test_objects_that_cannot_be_learned_from_are_left_out_and_counted(tmp_path, reason, on_error):
    change, (expected, received) = DROPPED[reason]
    document = make_document()
    document["annotations"].insert(1, make_object(20, (5, 5, 20, 20), image_id=1, **change))
    document["annotations"].append(make_object(21, (5, 5, 20, 20), **change))
    write(tmp_path / "train", document)
    path = tmp_path / "train" / "my.json"
    annotations = load_annotations(path, path.parent)
    assert annotations.dropped == {reason: 2}
    assert [str(problem) for problem in annotations.drops] == [
        f"{path}: annotation {annotation_id} (image {image_id}): expected {expected}, received {received}"
        for annotation_id, image_id in ((20, 1), (21, 2))
    ]
    config = configure(tmp_path, on_error)
    found = set()
    for step in range(IMAGES // config.train.batch_size):  # one epoch
        batch = rebuild_batch(config, annotations, step)
        for image_id, boxes, valid in zip(batch["image_id"], batch["boxes"], batch["valid"], strict=True):
            found |= {(int(image_id), *box) for box in boxes[valid].tolist()}
        assert batch["masks"][batch["valid"]].any(axis=(1, 2)).all()
    corners = {key: (x, y, x + width, y + height) for key, (x, y, width, height) in BOXES.items()}
    assert found == {(IMAGE_OF[key], *box) for key, box in corners.items()}


# --- What fails to decode while training runs. Its header is sound, or loading would have stopped.


class Brightness(keras.Model):
    """A stand-in for the detector, trained in no time: what is trained does not matter here."""

    def __init__(self):
        super().__init__()
        self.scale = self.add_weight(shape=(1,), name="scale")
        self.loss_trackers = []
        self.built = True

    def call(self, inputs, training=False):
        return self.scale * keras.ops.mean(keras.ops.cast(inputs["image"], "float32"))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return keras.ops.sum(y_pred**2)


@pytest.fixture
def cut(tmp_path) -> Path:
    """Two datasets; the third image of the one to train on ends early."""
    for name in ("train", "val"):
        write(tmp_path / name, make_document())
    path = tmp_path / "train" / "3.jpg"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def test_a_file_that_does_not_decode_stops_training_and_is_named(cut, monkeypatch):
    folder = cut.parent.parent
    monkeypatch.setattr(fit, "build_detector", lambda config, **_: Brightness())
    with pytest.raises(ImageError) as caught:
        train(configure(folder, "stop"), name="mine.json", run_dir=folder / "run")
    assert str(caught.value) == f"{cut} (image id 3): expected a readable image, received: premature end of JPEG"


def test_a_file_that_does_not_decode_is_skipped_and_counted(cut):
    config = configure(cut.parent.parent, "skip")
    annotations = load_annotations(cut.parent / "my.json", cut.parent)
    counters = SampleCounters()
    batches = list(make_train_dataset(config, annotations, counters=counters).take(2).as_numpy_iterator())
    assert counters.error is None
    assert counters.skipped.keys() == {str(cut)} and counters.skipped[str(cut)] >= 1
    ids = np.concatenate([batch["image_id"] for batch in batches]).tolist()
    cut.write_bytes((cut.parent / "2.jpg").read_bytes())
    sound = [rebuild_batch(config, annotations, step) for step in (0, 1, 2)]
    order = np.concatenate([batch["image_id"] for batch in sound]).tolist()[:IMAGES]
    place = order.index(3)
    order[place] = order[(place + 1) % IMAGES]  # the next file of the epoch takes its place
    assert ids == order


def test_a_file_that_does_not_decode_ends_the_batches_where_it_stops(cut):
    annotations = load_annotations(cut.parent / "my.json", cut.parent)
    counters = SampleCounters()
    dataset = make_train_dataset(configure(cut.parent.parent, "stop"), annotations, counters=counters)
    with pytest.raises(tf.errors.OpError):
        list(dataset.take(2).as_numpy_iterator())
    assert (counters.error.path, counters.error.image_id) == (str(cut), 3)
    assert not counters.skipped


def test_check_lists_what_does_not_decode_where_loading_does_not_look(cut):
    path = cut.parent / "my.json"
    load_annotations(path, cut.parent)
    (problem,) = check_dataset(path, cut.parent).problems
    assert str(problem) == (
        f"{cut}: image 3 (annotation ids 13): expected a readable image, received premature end of JPEG"
    )
