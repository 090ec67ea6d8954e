"""Whole files or none, on a disk that is full as well."""

import errno
import hashlib
import os
import stat

import keras
import pytest

from centermask_keras.errors import CenterMaskError
from centermask_keras.files import check_room, write_file
from centermask_keras.training import run_folder
from centermask_keras.training.run_folder import RunFolder


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def test_a_digest_in_a_name_is_that_of_the_content(tmp_path):
    path = write_file(tmp_path, "a_{digest}.bin", lambda partial: partial.write_bytes(b"content"))
    assert path.name == f"a_{hashlib.sha256(b'content').hexdigest()[:16]}.bin"
    assert names_in(tmp_path) == {path.name}


HDF5 = "Can't close (errno = 28, error message = 'No space left on device', offset = 0)"


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), OSError(HDF5), RuntimeError(HDF5)], ids=repr
)
def test_what_the_system_refuses_leaves_the_old_file(tmp_path, error):
    (tmp_path / "a.bin").write_bytes(b"old")

    def write(partial):
        partial.write_bytes(b"half")
        raise error

    with pytest.raises(
        CenterMaskError,
        match=r"a\.bin: expected to write it, received: No space left on device\. .*; make room, and the same",
    ):
        write_file(tmp_path, "a.bin", write)
    assert names_in(tmp_path) == {"a.bin"} and (tmp_path / "a.bin").read_bytes() == b"old"


def test_other_errors_come_through(tmp_path):
    def write(partial):
        raise RuntimeError("a fault in the code")

    with pytest.raises(RuntimeError, match="a fault in the code"):
        write_file(tmp_path, "a.bin", write)


def test_weights_on_a_full_disk_never_reach_hdf5(small_disk, monkeypatch):
    """Where a disk fills up under HDF5, the process crashes at its end."""
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(8192)])  # 2 MB on a disk of 1 MB
    monkeypatch.setattr(model, "save_weights", lambda path: pytest.fail("HDF5 was called"))
    with pytest.raises(CenterMaskError, match=r"a\.weights\.h5: expected to write it, received: No space left"):
        RunFolder(small_disk).save_weights(model, "a.weights.h5")
    assert names_in(small_disk) == set()


@pytest.mark.parametrize("size", [0, 5, 1 << 20, (5 << 20) + 7])
def test_room_is_looked_for_by_writing_it_to_the_disk(tmp_path, size, monkeypatch):
    """Some disks refuse only what is flushed."""
    flushed, sync = [], os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: (flushed.append(os.fstat(descriptor).st_size), sync(descriptor))
    )
    check_room(tmp_path / "a", size)
    assert flushed == [size]


def test_room_is_looked_for_by_the_chief_alone_and_without_a_copy_of_the_weights(tmp_path, monkeypatch):
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
    sizes = []
    monkeypatch.setattr(model, "get_weights", lambda: pytest.fail("the weights were copied"))
    monkeypatch.setattr(run_folder, "check_room", lambda path, size: sizes.append(size))
    RunFolder(tmp_path, read_only=True).save_weights(model, "a.weights.h5")
    assert sizes == []
    RunFolder(tmp_path).save_weights(model, "a.weights.h5")
    assert sizes == [2 * run_folder.HDF5_OVERHEAD + 4 * (64 * 10 + 10)]


def test_files_are_on_the_disk_before_their_names(tmp_path, monkeypatch):
    calls = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append("flush"), sync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("rename"), replace(*paths)))
    write_file(tmp_path, "a.bin", lambda partial: partial.write_bytes(b"content"))
    assert calls == ["flush", "rename", "flush"]


def test_only_a_full_disk_needs_room(tmp_path):
    def write(partial):
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.raises(CenterMaskError, match=r"received: Permission denied\. ") as error:
        write_file(tmp_path, "a.bin", write)
    assert "make room" not in str(error.value)


def test_a_folder_that_cannot_be_flushed_is_left_at_that(tmp_path, monkeypatch):
    """Some file systems of networks have no such thing; the file is in its place."""
    sync = os.fsync

    def refuse_folders(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    path = write_file(tmp_path, "a.bin", lambda partial: partial.write_bytes(b"content"))
    assert path.read_bytes() == b"content"
