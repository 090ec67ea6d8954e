"""PNGs of masks: instance ids, one file per object, Pascal VOC."""

import numpy as np
import pytest
from PIL import Image

from centermask_keras.convert import id_maps, object_masks, voc
from centermask_keras.convert.formats import recognise
from centermask_keras.masks import rle_to_bitmap

IDS = np.zeros((48, 64), np.uint16)
IDS[5:20, 5:20], IDS[10:14, 9:13], IDS[30:40, 50:64] = 1, 0, 1  # a hole, and two parts
IDS[25:28, 10:30], IDS[28:31, 10:30] = 700, 2  # neighbours that touch


def save(path, values, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def bitmaps(document):
    return [rle_to_bitmap(row["segmentation"]) for row in document["annotations"]]


@pytest.mark.parametrize("form", ["16 bits", "8 bits", "palette", "colours"])
def test_instance_ids_are_pixel_for_pixel(tmp_path, photo, converted, form):
    photo(tmp_path / "set" / "images" / "a.jpg")
    values = IDS if form in ("16 bits", "colours") else np.where(IDS == 700, 7, IDS).astype(np.uint8)
    if form == "colours":
        colours = np.zeros((48, 64, 3), np.uint8)
        colours[IDS == 1], colours[IDS == 2], colours[IDS == 700] = (255, 0, 0), (0, 255, 0), (9, 9, 200)
        save(tmp_path / "set" / "masks" / "a.png", colours)
    elif form == "palette":
        image = Image.fromarray(values)
        image.putpalette(list(range(256)) * 3)
        (tmp_path / "set" / "masks").mkdir()
        image.save(tmp_path / "set" / "masks" / "a.png")
    else:
        save(tmp_path / "set" / "masks" / "a.png", values)
    assert recognise(tmp_path / "set") == "id_maps"
    _, documents = converted(tmp_path / "set")
    received = bitmaps(documents["annotations.json"])
    expected = [IDS == number for number in (1, 2, 700)]
    assert len(received) == 3 and all(any(np.array_equal(one, other) for other in expected) for one in received)
    assert documents["annotations.json"]["categories"] == [{"id": 1, "name": "object"}]


@pytest.mark.parametrize(
    ("image", "mask"),
    [("a_img.png", "a_masks.png"), ("train/images/a.jpg", "train/labels/a.png"), ("a.jpg", "a_instances.png")],
)
def test_names_that_belong_together(tmp_path, photo, image, mask):
    photo(tmp_path / image), save(tmp_path / mask, IDS), photo(tmp_path / "alone.jpg")
    source = id_maps.read(tmp_path)
    assert not source.problems and len(source.images[0].objects) == 3
    assert source.notes == ["images without a PNG of object numbers are left out: 1"]


def test_a_mask_of_another_size_is_refused_before_it_is_decoded(tmp_path, photo):
    photo(tmp_path / "images" / "a.jpg"), save(tmp_path / "masks" / "a.png", IDS.T.copy())
    (problem,) = id_maps.read(tmp_path).problems
    assert problem.expected == "width 64, height 48 as its image has" and problem.received == "width 48, height 64"
    (tmp_path / "masks" / "a.png").write_bytes(b"no PNG")
    assert id_maps.read(tmp_path).problems[0].expected == "a PNG of numbers"


@pytest.mark.parametrize("layout", ["bowl", "folders"])
def test_one_mask_per_object(tmp_path, photo, converted, layout):
    image, masks = {"bowl": ("ab12/images/ab12.png", "ab12/masks"), "folders": ("images/x.jpg", "masks/x")}[layout]
    photo(tmp_path / "set" / image)
    for number in (1, 2, 700):
        save(tmp_path / "set" / masks / f"m{number:03}.png", np.where(IDS == number, 255, 0).astype(np.uint8))
    save(tmp_path / "set" / masks / "m900.png", np.zeros((48, 64), np.uint8))
    assert recognise(tmp_path / "set") == "object_masks"
    result, documents = converted(tmp_path / "set", classes={"object": "nucleus"})
    for received, number in zip(bitmaps(documents["annotations.json"]), (1, 2, 700), strict=True):
        np.testing.assert_array_equal(received, IDS == number)
    assert result.lost[str(tmp_path / "set")] == {"empty masks": 1} and result.classes == {"nucleus": 3}


def test_object_masks_at_fault_are_named(tmp_path, photo):
    photo(tmp_path / "images" / "x.jpg"), save(tmp_path / "masks" / "x" / "1.png", IDS[:5])
    (problem,) = object_masks.read(tmp_path).problems
    assert problem.file.endswith("1.png")


def make_voc(folder, photo, classes):
    photo(folder / "JPEGImages" / "a.jpg")
    ids = np.where(IDS == 700, 3, IDS).astype(np.uint8)
    ids[24] = 255
    save(folder / "SegmentationObject" / "a.png", ids)
    save(folder / "SegmentationClass" / "a.png", classes)
    (folder / "ImageSets" / "Segmentation").mkdir(parents=True)
    (folder / "ImageSets" / "Segmentation" / "val.txt").write_text("a\n")


def test_voc_has_objects_classes_and_parts(tmp_path, photo, converted):
    classes = np.select([IDS == 1, IDS > 0], [8, 15], 0).astype(np.uint8)
    classes[24] = 255
    make_voc(tmp_path / "set" / "VOC2012", photo, classes)
    assert recognise(tmp_path / "set") == "voc"
    result, documents = converted(tmp_path / "set")
    assert result.classes == {"cat": 1, "person": 2}
    for received, number in zip(bitmaps(documents["val.json"]), (1, 2, 700), strict=True):
        np.testing.assert_array_equal(received, IDS == number)


def test_voc_with_a_map_of_labels(tmp_path, photo, converted):
    classes = np.zeros((48, 64, 3), np.uint8)
    classes[IDS > 0] = (128, 0, 0)
    make_voc(tmp_path / "set", photo, classes)
    (tmp_path / "set" / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nbolt:128,0,0::\n"
    )
    assert converted(tmp_path / "set")[0].classes == {"bolt": 3}
    assert voc.read(tmp_path / "set").class_names
