"""What `data check` counts: plain loops and the counters of training are the oracle."""

import json

import numpy as np
import pytest

from centermask_keras.config import load_config
from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.data.samples.sample import SampleCounters, make_sample
from centermask_keras.data.samples.transform import make_keep, make_letterbox
from centermask_keras.errors import Problem
from centermask_keras.evaluation.data_check import check_dataset
from centermask_keras.evaluation.data_table import ClassCounts, count_classes, count_drops, list_classes, list_problems


@pytest.fixture(scope="module")
def photos(coco_tiny):
    return load_annotations(coco_tiny / "annotations" / "instances.json", coco_tiny / "images")


def test_classes_are_counted_as_they_stand_in_the_file(photos):
    document = json.loads(photos.path.read_text())
    rows = {row.id: row for row in count_classes(photos)}
    assert list(rows) == sorted(category["id"] for category in document["categories"])
    for category in document["categories"]:
        found = [
            annotation
            for annotation in document["annotations"]
            if annotation["category_id"] == category["id"] and not annotation["iscrowd"]
        ]
        row = rows[category["id"]]
        assert (row.name, row.objects) == (category["name"], len(found))
        assert row.images == len({annotation["image_id"] for annotation in found})
        sides = [np.sqrt(annotation["bbox"][2] * annotation["bbox"][3]) for annotation in found]
        assert row.median_side == pytest.approx(np.median(sides) if sides else 0, abs=0.051)


@pytest.mark.parametrize("changes", [[], ["data.max_objects=4", "model.max_detections=6", "data.input_hw=[64, 64]"]])
@pytest.mark.parametrize("crop", ["random", "window"])
def test_drops_are_those_of_training(photos, changes, crop):
    """As the samples count them; `no_mask_cell` needs the masks and is not told."""
    config = load_config("dla34", [*changes, f"data.augmentation.crop={crop}"])
    counters, over = SampleCounters(), 0
    for index, hw in enumerate(photos.image_hw.tolist()):
        input_hw = config.data.input_hw
        transform = make_letterbox(hw, input_hw)
        if config.data.augmentation.crop == "window":
            transform, input_hw = make_keep(hw, config.model.input_multiple)
        make_sample(
            photos, index, config=config, transform=transform, input_hw=input_hw, mask_size=8, counters=counters
        )
        over += (~photos.crowd[photos.objects(index)]).sum() > config.model.max_detections
    found = count_drops(photos, config)
    for name in ("too_small", "collisions", "over_max_objects"):
        assert getattr(found, name) == getattr(counters, name)
    assert (found.images_over_max_detections, found.max_objects) == (over, config.data.max_objects)
    if changes and crop == "random":
        assert min(found.too_small, found.collisions, found.over_max_objects, over) > 0
        assert f"{found.over_max_objects:,} beyond data.max_objects 4" in str(found)


def test_the_report_of_a_configuration_says_what_it_drops(photos):
    config = load_config("dla34", ["data.max_objects=4"])
    report = check_dataset(photos.path, photos.storage.path, config=config)
    assert report.config_drops == count_drops(photos, config) and str(report.config_drops) in str(report)
    assert (report.input_hw, report.stride) == (config.data.input_hw, config.model.center_stride)
    assert check_dataset(photos.path, photos.storage.path).config_drops is None


def test_the_table_stays_in_line_whatever_the_names_are():
    rows = [ClassCounts(1, "two\nlines", 1_000, 10, 12.4), ClassCounts(90, "x" * 100, 0, 0, 0.0)]
    lines = list_classes(rows)
    assert len(lines) == 3 and len({len(line) for line in lines}) == 1
    assert lines[1].split() == ["1", "two", "lines", "1,000", "10", "12", "px"] and lines[2].endswith(" -")
    assert list_classes([]) == []


def test_problems_are_counted_by_kind_with_three_examples_of_each():
    sizes = [Problem("a.json", f"image {i}", f"width {i}, height 4 as in the file", "y") for i in range(70)]
    lines = list_problems("problems", [Problem("a.json", "image 3", "a readable image", "z"), *sizes])
    assert lines == [
        "  problems: 71",
        "    70 x expected width #, height # as in the file",
        *(f"      {problem}" for problem in sizes[:3]),
        "      and 67 more",
        "    1 x expected a readable image",
        "      a.json: image 3: expected a readable image, received z",
    ]
    assert list_problems("problems", []) == []
