"""Worker processes give what threads give, whatever is trained on; a lost one is an error, and none stays behind."""

import gc
import importlib.util
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import lvis_case
import pytest
import tensorflow as tf
from batches import assert_same_batches, take_batches

from centermask_keras.config import load_config
from centermask_keras.data.feeding.pipeline import make_train_dataset
from centermask_keras.data.feeding.processes import _explain, check_start
from centermask_keras.data.feeding.rows import Share, make_train_batch
from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.data.files.shard_writer import write_shards
from centermask_keras.data.samples.sample import SampleCounters
from centermask_keras.errors import CenterMaskError, ConfigError, ImageError

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "configs"
END_SECONDS = 60  # a busy machine needs some of them
needs_grain = pytest.mark.skipif(importlib.util.find_spec("grain") is None, reason="could not import 'grain'")


def configure(*overrides, path="dla34.json"):
    fixed = ["data.input_hw=[64, 64]", "train.batch_size=4"]
    return load_config(CONFIGS / path, [*fixed, *overrides])


def load(annotations, images):
    return load_annotations(annotations, images)


@pytest.fixture(scope="module")
def photos(coco_tiny):
    return load(coco_tiny / "annotations" / "instances.json", coco_tiny / "images")


def worker_ids():
    """Return the ids of the worker processes of this program."""
    gc.collect()
    return [process.pid for process in multiprocessing.active_children() if "grain" in process.name]


def wait_until(condition):
    end = time.monotonic() + END_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@needs_grain
@pytest.mark.parametrize("processes", [1, 2])
def test_processes_give_the_batches_of_threads_from_any_step(photos, processes):
    config = configure()
    threads, made = (make_train_dataset(config, photos, processes=count) for count in (0, processes))
    assert made.element_spec == threads.element_spec and made.cardinality() == threads.cardinality()
    assert_same_batches(
        take_batches(config, photos, 5, start=3, processes=processes), take_batches(config, photos, 5, start=3)
    )
    assert not worker_ids()


@needs_grain
def test_what_is_left_out_is_counted(photos):
    config, counters = configure("data.max_objects=5"), SampleCounters()
    batches = iter(make_train_dataset(config, photos, counters=counters, processes=2))
    next(batches)
    wait_until(lambda: counters.samples >= 12)  # two batches wait for the training
    del batches
    expected = SampleCounters()
    for first in range(0, counters.samples, 4):
        make_train_batch(config, photos, range(first, first + 4), expected)
    assert counters == expected and counters.over_max_objects and counters.too_small


def lvis_in_shards(coco_tiny, tmp_path):
    """The photos as LVIS, in shards."""
    document = json.loads((coco_tiny / "annotations" / "instances.json").read_text())
    document["annotations"] = [row for row in document["annotations"] if not row["iscrowd"]]
    (tmp_path / "lvis.json").write_text(json.dumps(lvis_case.as_lvis(document)))
    write_shards(load(tmp_path / "lvis.json", coco_tiny), tmp_path / "shards")
    return load(tmp_path / "shards" / "annotations.json", tmp_path / "shards")


@needs_grain
def test_shares_of_lvis_in_shards(coco_tiny, tmp_path):
    annotations, share = lvis_in_shards(coco_tiny, tmp_path), Share(worker=1, workers=2, replicas=4)
    found, expected = (
        take_batches(configure("train.seed=5"), annotations, 5, start=2, share=share, processes=count)
        for count in (2, 0)
    )
    assert_same_batches(found, expected)
    assert found[0]["known_valid"].any() and len(found[0]["image"]) == 1


@pytest.mark.slow
@needs_grain
def test_several_sizes(photos):
    sizes = ["data.multi_scale_hw=[[64, 96], [96, 128]]", "data.augmentation.crop=none"]
    found, expected = (
        take_batches(configure(*sizes, path="fcos_resnet101.json"), photos, 6, processes=count) for count in (2, 0)
    )
    assert_same_batches(found, expected)
    assert len({batch["image"].shape for batch in found}) > 1


@needs_grain
def test_paths_are_those_of_the_training(coco_tiny, tmp_path, monkeypatch):
    """A new process begins in the folder where the program began, unless it is told."""
    monkeypatch.chdir(coco_tiny)
    annotations = load("annotations/instances.json", "images")
    assert len(take_batches(configure(), annotations, 1, processes=1)) == 1


@pytest.fixture
def spoiled(coco_tiny, tmp_path):
    """16 photos, one of them cut off in the middle of its pixels."""
    shutil.copytree(coco_tiny / "images", tmp_path / "images")
    annotations = load(coco_tiny / "annotations" / "instances.json", tmp_path / "images")
    path = Path(annotations.image_file(5))
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return annotations


@needs_grain
def test_a_corrupt_file_stops_the_dataset_and_is_named(spoiled):
    errors = []
    for processes in (2, 0):
        counters = SampleCounters()
        with pytest.raises(tf.errors.OpError):
            take_batches(configure(), spoiled, 4, counters=counters, processes=processes)
        errors.append(counters.error)
    assert [type(error) for error in errors] == [ImageError] * 2
    assert str(errors[0]) == str(errors[1]) and errors[0].args == errors[1].args
    wait_until(lambda: not worker_ids())


@needs_grain
def test_a_corrupt_file_is_skipped_and_counted(spoiled):
    counters = SampleCounters()
    found, expected = (
        take_batches(configure("data.on_error=skip"), spoiled, 4, counters=counters if count else None, processes=count)
        for count in (2, 0)
    )
    assert_same_batches(found, expected)
    assert list(counters.skipped) == [str(spoiled.image_file(5))] and counters.error is None


@pytest.mark.slow
@needs_grain
def test_a_killed_process_is_an_error_and_the_others_end(photos):
    counters = SampleCounters()
    batches = iter(make_train_dataset(configure(), photos, counters=counters, processes=2))
    next(batches)
    victim, other = worker_ids()
    os.kill(victim, signal.SIGKILL)
    with pytest.raises(tf.errors.OpError, match="SIGKILL ended"):
        for _ in range(20):  # what was made before
            next(batches)
    assert type(counters.error) is CenterMaskError
    expected = "--processes: expected 2 processes as long as the training lasts, received one that SIGKILL ended: "
    assert str(counters.error).startswith(expected)
    del batches
    wait_until(lambda: not worker_ids())


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (-signal.SIGBUS, "SIGBUS ended: most often there is no room left in shared memory, /dev/shm"),
        (-signal.SIGSEGV, "SIGSEGV ended: its output may say more"),
        (1, 'exit code 1, its output says why. .* `if __name__ == "__main__":`'),
    ],
)
def test_every_end_is_explained(code, expected):
    assert re.search(expected, str(_explain(code, 4)))


def test_a_missing_package_is_told_before_anything_starts(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    check_start(0)
    expected = "--processes: expected 0 without the package grain, received 2. pip install grain"
    with pytest.raises(ConfigError, match=re.escape(expected)):
        check_start(2)


PROGRAM = """
import multiprocessing, os, signal, sys, time
from centermask_keras.config import load_config
from centermask_keras.data.files.annotations import load_annotations

def main():
    global batches  # open until the end
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs the tests in the background
    from centermask_keras.data.feeding.pipeline import make_train_dataset
    folder, config = sys.argv[1:3]
    annotations = load_annotations(f"{folder}/annotations/instances.json", f"{folder}/images")
    config = load_config(config, ["train.batch_size=4", "data.input_hw=[128, 128]"])
    batches = iter(make_train_dataset(config, annotations, processes=2))
    next(batches)
    for process in multiprocessing.active_children():
        maps = open(f"/proc/{process.pid}/maps").read()
        print(process.pid, "tensorflow" in maps, flush=True)
    print("ready", flush=True)
    time.sleep(float(sys.argv[3]))

if __name__ == "__main__":
    main()
"""


def exists(pid):
    """Say whether a process lives, and is not merely waiting to be looked after."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def shared_memory(pid):
    maps = Path(f"/proc/{pid}/maps").read_text()
    return set(re.findall(r"/dev/shm/psm_\w+", maps))


@needs_grain
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize(
    "end",
    [
        signal.SIGKILL,
        *(pytest.param(end, marks=pytest.mark.slow) for end in (signal.SIGTERM, signal.SIGINT, None)),
    ],
)
def test_no_process_and_no_memory_stays_when_a_training_ends(coco_tiny, tmp_path, end):
    """Killed, asked to end, Ctrl-C, or at its end with an endless dataset open."""
    (tmp_path / "case.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "case.py"), str(coco_tiny), str(CONFIGS / "dla34.json")]
    training = subprocess.Popen(
        [*command, "600" if end else "2"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        lines = [training.stdout.readline().split() for _ in range(3)]
        assert lines[2] == ["ready"] and [loaded for _, loaded in lines[:2]] == ["False"] * 2
        pids = [int(pid) for pid, _ in lines[:2]]
        wait_until(lambda: shared_memory(training.pid))
        memory = shared_memory(training.pid)
        if end is signal.SIGINT:
            os.killpg(training.pid, end)  # as a terminal does
        elif end:
            training.send_signal(end)
        output = training.communicate(timeout=END_SECONDS)[1]
        assert training.returncode == -(end or 0)
        wait_until(lambda: not any(map(exists, pids)))
        wait_until(lambda: not any(map(os.path.exists, memory)))
        if end in (None, signal.SIGINT):  # an orderly end: nothing but the interrupt is told
            assert output.count("Traceback") == bool(end) and "leaked" not in output and "ignored" not in output
    finally:
        training.kill()
        training.communicate()


@needs_grain
@pytest.mark.slow
def test_a_script_without_a_guard_says_what_it_lacks(photos, coco_tiny, tmp_path):
    """It would train again in each of its processes."""
    paths = {"annotations": photos.path, "images": coco_tiny / "images"}
    settings = [f'data.{split}.{key}="{path}"' for split in ("train", "val") for key, path in paths.items()]
    overrides = ["model.num_classes=80", *settings]
    (tmp_path / "case.py").write_text(
        "from centermask_keras import load_config, train\n"
        f"config = load_config({str(CONFIGS / 'demo.json')!r}, {overrides})\n"
        f"train(config, name='case', run_dir={str(tmp_path / 'run')!r}, overwrite=True, processes=1)\n"
    )
    command = [sys.executable, str(tmp_path / "case.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    guard = 'its calls belong below `if __name__ == "__main__":`'
    assert ended.returncode == 1
    assert "expected a training in the main program, received one in a new process. Every process" in ended.stderr
    assert ended.stderr.count(guard) >= 2  # in the process, and in the training
