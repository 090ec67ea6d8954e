"""Images come out as a viewer shows them, whatever the file holds; a damaged file is an error, never a grey picture.

Oracle: Pillow, and arrays that were written without loss.
"""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from centermask_keras._cv2 import cv2
from centermask_keras.data.files.images import decode_image, image_header, read_image
from centermask_keras.errors import ImageError

HW = (40, 60)


def picture() -> np.ndarray:
    """A picture without any symmetry."""
    rows, columns = np.mgrid[: HW[0], : HW[1]]
    image = np.stack([4 * columns, 6 * rows, 2 * rows + columns], -1).astype(np.uint8)
    image[3:9, 5:20] = (255, 0, 40)
    return image


def encode(image: np.ndarray | Image.Image, file_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


LOSSLESS = [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})]


@pytest.mark.parametrize(("file_format", "options"), LOSSLESS)
def test_lossless_formats_give_the_pixels_in_rgb_order(tmp_path, file_format, options):
    path = tmp_path / "image"
    path.write_bytes(encode(picture(), file_format, **options))
    image = read_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, picture())
    assert image_header(path) == HW


def test_jpeg_equals_pillow():
    data = encode(picture(), "JPEG", quality=90)
    np.testing.assert_array_equal(decode_image(data, "a.jpg"), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "BMP"])
def test_grey_becomes_three_equal_channels(file_format):
    image = decode_image(encode(picture()[..., 0], file_format), "grey")
    assert image.shape == (*HW, 3)
    assert np.ptp(image, axis=-1).max() == 0
    assert np.abs(image[..., 0].astype(int) - picture()[..., 0]).mean() < 1


@pytest.mark.parametrize("mode", ["P", "1"])
def test_palette_and_bilevel_equal_pillow(mode):
    image = Image.fromarray(picture()).convert(mode)
    np.testing.assert_array_equal(decode_image(encode(image, "PNG"), "a.png"), np.asarray(image.convert("RGB")))


def test_cmyk_equals_pillow_up_to_rounding():
    data = encode(Image.fromarray(picture()).convert("CMYK"), "JPEG")
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(decode_image(data, "a.jpg") - expected).max() <= 2


@pytest.mark.parametrize(("file_format", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True})])
def test_alpha_is_left_out_not_blended(file_format, options):
    alpha = np.linspace(0, 255, HW[0] * HW[1]).astype(np.uint8).reshape(*HW, 1)
    data = encode(np.concatenate([picture(), alpha], -1), file_format, **options)
    np.testing.assert_array_equal(decode_image(data, "a"), picture())


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_png_keeps_the_upper_8_bits(channels):
    values = np.random.default_rng(0).integers(0, 2**16, (*HW, channels), np.uint16)
    data = cv2.imencode(".png", values)[1].tobytes()  # channels are written as BGR(A)
    expected = (values >> 8).astype(np.uint8)
    expected = np.repeat(expected, 3, -1) if channels == 1 else expected[..., 2::-1]
    np.testing.assert_array_equal(decode_image(data, "a.png"), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("file_format", "options"), [("JPEG", {}), ("PNG", {}), ("WEBP", {"lossless": True})])
def test_exif_orientation_is_applied_to_pixels_and_header(tmp_path, file_format, options, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "image"
    path.write_bytes(encode(picture(), file_format, exif=exif, **options))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    image = read_image(path)
    np.testing.assert_array_equal(image, expected)
    assert image_header(path) == image.shape[:2] == (HW if orientation < 5 else HW[::-1])


def test_damaged_exif_is_ignored(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(encode(picture(), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xffgarbage"))
    assert image_header(path) == read_image(path).shape[:2] == HW


def test_multi_picture_jpeg_of_phones_is_a_jpeg(tmp_path):
    path = tmp_path / "a.jpg"
    second = Image.fromarray(picture()[::-1])
    Image.fromarray(picture()).save(path, "MPO", save_all=True, append_images=[second])
    assert image_header(path) == read_image(path).shape[:2] == HW


@pytest.mark.parametrize("cut", [2, 12, 100, 0.5], ids=str)
@pytest.mark.parametrize(
    ("file_format", "options"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("BMP", {})],
    ids=["JPEG", "progressive JPEG", "PNG", "WebP", "BMP"],
)
def test_truncated_file_is_an_error_that_names_it(file_format, options, cut):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encode(noise, file_format, **options)
    length = len(data) - cut if isinstance(cut, int) else int(len(data) * cut)
    with pytest.raises(ImageError) as caught:
        decode_image(data[:length], "photos/cut")
    assert caught.value.path == "photos/cut"
    if file_format != "BMP":
        assert "premature end" in caught.value.reason


def test_end_marker_of_an_exif_thumbnail_does_not_hide_a_truncated_jpeg():
    thumbnail = encode(picture()[::4, ::4], "JPEG")
    exif = b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00" + thumbnail
    data = encode(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), "JPEG", exif=exif)
    assert thumbnail in data
    assert decode_image(data, "whole.jpg").shape == (64, 64, 3)
    with pytest.raises(ImageError, match="premature end of JPEG"):
        decode_image(data[: -len(data) // 4], "cut.jpg")


def test_jpeg_whose_rest_was_never_written_is_truncated():
    data = encode(picture(), "JPEG")
    with pytest.raises(ImageError, match="premature end of JPEG"):
        decode_image(data[: len(data) // 2] + bytes(len(data) - len(data) // 2), "sparse.jpg")


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_bytes_behind_the_end_are_harmless(file_format):
    data = encode(picture(), file_format)
    np.testing.assert_array_equal(decode_image(data + b"garbage" * 9, "a"), decode_image(data, "a"))


def test_png_with_a_wrong_checksum_is_corrupt():
    data = bytearray(encode(picture(), "PNG"))
    data[data.index(b"IDAT") + 40] ^= 0xFF
    with pytest.raises(ImageError, match="corrupt PNG"):
        decode_image(bytes(data), "a.png")


def _gif() -> bytes:
    return encode(picture(), "GIF")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b"not an image", "a file that starts with b'not an i'"),
        (_gif(), "a file that starts with b'GIF87a<\\x00'"),
    ],
    ids=["empty", "text", "gif"],
)
def test_another_format_is_an_error_for_pixels_and_header(tmp_path, content, reason):
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    for read in (read_image, image_header):
        with pytest.raises(ImageError) as caught:
            read(path)
        assert caught.value.reason == reason
        assert caught.value.expected == "a JPEG, PNG, BMP or WebP image"
        assert caught.value.path == str(path)


@pytest.mark.parametrize("read", [read_image, image_header])
def test_missing_file_and_folder_are_errors(tmp_path, read):
    with pytest.raises(ImageError, match="no such file or directory"):
        read(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="is a directory"):
        read(tmp_path)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "BMP", "WEBP"])
def test_undecodable_header_is_an_error(tmp_path, file_format):
    path = tmp_path / "image"
    path.write_bytes(encode(picture(), file_format)[:15])
    with pytest.raises(ImageError):
        image_header(path)


def test_header_equals_pixels_on_real_images(coco_tiny, nuclei_train):
    paths = [*(coco_tiny / "images").iterdir(), *sorted((nuclei_train / "images").iterdir())[:40]]
    assert len(paths) == 56
    for path in paths:
        image = read_image(path)
        assert image_header(path) == image.shape[:2]
        assert image.dtype == np.uint8
        expected = np.asarray(Image.open(path).convert("RGB")).astype(int)
        assert np.abs(image - expected).max() <= 1
