"""One predictor serves several threads, with serial results; a forked process is refused where it would hang."""

import json
import os
import subprocess
import sys
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import centermask_keras as cm
from centermask_keras.data.files.images import read_image
from centermask_keras.inference.runtimes.forked import check_not_forked

ROOT = Path(__file__).resolve().parents[3]
EARLIER = Path(__file__).parent / "earlier"
FILES = {"keras": "run", "saved_model": "tiny/1", "tflite": "tiny/tiny_fp32.tflite", "onnx": "tiny/tiny.onnx"}
THREADS = 8
FORK = """
import os, signal, sys
import numpy as np
import centermask_keras as cm
from centermask_keras.errors import CenterMaskError

path, made_before = sys.argv[1], sys.argv[2] == "made"
image = np.zeros((64, 96, 3), np.uint8)
model = cm.load(path) if made_before else None
if made_before:
    model.predict(image)
for again in (True, False):
    child = os.fork()
    if not child:
        signal.alarm(60)  # a process that hangs is ended
        try:
            model = cm.load(path) if again or not made_before else model
            print(f"{len(model.predict(image))} result", flush=True)
        except CenterMaskError as error:
            print(error, flush=True)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "the child hung"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(EARLIER / "files.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def pictures() -> list[np.ndarray]:
    """Crops of one picture, of several sizes: each has other objects."""
    image = read_image(EARLIER / "image.png")
    height, width = image.shape[:2]
    return [image[: height - 8 * step, 5 * step :] for step in range(4)] + [image[::-1, : width - 16], image[:, ::-1]]


@pytest.mark.parametrize("runtime", FILES)
def test_several_threads_get_what_one_gets(folder, runtime):
    images = pictures()
    model = cm.load(folder / FILES[runtime])
    serial = [model.predict(image, score_threshold=0)[0].to_coco(1) for image in images]
    assert len({json.dumps(found) for found in serial}) == len(images)
    model, start = cm.load(folder / FILES[runtime]), threading.Barrier(THREADS)  # the first calls come together

    def predict_all(thread: int) -> list[int]:
        start.wait()
        order = np.random.default_rng(thread).permutation(3 * len(images)) % len(images)
        return [i for i in order if model.predict(images[i], score_threshold=0)[0].to_coco(1) != serial[i]]

    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(predict_all, range(THREADS))) == [[]] * THREADS


def test_calls_of_onnx_overlap(folder, monkeypatch):
    model = cm.load(folder / FILES["onnx"])
    canvas, both = model.prepare(pictures()[0])[0][None], threading.Barrier(2, timeout=60)
    session = model._session

    class Meeting:
        def run(self, *arguments):
            both.wait()  # comes back when two threads are inside
            return session.run(*arguments)

    monkeypatch.setattr(model, "_session", Meeting())
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(model.detect, [canvas, canvas])
    np.testing.assert_array_equal(first["boxes"], second["boxes"])


def test_a_process_is_told_from_the_one_that_it_was_forked_from():
    check_not_forked()
    check_not_forked()
    program = (
        "import os, sys\n"
        "from centermask_keras.errors import CenterMaskError\n"
        "from centermask_keras.inference.runtimes.forked import check_not_forked\n"
        "if not os.fork():\n"
        "    check_not_forked(); os._exit(0)\n"  # before the parent began: this one begins
        "assert os.wait()[1] == 0\n"
        "check_not_forked()\n"
        "if not os.fork():\n"
        "    try: check_not_forked()\n"
        "    except CenterMaskError as error: print(error); os._exit(7)\n"
        "assert os.waitstatus_to_exitcode(os.wait()[1]) == 7\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "forked from process" in done.stdout and 'get_context("spawn")' in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["keras", "saved_model"])
@pytest.mark.parametrize("before", ["made", "nothing"])
def test_a_forked_process_predicts_or_says_why_not(folder, runtime, before):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", FORK, str(folder / FILES[runtime]), before]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(line == "1 result" if before == "nothing" else "forked from process" in line for line in lines)
