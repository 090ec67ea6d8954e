"""`data check` finds in one pass what training would meet one after the other, and measures the dataset.

Oracle for the figures: plain loops.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.data.files.images import read_image
from centermask_keras.errors import Problem
from centermask_keras.evaluation.data_check import check_dataset

HW = (100, 200)


def add(document: dict, image_id: int, x: float, y: float, side: float, **changes) -> None:
    """Add a square object."""
    polygon = [x, y, x + side, y, x + side, y + side, x, y + side]
    annotation = {
        "id": len(document["annotations"]) + 1,
        "image_id": image_id,
        "category_id": 1,
        "bbox": [x, y, side, side],
        "area": side**2,
        "iscrowd": 0,
        "segmentation": [polygon],
    }
    document["annotations"].append({**annotation, **changes})


def make_document() -> dict:
    """Four images of 100 x 200 px: with 3 objects, 1 object, a crowd region only, none."""
    document = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": HW[0], "width": HW[1]} for i in (1, 2, 3, 4)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [],
    }
    add(document, 1, 20, 20, 20)  # centre 30, 30
    add(document, 1, 25, 25, 10)  # the same centre
    add(document, 1, 28.8, 28.8, 2.4, category_id=2)  # the same centre, another class; 6.1 px at 512
    add(document, 2, 150, 50, 40)
    add(document, 3, 20, 20, 20, iscrowd=1)
    return document


def write(folder: Path, document: dict | str) -> tuple[Path, Path]:
    path, images = folder / "my.json", folder / "photos"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    images.mkdir(exist_ok=True)
    for index in (1, 2, 3, 4):
        Image.effect_noise(HW[::-1], 50).convert("RGB").save(images / f"{index}.png")
    return path, images


def test_sound_dataset(tmp_path):
    steps = []
    report = check_dataset(*write(tmp_path, make_document()), progress=lambda done, total: steps.append((done, total)))
    assert (report.problems, report.left_out, report.doubtful) == ([], [], [])
    assert (report.images, report.objects, report.classes) == (4, 5, 2)
    assert (report.crowd_regions, report.images_without_objects) == (1, 1)
    assert (report.objects_per_image_median, report.objects_per_image_max) == (0.5, 3)
    assert report.objects_per_class == {"cat": 3, "dog": 1}
    assert report.small_share == 1 / 4
    assert report.collision_share == 1 / 4
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert str(report).splitlines() == [
        "4 images, 5 objects, 2 classes; 1 image without objects",
        "  objects per image: median 0.5, max 3     smaller than 8 px at 512: 25.0%     "
        "centre collisions at stride 4: 25.0%",
        "      id  class   objects   images   median size",
        "       1  cat           3        2         20 px",
        "       2  dog           1        1          2 px",
    ]


def test_without_a_stride_there_are_no_collisions_to_tell_of(tmp_path):
    report = check_dataset(*write(tmp_path, make_document()), stride=None)
    assert report.collision_share is None and "smaller than 8 px at 512: 25.0%\n" in str(report)


def test_size_of_the_input_matters_to_the_figures(tmp_path):
    dataset = write(tmp_path, make_document())
    assert check_dataset(*dataset, input_hw=(1024, 1024)).small_share == 0
    report = check_dataset(*dataset, input_hw=(128, 256), stride=32)
    assert report.small_share == 1 / 4
    assert "smaller than 8 px at 128 x 256" in str(report)


def test_json_that_is_none_is_a_problem_not_an_exception(tmp_path):
    path, images = write(tmp_path, "{")
    report = check_dataset(path, images, out=tmp_path / "check")
    assert [problem.where for problem in report.problems] == ["line 1, column 2"]
    assert str(path) in str(report)
    assert json.loads((tmp_path / "check" / "report.json").read_text())["problems"][0]["received"].startswith(
        "Expecting"
    )


def test_image_that_does_not_decode_is_named_with_its_annotations(tmp_path):
    path, images = write(tmp_path, make_document())
    for name in ("1.png", "4.png"):
        (images / name).write_bytes((images / name).read_bytes()[:-200])  # the header is whole
    load_annotations(path, images)
    report = check_dataset(path, images, out=tmp_path / "check")
    assert [str(problem) for problem in report.problems] == [
        f"{images}/1.png: image 1 (annotation ids 1, 2, 3): expected a readable image, received premature end of PNG",
        f"{images}/4.png: image 4 (annotation ids none): expected a readable image, received premature end of PNG",
    ]
    assert sorted(path.name for path in (tmp_path / "check").glob("*.jpg")) == ["2.jpg", "3.jpg"]


def test_missing_image_and_image_of_another_size(tmp_path):
    path, images = write(tmp_path, make_document())
    (images / "2.png").unlink()
    Image.new("L", (10, 12)).save(images / "3.png")
    first, second = check_dataset(path, images).problems
    assert (first.file, first.received) == (str(images / "2.png"), "no such file or directory")
    assert second.where == "image 3 (3.png)"


def test_missing_folder_is_one_problem(tmp_path):
    path, _ = write(tmp_path, make_document())
    report = check_dataset(path, tmp_path / "none", out=tmp_path / "check")
    assert report.problems == [Problem(str(tmp_path / "none"), "", "a folder with the images", "no such folder")]
    assert report.objects == 5


def test_faults_and_left_out_objects_of_the_json_are_listed(tmp_path):
    document = make_document()
    add(document, 1, 20, 20, 20, category_id=3)
    add(document, 2, 20, 20, 20, segmentation=[[1, 2, 3, 4]])
    report = check_dataset(*write(tmp_path, document))
    assert [problem.where for problem in report.problems] == ["annotation 6 (image 1)"]
    assert [problem.where for problem in report.left_out] == ["annotation 7 (image 2)"]
    assert report.objects == 5
    lines = str(report).splitlines()
    assert lines[1] == "  problems that stop training: 1"
    assert lines[2] == "    1 x expected category_id of a category in this file"
    assert lines[3] == f"      {report.problems[0]}"
    assert lines[4] == "  objects or polygons left out: 1"
    assert lines[5] == "    1 x expected a polygon of at least # points"
    assert lines[6] == f"      {report.left_out[0]}"


@pytest.mark.parametrize(
    "bbox", [[150, 50, 190, 90], [10, 50, 40, 40]], ids=["corners instead of sizes", "of another object"]
)
def test_box_far_from_its_mask_is_doubtful(tmp_path, bbox):
    document = make_document()
    document["annotations"][3]["bbox"] = bbox
    document["annotations"][0]["bbox"] = [18, 19, 23, 21]  # roughly right
    report = check_dataset(*write(tmp_path, document))
    assert report.problems == []
    assert [problem.where for problem in report.doubtful] == ["annotation 4 (image 2)"]
    assert "corners [150.0, 50.0, 190.0, 90.0]" in report.doubtful[0].expected
    assert "boxes that do not fit their masks: 1" in str(report)


def test_mask_without_pixels_is_doubtful(tmp_path):
    document = make_document()
    document["annotations"][3]["segmentation"] = {"size": list(HW), "counts": [HW[0] * HW[1]]}
    assert [problem.where for problem in check_dataset(*write(tmp_path, document)).doubtful] == [
        "annotation 4 (image 2)"
    ]


def test_pictures_of_an_earlier_check_are_removed_and_nothing_else(tmp_path):
    document = make_document()
    path, images = write(tmp_path, document)
    out = tmp_path / "check"
    check_dataset(path, images, out=out)
    (out / "9.jpg").write_bytes(b"of the user")
    document["images"] = document["images"][:1]
    document["annotations"] = document["annotations"][:3]
    path.write_text(json.dumps(document))
    assert check_dataset(path, images, out=out).pictures == ["1.jpg"]
    assert sorted(path.name for path in out.glob("*.jpg")) == ["1.jpg", "9.jpg"]
    path.write_text("{")
    check_dataset(path, images, out=out)
    assert sorted(path.name for path in out.glob("*.jpg")) == ["9.jpg"]


@pytest.mark.parametrize("names", [["../my.jpg", 3, "my.json"], "my.jpg", None])
def test_a_report_that_names_other_files_removes_none(tmp_path, names):
    path, images = write(tmp_path, make_document())
    out = tmp_path / "check"
    out.mkdir()
    (out / "report.json").write_text(json.dumps({"pictures": names}))
    for file in (tmp_path / "my.jpg", out / "my.json"):
        file.write_bytes(b"of the user")
    check_dataset(path, images, out=out)
    assert (tmp_path / "my.jpg").exists() and (out / "my.json").exists()


def test_report_and_pictures(tmp_path):
    path, images = write(tmp_path, make_document())
    out = tmp_path / "deep" / "check"
    report = check_dataset(path, images, out=out)
    saved = json.loads((out / "report.json").read_text())
    assert saved["objects"] == 5
    assert saved["collision_share"] == 0.25
    assert set(saved) == set(report.__dataclass_fields__)
    assert str(report).endswith(f"  pictures: {out}/   report: {out}/report.json")
    assert sorted(path.name for path in out.glob("*.jpg")) == ["1.jpg", "2.jpg", "3.jpg"]
    assert not np.array_equal(read_image(out / "2.jpg"), read_image(images / "2.png"))


@pytest.mark.parametrize("name", ["coco_tiny", "coco_train"])
def test_real_photos(request, name, tmp_path):
    folder = request.getfixturevalue(name)
    path = folder / "annotations" / "instances.json"
    report = check_dataset(path, folder / "images", out=tmp_path)
    assert (report.problems, report.left_out, report.doubtful) == ([], [], [])
    document = json.loads(path.read_bytes())
    single = [annotation for annotation in document["annotations"] if not annotation["iscrowd"]]
    sizes = {image["id"]: max(image["height"], image["width"]) for image in document["images"]}
    small = sum(
        math.sqrt(annotation["bbox"][2] * annotation["bbox"][3]) * 512 / sizes[annotation["image_id"]] < 8
        for annotation in single
    )
    assert report.small_share == pytest.approx(small / len(single), abs=0.004)  # sides round to whole pixels
    assert report.objects == len(document["annotations"])
    assert sum(report.objects_per_class.values()) == len(single)
    assert len(list(tmp_path.glob("*.jpg"))) >= min(15, len(document["images"]) - 1)


def test_real_microscopy(nuclei_train):
    report = check_dataset(nuclei_train / "annotations" / "instances.json", nuclei_train / "images")
    assert (report.problems, report.left_out, report.doubtful) == ([], [], [])
    assert (report.images, report.objects, report.classes) == (504, 21_218, 1)
