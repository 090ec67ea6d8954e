"""The graph reads image files as the library does."""

import io

import numpy as np
import pytest
import tensorflow as tf
from extra.in_graph.file_case import encode, read_compiled
from PIL import Image

from centermask_keras.data.files.images import decode_image
from centermask_keras.extra.in_graph.image_files import attempt, read_image, too_large

EXIF_ORIENTATION = 0x0112


def test_a_row_of_pixels_is_as_large_as_the_rows_that_it_is_padded_to():
    content = encode(np.zeros((1, 40, 3), np.uint8), "PNG")
    assert read_image(tf.constant(content), most_pixels=32 * 64, multiple=32)[1].numpy() == b""
    refused = read_image(tf.constant(content), most_pixels=32 * 64 - 1, multiple=32)[1].numpy().decode()
    assert refused == too_large(32 * 64 - 1, 32) and "in multiples of 32" in refused


def formats():
    rng = np.random.default_rng(3)
    image = np.asarray(Image.fromarray(rng.integers(0, 256, (6, 10, 3), np.uint8)).resize((61, 43)))
    picture = Image.fromarray(image)
    for mode, suffix in [
        *[("RGB", suffix) for suffix in ("JPEG", "PNG", "BMP", "WEBP")],
        *[("L", suffix) for suffix in ("JPEG", "PNG", "BMP")],
        *[("P", suffix) for suffix in ("PNG", "BMP")],
        *[("RGBA", suffix) for suffix in ("PNG", "BMP", "WEBP")],
        ("1", "PNG"),
        ("I;16", "PNG"),
        ("CMYK", "JPEG"),
    ]:
        converted = picture.convert(mode) if mode != "I;16" else None
        if mode == "I;16":
            converted = Image.fromarray(rng.integers(0, 1 << 16, (43, 61), np.uint16))
        if mode == "RGBA":
            converted.putalpha(90)
        file = io.BytesIO()
        converted.save(file, suffix)
        yield pytest.param(file.getvalue(), id=f"{mode}-{suffix}")
    yield pytest.param(encode(np.asarray(picture.convert("LA")), "PNG"), id="LA-PNG")
    yield pytest.param(encode(image, "JPEG", progressive=True), id="progressive-JPEG")
    file = io.BytesIO()
    picture.convert("P").save(file, "PNG", transparency=3)
    yield pytest.param(file.getvalue(), id="transparent-palette-PNG")
    file = io.BytesIO()
    picture.save(file, "PNG", save_all=True, append_images=[Image.new("RGB", picture.size, "red")])
    yield pytest.param(file.getvalue(), id="animated-PNG")
    top_down = bytearray(encode(image[::-1], "BMP"))
    top_down[22:26] = (-43).to_bytes(4, "little", signed=True)
    yield pytest.param(bytes(top_down), id="top-down-BMP")
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    plain = encode(image, "JPEG", exif=exif)
    for count in (1, 3):
        filled = plain.replace(b"\xff\xe1", b"\xff" * count + b"\xff\xe1", 1)
        assert len(filled) == len(plain) + count
        yield pytest.param(filled, id=f"filled-{count}-JPEG")
    for suffix in ("JPEG", "PNG", "WEBP"):
        for orientation in range(1, 9):
            exif = Image.Exif()
            exif[EXIF_ORIENTATION] = orientation
            yield pytest.param(encode(image, suffix, exif=exif), id=f"{suffix}-{orientation}")


@pytest.mark.parametrize("content", list(formats()))
def test_the_graph_reads_files_as_the_library_does(content):
    image, error = read_compiled(content)
    expected = decode_image(content, "file")
    assert error.numpy() == b""
    assert image.shape == expected.shape
    assert np.abs(image.numpy().astype(int) - expected).max() <= 1 and expected.std() > 20


def test_attempt_falls_back_where_an_operation_fails():
    @tf.function(autograph=False)
    def read(text):
        return attempt(lambda: tf.strings.to_number(text, tf.int64), tf.constant(-1, tf.int64))

    assert read(b"12").numpy() == 12 and read(b"x").numpy() == -1
