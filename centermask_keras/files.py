"""Files that are there whole or not at all.

A file is written beside its place, flushed to the disk, then renamed, so that a process killed at any
moment leaves the old file or the new one, never half of one.
"""

import errno
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from centermask_keras.errors import CenterMaskError

PARTIAL = "partial.{name}"  # a prefix, because Keras insists on the ending of a weights file
DIGEST = "{digest}"
HDF5_REASON = re.compile(r"errno = \d+, error message = '([^']*)'")  # in its own errors, some of them RuntimeErrors
FULL = {os.strerror(number) for number in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))}
DIGEST_LENGTH = 16  # hexadecimal digits: 64 bits, enough against damage


def write_file(folder: Path, name: str, write: Callable[[Path], Any]) -> Path:
    """Write a file of a folder in one step and return its path.

    Args:
        folder: where it goes.
        name: its name; `{digest}` in it becomes the digest of its content, so that the rename publishes both at once.
        write: writes the path it is given.

    Raises:
        CenterMaskError: the disk is full, or cannot be written; what was there before is left as it was.
    """
    partial = folder / PARTIAL.format(name=name.replace(DIGEST, "new"))
    try:
        write(partial)
        flush(partial)
        path = folder / (name.replace(DIGEST, digest_of(partial)) if DIGEST in name else name)
        os.replace(partial, path)
        flush(folder)
    except (OSError, RuntimeError) as error:  # h5py raises the latter where a file cannot be closed
        reason = _reason(error)
        if reason is None:
            raise
        partial.unlink(missing_ok=True)
        full = reason in FULL
        raise CenterMaskError(
            f"{folder / name.replace(DIGEST, '*')}: expected to write it, received: {reason}. The last saved state is "
            f"kept; {'make room' if full else 'put that right'}, and the same command continues"
        ) from None
    return path


def check_room(path: Path, size: int) -> None:
    """Find out whether a disk has room for a file of `size` bytes, by writing one; OSError where it has not.

    For files that HDF5 writes in its place: where the disk fills up under HDF5, the process crashes at its end.
    """
    block = bytes(1 << 20)
    with path.open("wb", buffering=0) as file:
        for start in range(0, size, len(block)):
            left = memoryview(block)[: size - start]
            while left:  # a full disk takes a part before it refuses
                left = left[file.write(left) :]
        os.fsync(file.fileno())  # some disks refuse only then


def digest_of(path: Path) -> str:
    """Return the first digits of a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGEST_LENGTH]


def flush(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    if path.is_dir() and os.name == "nt":
        return  # has no way to
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some file systems of networks cannot flush a folder
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str | None:
    """Say what the system refused; None if the error is none of the system's."""
    by_hdf5 = HDF5_REASON.search(str(error))
    if by_hdf5:
        return by_hdf5[1]
    if isinstance(error, OSError):
        return error.strerror or str(error).splitlines()[0]
    return None
