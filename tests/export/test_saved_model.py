"""The SavedModel takes files as they are, reports the ones that it cannot read, and needs TensorFlow only."""

import io
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from extra.in_graph.file_case import encode, read_compiled
from PIL import Image

from centermask_keras.config import load_config
from centermask_keras.data.files.images import decode_image, read_image
from centermask_keras.data.samples.preprocess import preprocess_image
from centermask_keras.data.samples.transform import make_eval_transform
from centermask_keras.data.samples.transform import make_keep as make_keep_numpy
from centermask_keras.data.samples.transform import make_letterbox as make_letterbox_numpy
from centermask_keras.export.parity import match
from centermask_keras.export.saved_model import MOST_KEPT_PIXELS, MOST_PIXELS, ServedModel
from centermask_keras.extra.in_graph.canvas import make_keep, make_letterbox, warp
from centermask_keras.extra.in_graph.image_files import (
    ANIMATED,
    BAD_HEADER,
    BAD_PIXELS,
    NO_IMAGE,
    OTHER_BMP,
    too_large,
)
from centermask_keras.geometry.transform import apply_to_boxes, invert
from centermask_keras.inference.objects import Category
from centermask_keras.inference.runtimes.description import Description, parse_description
from centermask_keras.inference_config import to_inference_config
from centermask_keras.masks import paste_mask

MODELS = ["demo", *(pytest.param(name, marks=pytest.mark.slow) for name in ("nuclei", "coco"))]
ROOT = Path(__file__).resolve().parents[2]
TURNED = ["eval.resize=turned", "eval.batch_size=1"]
EXIF_ORIENTATION = 0x0112


@pytest.fixture(params=MODELS)
def model(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def loaded():
    """Load SavedModels once, and keep them: their functions do not keep their variables alive."""
    cache = {}

    def open_model(model):
        if model.folder not in cache:
            cache[model.folder] = tf.saved_model.load(str(model.folder / "1"))
        return cache[model.folder]

    return open_model


def run(saved, signature, files):
    return {
        name: value.numpy()
        for name, value in saved.signatures[signature](image_bytes=tf.constant(files, tf.string, [len(files)])).items()
    }


@pytest.mark.parametrize("model", [*MODELS, pytest.param("fcos", marks=pytest.mark.slow)], indirect=True)
def test_files_give_what_the_predictor_gives(model, loaded):
    """Both ways. In the maps of a random DLA-34 a grey level of the canvas moves one peak in 300 by a cell."""
    found = run(loaded(model), "serving_default", [path.read_bytes() for path in model.images.values()])
    assert not found["error"].astype(bool).any()
    same = []
    for row, path in enumerate(model.images.values()):
        image = read_image(path)
        np.testing.assert_array_equal(found["image_hw"][row], image.shape[:2])
        canvas, transform = model.predictor.prepare(image)
        expected = valid_rows(model.predictor.detect(canvas[None]), 0)
        received = valid_rows(found, row)
        received["boxes"] = apply_to_boxes(transform, received["boxes"])  # input pixels
        received["masks"] = received["masks"] / np.float32(255)
        for first, second in ((expected, received), (received, expected)):
            # Where all K rows are taken, the last ones give way to each other.
            full = len(second["scores"]) == len(found["scores"][row])
            pairs, left = match(first, second, max(0.3, second["scores"].min(initial=1) + 0.02 if full else 0))
            same += [False] * left + [are_same(first, i, second, j) for i, j in pairs]
    assert len(same) >= 160
    assert np.mean(same) >= (0.99 if model.folder.name == "coco" else 1.0)


def are_same(first, i, second, j):
    """Masks by value: where those of random weights are flat, a threshold may cut anywhere."""
    return (
        first["classes"][i] == second["classes"][j]
        and np.abs(first["boxes"][i] - second["boxes"][j]).max() < 0.3
        and abs(first["scores"][i] - second["scores"][j]) < 0.02
        and np.abs(first["masks"][i] - second["masks"][j]).mean() < 0.005
    )


def valid_rows(detections, row):
    valid = np.asarray(detections["valid"][row])
    return {name: np.asarray(detections[name][row])[valid] for name in ("boxes", "scores", "classes", "masks")}


@pytest.mark.parametrize("name", ["portrait", "landscape", "grey", "turned", "one_pixel_high", "nothing"])
@pytest.mark.parametrize("images", ["photos", "slides"])
def test_the_canvas_is_that_of_the_pipeline_within_one_grey_level(request, demo, images, name):
    """From the file on: decoding and warping, at two sizes of the input and at the image's own."""
    content = request.getfixturevalue(images)[name].read_bytes()
    image, error = read_compiled(content)
    assert error.numpy() == b""
    whole = decode_image(content, name)
    for canvas_hw in ((128, 128), (320, 512)):
        transform = make_letterbox(tf.shape(image)[:2], canvas_hw)
        expected = preprocess_image(whole, make_letterbox_numpy(whole.shape[:2], canvas_hw), canvas_hw)
        assert np.abs(warp(image, transform, canvas_hw).numpy().astype(int) - expected).max() <= 1
    transform, canvas_hw = make_keep(tf.shape(image)[:2], 32)
    expected = preprocess_image(whole, *make_keep_numpy(whole.shape[:2], 32))
    assert np.abs(warp(image, transform, canvas_hw).numpy().astype(int) - expected).max() <= 1


def test_masks_lie_in_the_frames_of_the_boxes(demo, loaded):
    path = demo.images["landscape"]
    found = run(loaded(demo), "serving_default", [path.read_bytes()])
    (expected,) = demo.predictor.predict(path, score_threshold=0.0)
    threshold = demo.predictor.config.eval.mask_threshold
    hw = tuple(found["image_hw"][0])
    masks = expected.masks.dense()
    for row in range(10):
        crop, (top, left) = paste_mask(found["masks"][0, row] / np.float32(255), found["boxes"][0, row], hw, threshold)
        whole = np.zeros(hw, bool)
        whole[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
        best = max((whole & mask).sum() / (whole | mask).sum() for mask in masks)
        assert best > 0.95  # a step of 1 / 255 moves an edge that is nearly level


def test_id_map_is_the_pasted_masks_on_top_of_each_other(demo, loaded):
    files = [demo.images[name].read_bytes() for name in ("portrait", "one_pixel_high")] + [b"junk"]
    found = run(loaded(demo), "id_map", files)
    exact = run(loaded(demo), "serving_default", files)
    for row in (0, 1):
        ids = tf.io.decode_png(found["id_map_bytes"][row], dtype=tf.uint16).numpy()[..., 0]
        assert ids.shape == tuple(found["image_hw"][row])
        shown = np.flatnonzero(found["valid"][row] & (found["scores"][row] >= 0.3)) + 1
        assert set(np.unique(ids)) <= {0, *shown}
        np.testing.assert_array_equal(found["boxes"][row], exact["boxes"][row])
    assert len(np.unique(tf.io.decode_png(found["id_map_bytes"][0], dtype=tf.uint16))) > 5


@pytest.mark.parametrize("signature", ["serving_default", "id_map"])
def test_an_empty_batch_gives_empty_results(demo, loaded, signature):
    assert all(len(value) == 0 for value in run(loaded(demo), signature, []).values())


def test_an_empty_batch_of_tensors_gives_empty_results(demo, loaded):
    found = loaded(demo).signatures["tensor"](images=tf.zeros([0, 128, 128, 3], tf.uint8))
    assert {name: len(value) for name, value in found.items()} == dict.fromkeys(
        ("boxes", "scores", "classes", "valid", "masks"), 0
    )


def other_bmp(bits: int, compression: int) -> bytes:
    content = bytearray(encode(np.zeros((8, 8), np.uint8), "BMP"))
    content[28:34] = bits.to_bytes(2, "little") + compression.to_bytes(4, "little")
    return bytes(content)


def animated_webp() -> bytes:
    first, second = (Image.new("RGB", (8, 8), color) for color in ("red", "blue"))
    file = io.BytesIO()
    first.save(file, "WEBP", save_all=True, append_images=[second])
    return file.getvalue()


TOO_LARGE = b"more than"


def bad_files(good: bytes) -> dict[bytes, list[bytes]]:
    bomb = bytearray(encode(np.zeros((8, 8, 3), np.uint8), "BMP"))
    bomb[18:26] = (60000).to_bytes(4, "little") * 2
    png = bytearray(encode(np.zeros((8, 8, 3), np.uint8), "PNG"))
    png[16:24] = (100000).to_bytes(4, "big") * 2
    return {
        NO_IMAGE.encode(): [b"", b"\x00", b"text", b"GIF89a" + bytes(50), b"RIFF....WAVE"],
        BAD_HEADER.encode(): [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF\x00\x00\x00\x00WEBP"],
        OTHER_BMP.encode(): [other_bmp(1, 0), other_bmp(4, 0), other_bmp(8, 1), other_bmp(16, 3)],
        ANIMATED.encode(): [animated_webp()],
        TOO_LARGE: [bytes(bomb), bytes(png)],
        BAD_PIXELS.encode(): [good[: len(good) // 2]],
    }


def test_unreadable_files_are_flagged_and_their_neighbours_right(model, loaded):
    good = model.images["portrait"].read_bytes()
    alone = run(loaded(model), "serving_default", [good])
    for error, files in bad_files(good).items():
        found = run(loaded(model), "serving_default", [good, *files, good])
        assert all(text.startswith(error) for text in found["error"][1:-1]), found["error"]
        assert not found["valid"][1:-1].any() and not found["scores"][1:-1].any() and not found["masks"][1:-1].any()
        assert (found["image_hw"][1:-1] == 0).all()
        for row in (0, -1):
            assert found["error"][row] == b""
            assert_same_objects(found, row, alone)


def assert_same_objects(found, row, alone):
    """The rows that score 0.3 or more are those of the image alone; a batch adds up in another order."""
    shown = alone["scores"][0] >= 0.3
    assert shown.sum() >= 20
    np.testing.assert_array_equal(found["valid"][row], alone["valid"][0])
    np.testing.assert_array_equal(found["classes"][row][shown], alone["classes"][0][shown])
    np.testing.assert_allclose(found["scores"][row], alone["scores"][0], atol=1e-4)
    np.testing.assert_allclose(found["boxes"][row][shown], alone["boxes"][0][shown], atol=0.05)
    apart = found["masks"][row][shown].astype(int) - alone["masks"][0][shown]
    assert np.abs(apart).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "BMP", "WEBP"])
@pytest.mark.parametrize(("name", "count"), [("demo", 125), ("nuclei", 20)])
def test_damaged_files_do_no_harm(request, loaded, suffix, name, count):
    """125 per format, 500 in all, and 80 at the image's own size: cut off, or with bytes exchanged."""
    model = request.getfixturevalue(name)
    rng = np.random.default_rng(7)
    good = model.images["portrait"].read_bytes()
    small = np.asarray(Image.fromarray(read_image(model.images["landscape"])).resize((96, 64)))
    content = encode(small, suffix)
    expected = run(loaded(model), "serving_default", [good])
    exchanged = flagged = 0
    for number in range(count):
        damaged = bytearray(content)
        if number % 3 == 0:
            damaged = damaged[: rng.integers(0, len(damaged) * 9 // 10)]
        else:
            for place in rng.integers(0, len(damaged) if number % 3 == 1 else 64, rng.integers(1, 20)):
                damaged[place] = rng.integers(256)
        found = run(loaded(model), "serving_default", [good, bytes(damaged), good])
        error = found["error"][1]
        exchanged += number % 3 != 0
        flagged += number % 3 != 0 and bool(error)
        assert number % 3 or error, "a file that ends early"
        assert bool(error) == (not found["image_hw"][1].any())
        assert not (error and found["valid"][1].any())
        assert np.isfinite(found["boxes"]).all() and np.isfinite(found["scores"]).all()
        for row in (0, 2):
            assert_same_objects(found, row, expected)
    assert exchanged >= count // 2 and flagged >= count // 10  # the others are sound files of other pixels


@pytest.mark.slow
def test_images_at_their_own_size_have_a_lower_limit(nuclei, loaded):
    """A header of 4097 x 4096 pixels is enough: the network never sees them. With letterbox they may follow."""
    png = bytearray(encode(np.zeros((8, 8, 3), np.uint8), "PNG"))
    png[16:24] = (4097).to_bytes(4, "big") + (4096).to_bytes(4, "big")
    (error,) = run(loaded(nuclei), "serving_default", [bytes(png)])["error"]
    assert error.decode() == too_large(MOST_KEPT_PIXELS, 32) and 4097 * 4096 < MOST_PIXELS


class WholeInput:
    """Finds one object in every image, as large as the input that it is shown."""

    def __init__(self, config):
        self.config, self.variables = config, []

    def detect(self, images):
        count, size = self.config.max_detections, self.config.mask_size_infer
        height, width = tf.unstack(tf.cast(tf.shape(images)[1:3], tf.float32))
        box = tf.stack([0.0, 0.0, width, height])
        found = {"boxes": tf.tile(box[None, None], [1, count, 1]), "masks": tf.ones([1, count, size, size])}
        rows = {"scores": tf.ones([1, count]), "classes": tf.zeros([1, count], tf.int32)}
        return found | rows | {"valid": tf.ones([1, count], tf.bool)}


@pytest.mark.parametrize("resize", ["turned", "keep", "letterbox"])
def test_what_is_stored_decides_how_the_saved_model_shows_an_image_to_the_network(resize):
    small = ["data.input_hw=[96, 128]", "model.max_detections=1", f"eval.resize={resize}", "eval.batch_size=1"]
    config = load_config(ROOT / "configs" / "demo.json", small)
    categories = [Category(index, f"class {index}") for index in range(config.model.num_classes)]
    written = Description(to_inference_config(config), categories).text()
    served = ServedModel(WholeInput(config.model), parse_description(written, "file"))
    for hw in ((150, 90), (90, 150), (64, 64)):
        found = served.serving_default(tf.constant([encode(np.full((*hw, 3), 128, np.uint8), "PNG")]))
        transform, (height, width) = make_eval_transform(hw, config)
        expected = apply_to_boxes(invert(transform), np.array([[0, 0, width, height]], np.float32))
        np.testing.assert_allclose(found["boxes"][0], expected, rtol=1e-6)
        assert found["image_hw"][0].numpy().tolist() == list(hw)


WITHOUT_KERAS = """
import sys
for name in ("keras", "centermask_keras", "tf_keras"):
    sys.modules[name] = None
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
files = [open(path, "rb").read() for path in sys.argv[2:]]
found = model.signatures["serving_default"](image_bytes=tf.constant(files))
print(*(int(n) for n in tf.reduce_sum(tf.cast(found["valid"] & (found["scores"] >= 0.3), tf.int32), axis=1)))
"""


@pytest.mark.slow
def test_plain_tensorflow_is_enough(model, loaded, tmp_path):
    paths = [model.images["portrait"], model.images["landscape"]]
    copy = shutil.copytree(model.folder / "1", tmp_path / "served")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_KERAS, str(copy), *map(str, paths)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    exact = run(loaded(model), "serving_default", [path.read_bytes() for path in paths])
    expected = (exact["valid"] & (exact["scores"] >= 0.3)).sum(axis=1)
    assert [int(number) for number in done.stdout.split()] == expected.tolist() and expected.min() >= 20
