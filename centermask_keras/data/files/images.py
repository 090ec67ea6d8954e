"""Image files -> RGB arrays, in the orientation that a viewer shows.

Stage: data. One home for decoding: training, evaluation, prediction and `data check` all read images here.
Files that end early are errors, never images with a grey rest.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image

from centermask_keras._cv2 import cv2
from centermask_keras.data.files.names import explain_missing
from centermask_keras.errors import ImageError

if TYPE_CHECKING:
    from centermask_keras.data.files.shards import ImageFile

_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap height and width


def read_image(file: str | ImageFile) -> np.ndarray:
    """Read an image file.

    Args:
        file: JPEG, PNG (8 or 16 bits), BMP or WebP file; grey, palette, RGB, RGBA or CMYK.

    Returns:
        uint8 [H, W, 3], RGB, EXIF orientation applied. Of 16 bits the upper 8 are kept; alpha is left out, not blended.

    Raises:
        ImageError: no such file, another format, truncated or corrupt.
    """
    try:
        data = (Path(file) if isinstance(file, str) else file).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise ImageError(file, _reason(error, file)) from error
    return decode_image(data, file)


def decode_image(data: bytes, name: str | ImageFile) -> np.ndarray:
    """Decode the bytes of an image file, as `read_image` does.

    Args:
        data: the content of the file.
        name: what errors call it.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        ImageError: another format, truncated or corrupt.
    """
    # Decoders differ: some fill the missing part of a truncated file with grey and only print a warning.
    file_format = _detect_format(data, name)
    if _is_truncated(data, file_format):
        raise ImageError(name, f"premature end of {file_format}")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise ImageError(name, f"{file_format} refused by the decoder: {' '.join(str(error).split())}") from error
    if image is None:
        raise ImageError(name, f"corrupt {file_format}")
    return image


def image_header(path: str | Path) -> tuple[int, int]:
    """Read the size of an image from its header, without decoding it.

    Args:
        path: a file of a format that `read_image` takes.

    Returns:
        (height, width) of what `read_image` returns: EXIF orientation applied.

    Raises:
        ImageError: no such file, another format, or a corrupt header.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            sideways = _orientation(image) in _SIDEWAYS
    except Image.UnidentifiedImageError as error:
        with open(path, "rb") as file:
            _detect_format(file.read(32), path)
        raise ImageError(path, "corrupt header") from error
    except OSError as error:
        raise ImageError(path, _reason(error, path)) from error
    except (SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow's parsers raise
        raise ImageError(path, f"corrupt header: {error}") from error
    return (width, height) if sideways else (height, width)


def _orientation(image: Image.Image) -> int:
    # Not image.getexif(): for a PNG without EXIF it decodes all pixels in search of one.
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif"))
        return exif.get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, ValueError, OSError):  # damaged EXIF is ignored, as decoders do
        return 1


def _detect_format(data: bytes, name: str | ImageFile) -> str:
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"BM"):
        return "BMP"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    found = f"a file that starts with {data[:8]!r}" if data else "an empty file"
    raise ImageError(name, found, expected="a JPEG, PNG, BMP or WebP image")


def _is_truncated(data: bytes, file_format: str) -> bool:
    if file_format == "JPEG":
        # Start from the pixel data: EXIF may hold a thumbnail with an end marker of its own.
        return data.rfind(b"\xff\xd9", _find_jpeg_scan(data)) < 0
    if file_format == "PNG":
        end = data.rfind(b"IEND")  # of the last chunk, and 4 bytes of checksum
        return end < 0 or len(data) < end + 8
    if file_format == "WebP":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    return False  # the size in a BMP header is unreliable; the decoder refuses those that end early


def _find_jpeg_scan(data: bytes) -> int:
    """Return where the first start-of-scan marker is, or the end of the data."""
    position = data.find(b"\xff", 2)
    while 0 <= position < len(data) - 3:
        if data[position + 1] == 0xDA:
            return position
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        is_fill = data[position + 1] == 0xFF
        position = data.find(b"\xff", position + (1 if is_fill else 2 + length))
    return len(data)


def _reason(error: OSError | ValueError, file: str | ImageFile) -> str:
    strerror = getattr(error, "strerror", None)
    reason = strerror.lower() if strerror else str(error)
    difference = explain_missing(str(file)) if isinstance(error, FileNotFoundError) else None
    return f"{reason}; {difference}" if difference else reason
