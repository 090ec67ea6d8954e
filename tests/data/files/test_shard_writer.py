"""Shards hold every image file byte for byte, whatever their number and size, and are there whole or not at all."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from centermask_keras.data.files import shard_writer
from centermask_keras.data.files.shard_writer import write_shards
from centermask_keras.data.files.shards import ImageShards
from centermask_keras.data.files.storage import ImageFolder, open_images
from centermask_keras.errors import CenterMaskError, ImageError


def make_dataset(folder: Path, contents: dict[str, bytes]) -> SimpleNamespace:
    """Write files; their contents are no images, which the writer does not look at."""
    for name, content in contents.items():
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "my.json").write_text('{"any": "text"}')
    sides = np.arange(2 * len(contents), dtype=np.int32).reshape(-1, 2)
    return SimpleNamespace(
        path=folder / "my.json", storage=ImageFolder(folder / "photos"), file_names=list(contents), image_hw=sides
    )


@pytest.fixture
def dataset(tmp_path):
    return make_dataset(tmp_path, {f"{i}.jpg": bytes([i]) * 100 for i in range(5)})


@settings(max_examples=40)
@given(
    contents=st.lists(st.binary(max_size=60), max_size=12),
    shard_bytes=st.integers(1, 300),
    folders=st.sampled_from(["", "train2017/", "a b/"]),
)
def test_any_files_come_back_from_shards_of_any_size(contents, shard_bytes, folders):
    files = {f"{folders}{number}ü.jpg": content for number, content in enumerate(contents)}
    with tempfile.TemporaryDirectory() as folder:
        dataset, out = make_dataset(Path(folder), files), Path(folder) / "shards"
        calls = []
        written = write_shards(dataset, out, shard_bytes=shard_bytes, progress=lambda *counts: calls.append(counts))
        shards = ImageShards(out)
        assert {name: shards.file(name).read_bytes() for name in files} == files
        assert [shards.hw(name) for name in files] == list(map(tuple, dataset.image_hw.tolist()))
        assert not shards.find_faults(out / "annotations.json", list(files))
        assert (out / "annotations.json").read_bytes() == dataset.path.read_bytes()
        assert calls == [(done + 1, len(files)) for done in range(len(files))]

        paths = sorted(out.glob("*.tfrecord"))
        # TensorFlow's own reader, which holds every record against its checksum.
        records = [[record.numpy() for record in tf.data.TFRecordDataset([str(path)])] for path in paths]
        assert sum(records, []) == contents
        assert all(record for record in records)
        sizes = [path.stat().st_size for path in paths]
        assert all(size >= shard_bytes for size in sizes[:-1])
        assert all(
            size - len(record[-1]) - 16 < shard_bytes for size, record in zip(sizes, records, strict=True)
        )  # none was full before its last image
        assert (written.images, written.image_bytes, written.shards) == (
            len(files),
            sum(map(len, contents)),
            len(paths),
        )
        assert written.total_bytes == sum(path.stat().st_size for path in out.iterdir())
        assert {path.name for path in Path(folder).iterdir()} <= {"shards", "photos", "my.json"}


def test_a_file_of_several_records_is_written_once(dataset, tmp_path):
    dataset.file_names[3] = dataset.file_names[1]
    assert write_shards(dataset, tmp_path / "out").images == 4


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_run_leaves_nothing(dataset, tmp_path, stop):
    def interrupt(done, total):
        if done == 3:
            raise stop

    with pytest.raises(stop):
        write_shards(dataset, tmp_path / "out", shard_bytes=150, progress=interrupt)
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "my.json"}


def test_what_a_killed_run_has_left_is_replaced(dataset, tmp_path):
    left = tmp_path / "partial.out"
    left.mkdir()
    (left / "images-00000.tfrecord").write_bytes(b"half")
    (left / "images-00009.tfrecord").write_bytes(b"of another size")
    assert write_shards(dataset, tmp_path / "out").shards == 1
    assert not left.exists()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "images-00000.tfrecord",
        "annotations.json",
        "shards.json",
    }


KILLED = """
import os, signal, sys
from pathlib import Path
from test_shard_writer import make_dataset
from centermask_keras.data.files.shard_writer import write_shards

folder = Path(sys.argv[1])
dataset = make_dataset(folder, {f"{i}.jpg": bytes([i]) * 100 for i in range(5)})
kill = lambda done, total: done == 3 and os.kill(os.getpid(), signal.SIGKILL)
write_shards(dataset, folder / "out", shard_bytes=150, progress=kill)
"""


def test_a_killed_run_leaves_nothing_that_looks_finished(tmp_path):
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[3])])
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "my.json", "partial.out"}
    (problem,) = open_images(tmp_path / "partial.out").find_faults(tmp_path / "my.json", ["0.jpg"])
    assert "expected the index of the shards, received no such file" in str(problem)


@pytest.mark.parametrize("name", ["out", "partial.out"])
def test_folders_of_others_are_left_alone(dataset, tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "notes.txt").write_text("mine")
    with pytest.raises(CenterMaskError, match=rf"{name}: expected no folder of this name.*, received notes.txt\. Name"):
        write_shards(dataset, tmp_path / "out")
    assert (tmp_path / name / "notes.txt").read_text() == "mine"


def test_shards_are_not_written_over_shards_nor_over_a_file(dataset, tmp_path):
    (tmp_path / "out").mkdir()  # empty: taken
    write_shards(dataset, tmp_path / "out")
    before = (tmp_path / "out" / "shards.json").read_bytes()
    with pytest.raises(CenterMaskError, match="received annotations.json"):
        write_shards(dataset, tmp_path / "out")
    assert (tmp_path / "out" / "shards.json").read_bytes() == before
    with pytest.raises(CenterMaskError, match="received my.json"):
        write_shards(dataset, tmp_path / "my.json")


def test_a_file_that_has_gone_is_named(dataset, tmp_path):
    (tmp_path / "photos" / "4.jpg").unlink()
    with pytest.raises(ImageError, match=r"4\.jpg: expected a readable image, received: no such file"):
        write_shards(dataset, tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize("limit", [50, 1000, 5000])
def test_a_disk_that_takes_no_more_is_a_clear_error(tmp_path, limit):
    """A limit on the size of files stands for a full disk: the same calls fail, in a shard or in the index."""
    dataset = make_dataset(tmp_path, {f"{i}.jpg": bytes([i]) for i in range(40)})  # a shard of 680 bytes
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        if limit < 5000:
            with pytest.raises(CenterMaskError, match="out: expected to write shards, received: .*File too large"):
                write_shards(dataset, tmp_path / "out")
            assert not list(tmp_path.glob("*out*"))
        else:
            write_shards(dataset, tmp_path / "out")
            assert (tmp_path / "out" / "shards.json").stat().st_size > 1000
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_everything_is_on_the_disk_before_the_folder_has_its_name(dataset, tmp_path, monkeypatch):
    events = []
    flush, replace = shard_writer.flush, shard_writer.os.replace
    monkeypatch.setattr(shard_writer, "flush", lambda path: (events.append(path.name), flush(path)))
    monkeypatch.setattr(shard_writer.os, "replace", lambda *paths: (events.append("renamed"), replace(*paths)))
    write_shards(dataset, tmp_path / "out")
    files = {"images-00000.tfrecord", "annotations.json", "shards.json"}
    assert set(events[:3]) == files and events[3:] == ["partial.out", "renamed", tmp_path.name]


def test_folders_that_cannot_be_flushed_are_no_fault(dataset, tmp_path, monkeypatch):
    flush = shard_writer.flush

    def refuse_folders(path):
        if path.is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
        flush(path)

    monkeypatch.setattr(shard_writer, "flush", refuse_folders)
    write_shards(dataset, tmp_path / "out")
    assert ImageShards(tmp_path / "out").file("4.jpg").read_bytes() == bytes([4]) * 100


def test_shards_can_be_written_from_shards(dataset, tmp_path):
    write_shards(dataset, tmp_path / "first", shard_bytes=150)
    dataset.storage = ImageShards(tmp_path / "first")
    write_shards(dataset, tmp_path / "second", shard_bytes=300)
    first, second = (json.loads((tmp_path / name / "shards.json").read_text()) for name in ("first", "second"))
    assert first["images"]["crc32"] == second["images"]["crc32"]
    assert len(first["shard_bytes"]) > len(second["shard_bytes"])
    shutil.rmtree(tmp_path / "first")
    assert ImageShards(tmp_path / "second").file("2.jpg").read_bytes() == bytes([2]) * 100
