"""Image files inside of the graph: format, size and orientation from the header, then the pixels.

The counterpart of `data/files/images.py` in TensorFlow operations, so that a served model takes files as they are.
Numbers in headers are untrusted: everything that reads them runs under `attempt`, and no loop runs longer than
`MOST_BLOCKS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

MOST_BLOCKS = 256  # blocks of a file that are searched for EXIF; it stands in one of the first

UNKNOWN, JPEG, PNG, BMP, WEBP = range(5)

NO_IMAGE = "expected a JPEG, PNG, BMP or WebP image"
BAD_HEADER = "corrupt header"
ANIMATED = "an animated WebP: expected one picture"
OTHER_BMP = "a BMP with run lengths or of other than 8, 24 or 32 bits: save it as PNG"
BAD_PIXELS = "truncated or corrupt"


def too_large(most_pixels: int, multiple: int = 1) -> str:
    """Return the error of a file that is refused by its header."""
    return f"more than {most_pixels} pixels" + (f" in multiples of {multiple}" if multiple > 1 else "")


def read_image(contents: tf.Tensor, *, most_pixels: int, multiple: int = 1) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode an image file in the orientation that a viewer shows.

    Args:
        contents: string scalar, JPEG, PNG, BMP or WebP.
        most_pixels: larger images are refused by their header, before anything is decoded.
        multiple: height and width are rounded up to multiples of this before they are held against that.

    Returns:
        uint8 [h, w, 3], RGB; [1, 1, 3] where there is an error.
        string scalar, the error; empty if there is none.
    """
    data = tf.io.decode_raw(contents, tf.uint8)
    kind = _detect_format(contents)
    hw = attempt(lambda: _read_size(contents, data, kind), tf.zeros([2], tf.int64))
    readable = tf.reduce_min(hw) > 0
    padded = (hw + multiple - 1) // multiple * multiple
    # Divided, not multiplied: two sides of a forged header can overflow their product.
    small = readable & (padded[0] <= most_pixels // tf.maximum(padded[1], 1))
    unsupported = attempt(lambda: _find_unsupported(contents, data, kind), tf.constant(""))
    orientation = attempt(lambda: _read_orientation(data, kind), tf.ones([], tf.int64))

    def decode() -> tf.Tensor:
        with tf.control_dependencies([tf.debugging.Assert(small & tf.equal(unsupported, ""), [hw])]):
            return _turn_upright(_decode(tf.identity(contents), data, kind), orientation)

    image = attempt(decode, tf.zeros([0, 0, 3], tf.uint8))
    failed = tf.equal(tf.size(image), 0)
    error = tf.where(failed, BAD_PIXELS, "")
    error = tf.where(tf.equal(unsupported, ""), error, unsupported)
    error = tf.where(small, error, too_large(most_pixels, multiple))
    error = tf.where(readable, error, BAD_HEADER)
    error = tf.where(tf.equal(kind, UNKNOWN), NO_IMAGE, error)
    return tf.cond(failed, lambda: tf.zeros([1, 1, 3], tf.uint8), lambda: image), error


def attempt(compute: Callable[[], tf.Tensor], default: tf.Tensor) -> tf.Tensor:
    """Return what `compute` gives, or the default where one of its operations fails."""
    # A graph knows no `try`; a dataset that leaves failed elements out comes nearest to it.
    found = tf.data.Dataset.from_tensors(0).map(lambda _: compute()).ignore_errors()
    return found.concatenate(tf.data.Dataset.from_tensors(default)).take(1).get_single_element()


def _detect_format(contents: tf.Tensor) -> tf.Tensor:
    head = tf.strings.substr(tf.strings.join([contents, bytes(12)]), 0, 12)

    def starts(word: bytes, position: int = 0) -> tf.Tensor:
        return tf.equal(tf.strings.substr(head, position, len(word)), word)

    kind = tf.where(starts(b"\xff\xd8\xff"), JPEG, UNKNOWN)
    kind = tf.where(starts(b"\x89PNG\r\n\x1a\n"), PNG, kind)
    kind = tf.where(starts(b"BM"), BMP, kind)
    return tf.where(starts(b"RIFF") & starts(b"WEBP", 8), WEBP, kind)


def _number(data: tf.Tensor, position: Any, count: int, *, little: Any = False) -> tf.Tensor:
    """Read an unsigned number of `count` bytes, int64; fails beyond the end of the data."""
    digits = tf.cast(tf.reshape(data[position : position + count], [count]), tf.int64)
    digits = tf.where(little, digits, digits[::-1])
    return tf.reduce_sum(digits * tf.constant([256**i for i in range(count)], tf.int64))


def _read_size(contents: tf.Tensor, data: tf.Tensor, kind: tf.Tensor) -> tf.Tensor:
    """Read height and width from the header, int64 [2]; zeros of an unknown format."""

    def bmp() -> tf.Tensor:
        height = _number(data, 22, 4, little=True)  # signed: a negative one stores the rows from the top
        return tf.stack([tf.minimum(height, (1 << 32) - height), _number(data, 18, 4, little=True)])

    def webp() -> tf.Tensor:
        lossless = _number(data, 21, 4, little=True)
        extended = tf.stack([_number(data, 27, 3, little=True), _number(data, 24, 3, little=True)]) + 1
        simple = tf.stack([_number(data, 28, 2, little=True), _number(data, 26, 2, little=True)]) % (1 << 14)
        name = tf.strings.substr(contents, 12, 4)
        size = tf.where(tf.equal(name, b"VP8L"), tf.stack([lossless // (1 << 14), lossless]) % (1 << 14) + 1, simple)
        return tf.where(tf.equal(name, b"VP8X"), extended, size)

    cases = {
        JPEG: lambda: tf.image.extract_jpeg_shape(contents, tf.int32)[:2],
        PNG: lambda: tf.stack([_number(data, 20, 4), _number(data, 16, 4)]),
        BMP: bmp,
        WEBP: webp,
    }
    cases = {key: lambda read=read: tf.cast(read(), tf.int64) for key, read in cases.items()}
    return tf.switch_case(kind, {UNKNOWN: lambda: tf.zeros([2], tf.int64), **cases})


def _read_orientation(data: tf.Tensor, kind: tf.Tensor) -> tf.Tensor:
    """Read the EXIF orientation, int64 in 1..8; 1 if there is none. Fails on a file that ends early."""
    end = tf.zeros([], tf.int64)  # a next block at 0: there is none

    def jpeg(position: tf.Tensor) -> tuple[tf.Tensor, ...]:
        marker, length = _number(data, position + 1, 1), _number(data, position + 2, 2)
        found = (marker == 0xE1) & (_number(data, position + 4, 4) == int.from_bytes(b"Exif", "big"))
        following = tf.where(marker == 0xFF, position + 1, position + 2 + length)  # any number of these may fill up
        return found, position + 10, tf.where(marker == 0xDA, end, following)

    def png(position: tf.Tensor) -> tuple[tf.Tensor, ...]:
        length, name = _number(data, position, 4), _number(data, position + 4, 4)
        pixels = name == int.from_bytes(b"IDAT", "big")
        found = name == int.from_bytes(b"eXIf", "big")
        return found, position + 8, tf.where(pixels, end, position + 12 + length)

    def webp(position: tf.Tensor) -> tuple[tf.Tensor, ...]:
        length, name = _number(data, position + 4, 4, little=True), _number(data, position, 4)
        return name == int.from_bytes(b"EXIF", "big"), position + 8, position + 8 + length + length % 2

    def search(read_block: Callable, start: int) -> tf.Tensor:
        def step(position: tf.Tensor, exif: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            found, inside, following = read_block(position)
            return tf.where(found, end, following), tf.where(found, inside, exif)

        start = tf.constant(start, tf.int64)
        walk = tf.while_loop(lambda position, exif: position > 0, step, (start, end), maximum_iterations=MOST_BLOCKS)
        return tf.cond(walk[1] > 0, lambda: _read_exif(data, walk[1]), lambda: tf.ones([], tf.int64))

    none = lambda: tf.ones([], tf.int64)  # noqa: E731
    cases = {JPEG: lambda: search(jpeg, 2), PNG: lambda: search(png, 8), WEBP: lambda: search(webp, 12)}
    return tf.switch_case(kind, {UNKNOWN: none, BMP: none, **cases})


def _read_exif(data: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """Read the orientation from the first directory of an EXIF block: 12 bytes per entry, the tag first."""
    prefixed = _number(data, start, 4) == int.from_bytes(b"Exif", "big")
    start = start + tf.where(prefixed, tf.constant(6, tf.int64), tf.zeros([], tf.int64))
    little = _number(data, start, 1) == ord("I")
    directory = start + _number(data, start + 4, 4, little=little)
    count = _number(data, directory, 2, little=little)
    entries = data[directory + 2 : directory + 2 + 12 * count]
    entries = tf.cast(tf.reshape(entries, tf.stack([count, 12])), tf.int64)
    entries = tf.where(little, tf.gather(entries, [1, 0, 9, 8], axis=1), tf.gather(entries, [0, 1, 8, 9], axis=1))
    tags, values = entries[:, 0] * 256 + entries[:, 1], entries[:, 2] * 256 + entries[:, 3]
    values = tf.concat([values[tags == 0x0112], [1]], axis=0)
    return tf.where((values[0] >= 1) & (values[0] <= 8), values[0], tf.ones([], tf.int64))


def _find_unsupported(contents: tf.Tensor, data: tf.Tensor, kind: tf.Tensor) -> tf.Tensor:
    """Name what the library decodes and TensorFlow does not, or a reason not to; empty if there is none of it."""

    def bmp() -> tf.Tensor:
        bits, compression = _number(data, 28, 2, little=True), _number(data, 30, 4, little=True)
        supported = tf.reduce_any(bits == tf.constant([8, 24, 32], tf.int64)) & (compression != 1)
        return tf.where(supported, "", OTHER_BMP)

    def webp() -> tf.Tensor:
        extended = tf.equal(tf.strings.substr(contents, 12, 4), b"VP8X")
        animated = extended & (_number(data, 20, 1) // 2 % 2 == 1)  # each frame would have the full size
        return tf.where(animated, ANIMATED, "")

    none = lambda: tf.constant("")  # noqa: E731
    return tf.switch_case(kind, {UNKNOWN: none, JPEG: none, PNG: none, BMP: bmp, WEBP: webp})


def _decode(contents: tf.Tensor, data: tf.Tensor, kind: tf.Tensor) -> tf.Tensor:
    """Decode to uint8 [h, w, 3], RGB, as it is stored."""

    def bmp() -> tf.Tensor:
        # Of the types that TensorFlow decodes: it takes the numbers of a palette's colours for grey levels.
        return tf.cond(
            _number(data, 28, 2, little=True) == 8, indexed_bmp, lambda: tf.image.decode_bmp(contents)[..., :3]
        )

    def indexed_bmp() -> tf.Tensor:
        palette = 14 + _number(data, 14, 4, little=True)
        colors = tf.reshape(data[palette : _number(data, 10, 4, little=True)], [-1, 4])[:, 2::-1]  # blue, green, red, 0
        return tf.gather(colors, tf.cast(tf.image.decode_bmp(contents)[..., 0], tf.int32))

    cases = {
        JPEG: lambda: tf.image.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE"),
        PNG: lambda: tf.image.decode_png(contents, channels=3),
        BMP: bmp,
        WEBP: lambda: tf.io.decode_webp(contents)[0, ..., :3],
    }
    image = tf.switch_case(kind, {UNKNOWN: lambda: tf.zeros([0, 0, 3], tf.uint8), **cases})
    return tf.ensure_shape(image, [None, None, 3])


def _turn_upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Undo an EXIF orientation: 2 to 4 mirror or turn by half, 5 to 8 swap the sides as well."""
    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    mirrored = tf.reduce_any(orientation == tf.constant([2, 3, 6, 7], tf.int64))
    upended = tf.reduce_any(orientation == tf.constant([3, 4, 7, 8], tf.int64))
    image = tf.cond(mirrored, lambda: image[:, ::-1], lambda: image)
    return tf.cond(upended, lambda: image[::-1], lambda: image)
