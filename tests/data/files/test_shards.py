"""Samples from shards are those of the image files, bit for bit; shards that are not whole, or of others, are told.

Oracle: the same dataset as a folder of image files.
"""

import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import lvis_case
import pytest
from batches import assert_same_batches, take_batches

from centermask_keras.config import load_config
from centermask_keras.data.feeding.pipeline import iterate_eval_batches
from centermask_keras.data.feeding.rows import Share
from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.data.files.shard_writer import write_shards
from centermask_keras.data.files.shards import ImageShards
from centermask_keras.data.samples.sample import SampleCounters
from centermask_keras.errors import DataError, ImageError
from centermask_keras.evaluation.data_check import check_dataset

CONFIGS = Path(__file__).parents[3] / "configs"
SHARD_BYTES = 500_000  # about 3 of the 16 photos
SMALL = ("train.batch_size=4",)
SQUARE = "data.input_hw=[96, 96]"


def load(annotations: Path, images: Path):
    return load_annotations(annotations, images, require_annotations=False)


@pytest.fixture(scope="module")
def plain(coco_tiny):
    return load(coco_tiny / "annotations" / "instances.json", coco_tiny / "images")


@pytest.fixture(scope="module")
def folder(plain, tmp_path_factory):
    out = tmp_path_factory.mktemp("sets") / "shards"
    assert write_shards(plain, out, shard_bytes=SHARD_BYTES).shards > 3
    return out


@pytest.fixture
def copied(folder, tmp_path):
    """Shards to damage."""
    return Path(shutil.copytree(folder, tmp_path / "shards"))


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("dla34", [SQUARE]),
        ("dla34", [SQUARE, "train.seed=5"]),
        ("nuclei", [SQUARE]),
        ("fcos_resnet101", ["data.input_hw=[128, 128]", "data.multi_scale_hw=[[128, 160], [128, 128]]"]),
    ],
)
def test_training_samples_of_three_epochs_are_those_of_image_files(plain, folder, name, overrides):
    config = load_config(CONFIGS / f"{name}.json", [*SMALL, *overrides])
    shards = load(folder / "annotations.json", folder)
    expected = take_batches(config, plain, 12)
    assert len({int(image) for batch in expected for image in batch["image_id"]}) == 16
    assert_same_batches(take_batches(config, shards, 12), expected)
    assert_same_batches(take_batches(config, shards, 3, start=9), expected[9:])  # as after a resume


@pytest.mark.parametrize("worker", [0, 1])
def test_shares_of_workers_are_those_of_image_files(plain, folder, worker):
    config, share = load_config(CONFIGS / "dla34.json", [*SMALL, SQUARE]), Share(worker, 2, 4)
    shards = load(folder / "annotations.json", folder)
    assert_same_batches(
        take_batches(config, shards, 8, start=2, share=share), take_batches(config, plain, 8, start=2, share=share)
    )


@pytest.mark.parametrize("resize", ["letterbox", "keep"])
def test_images_to_evaluate_are_those_of_image_files(plain, folder, resize):
    config = load_config(CONFIGS / "dla34.json", [SQUARE, f"eval.resize={resize}", "eval.batch_size=1"])
    shards = load(folder / "annotations.json", folder)
    assert_same_batches(list(iterate_eval_batches(config, shards)), list(iterate_eval_batches(config, plain)))


@pytest.mark.parametrize(("version", "below"), [("1.0", "."), ("0.5", "images")])
def test_lvis_is_read_from_shards(coco_tiny, tmp_path, version, below):
    """The names of 1.0 begin with a folder; and annotations from elsewhere may be of the same images."""
    document = json.loads((coco_tiny / "annotations" / "instances.json").read_text())
    document["annotations"] = [row for row in document["annotations"] if not row["iscrowd"]]
    (tmp_path / "lvis.json").write_text(json.dumps(lvis_case.as_lvis(document, version=version)))
    plain = load(tmp_path / "lvis.json", coco_tiny / below)
    write_shards(plain, tmp_path / "out")
    config = load_config(CONFIGS / "dla34.json", [*SMALL, SQUARE])
    expected = take_batches(config, plain, 5)
    for annotations in (tmp_path / "out" / "annotations.json", tmp_path / "lvis.json"):
        assert_same_batches(take_batches(config, load(annotations, tmp_path / "out"), 5), expected)


def test_files_that_do_not_decode_are_skipped_as_in_a_folder(coco_tiny, tmp_path):
    shutil.copytree(coco_tiny / "images", tmp_path / "images")
    cut = sorted((tmp_path / "images").iterdir())[5]
    cut.chmod(0o600)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    plain = load(coco_tiny / "annotations" / "instances.json", tmp_path / "images")
    write_shards(plain, tmp_path / "out")
    shards = load(tmp_path / "out" / "annotations.json", tmp_path / "out")
    config = load_config(CONFIGS / "dla34.json", [*SMALL, SQUARE, "data.on_error=skip"])
    counters = SampleCounters()
    assert_same_batches(take_batches(config, shards, 8, counters=counters), take_batches(config, plain, 8))
    assert list(counters.skipped) == [f"{tmp_path / 'out' / 'images-00000.tfrecord'} ({cut.name})"]


def test_a_check_finds_in_shards_what_it_finds_in_a_folder(plain, folder, tmp_path):
    found = check_dataset(folder / "annotations.json", folder, out=tmp_path / "shards")
    expected = check_dataset(plain.path, plain.storage.path, out=tmp_path / "plain")
    assert asdict(found) | {"out": expected.out} == asdict(expected)
    pictures = {path.name: path.read_bytes() for path in (tmp_path / "plain").glob("*.jpg")}
    assert len(pictures) == 15  # one has no objects
    assert {path.name: path.read_bytes() for path in (tmp_path / "shards").glob("*.jpg")} == pictures


def test_many_threads_read_the_right_images(plain, folder):
    shards = ImageShards(folder)
    expected = [plain.image_file(index).read_bytes() for index in range(16)]
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda index: shards.file(plain.file_names[index % 16]).read_bytes(), range(400))
        assert all(content == expected[index % 16] for index, content in enumerate(found))
    assert len(shards._opened) == len(shards.sizes)  # however many threads: each file once


def test_files_are_closed_with_the_shards(plain, folder):
    shards = ImageShards(folder)
    shards.file(plain.file_names[0]).read_bytes()
    (descriptor,) = shards._opened.values()
    assert Path(f"/proc/self/fd/{descriptor}").exists() or not Path("/proc/self/fd").exists()
    del shards
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def faults(folder: Path, annotations: Path | None = None) -> str:
    with pytest.raises(DataError) as caught:
        load(annotations or folder / "annotations.json", folder)
    return str(caught.value)


def test_a_missing_and_a_truncated_shard_are_told_before_anything_is_read(copied):
    missing, truncated = (copied / f"images-0000{number}.tfrecord" for number in (1, 2))
    size = truncated.stat().st_size
    missing.unlink()
    truncated.write_bytes(truncated.read_bytes()[:-1])
    text = faults(copied)
    assert re.search(
        r"images-00001.tfrecord: expected a shard of [\d,]+ bytes, as in shards.json, received no such", text
    )
    assert (
        f"{truncated}: expected a shard of {size:,} bytes, as in shards.json, received {size - 1:,} bytes. Copy" in text
    )
    assert "2 problems" in text and "write the shards anew with `centermask data shard`" in text
    report = check_dataset(copied / "annotations.json", copied)
    assert len(report.problems) == 2 and report.images == 16


def test_shards_damaged_later_are_told_by_image(copied, plain):
    shards = load(copied / "annotations.json", copied)
    config = load_config(CONFIGS / "dla34.json", [SQUARE])
    shard = copied / "images-00000.tfrecord"
    content = bytearray(shard.read_bytes())
    content[5000] ^= 1
    shard.write_bytes(content)
    place = re.escape(f"{shard} ({plain.file_names[0]}) (image id {plain.image_ids[0]})")
    with pytest.raises(
        ImageError, match=rf"{place}: expected [\d,]+ bytes from byte 12 on.*, received: other bytes\. Co"
    ):
        list(iterate_eval_batches(config, shards))
    shard.write_bytes(content[:5000])
    # Of several images that are cut off, whichever a thread comes to first.
    with pytest.raises(ImageError, match=r"received: (0|4,988) bytes before the shard ends"):
        list(iterate_eval_batches(config, shards))
    shard.unlink()
    with pytest.raises(ImageError, match=r"expected a readable shard, received: no such file or directory\. Copy it"):
        list(iterate_eval_batches(config, replace(shards, storage=ImageShards(copied))))
    assert len(check_dataset(copied / "annotations.json", copied).problems) == 1


def test_images_that_are_not_in_the_shards_are_named(copied, tmp_path):
    document = json.loads((copied / "annotations.json").read_text())
    document["images"][3]["file_name"] = "another.jpg"
    (tmp_path / "changed.json").write_text(json.dumps(document))
    text = faults(copied, tmp_path / "changed.json")
    assert text.startswith(
        f"{copied / 'shards.json'} (another.jpg): image {document['images'][3]['id']}: expected an image"
    )
    assert "of instances.json, which the shards were written from" in text and "`centermask data shard`" in text
    report = check_dataset(tmp_path / "changed.json", copied)
    assert len(report.problems) == 1 and "another.jpg" in str(report.problems[0])


def test_a_part_of_the_images_may_be_annotated_elsewhere(copied, tmp_path):
    document = json.loads((copied / "annotations.json").read_text())
    document["images"] = document["images"][:4]
    ids = {row["id"] for row in document["images"]}
    document["annotations"] = [row for row in document["annotations"] if row["image_id"] in ids]
    (tmp_path / "part.json").write_text(json.dumps(document))
    assert len(load(tmp_path / "part.json", copied)) == 4


def test_annotations_of_other_shards_are_refused(copied, folder, tmp_path):
    """Also where the images have the same names and sizes, as those of generated sets."""
    text = faults(copied, folder / "annotations.json")
    assert text == (
        f"{folder / 'annotations.json'}: expected annotations of the images in {copied}, such as "
        f"{copied / 'annotations.json'}, received those of other shards: {folder}"
    )
    document = json.loads((copied / "annotations.json").read_text())
    for row in document["images"]:
        row["file_name"] = f"val_{row['file_name']}"
    (tmp_path / "val.json").write_text(json.dumps(document))
    assert "received 16 images, none of them there" in faults(copied, tmp_path / "val.json")


@pytest.mark.parametrize(
    ("change", "received"),
    [
        (lambda index: index.update(format=2), "ValueError: format 2"),
        (lambda index: index.pop("shard_bytes"), "KeyError: 'shard_bytes'"),
        (lambda index: index["images"].pop("crc32"), "KeyError: 'crc32'"),
        (lambda index: index["images"]["offset"].pop(), "ValueError: zip"),
        (lambda index: index["images"].update(length=["a"] * 16), "ValueError: invalid literal"),
        (lambda index: index.update(images=None), "TypeError"),
    ],
)
def test_an_index_of_another_form_is_refused(copied, change, received):
    path = copied / "shards.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))
    text = faults(copied)
    assert text.startswith(f"{path}: expected shards of format 1, received {received}") and "data shard`" in text
    path.write_text(json.dumps(index)[:-10])
    assert faults(copied).startswith(str(path))
    path.unlink()
    assert faults(copied).startswith(f"{path}: expected the index of the shards, received no such file")
