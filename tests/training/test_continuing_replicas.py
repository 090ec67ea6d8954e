"""Several replicas, backends and workers: stopped at any moment and continued, they end as if left alone."""

import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from run_files import DEADLINE, data_paths, finish, metrics_of, state_of

from centermask_keras.demo.shapes import make_shapes
from centermask_keras.extra.workers import connect

CASE = Path(__file__).with_name("train_case.py")
STEPS = 10  # per epoch
METRICS_TOLERANCE = 1e-5  # the sums of an epoch that was begun are shared out anew among the replicas
LOST_SECONDS = 6
OWN_SECONDS = 30  # of the error's way through the collectives, and of Python's end


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    data = tmp_path_factory.mktemp("shapes")
    make_shapes(data, train=4 * STEPS, val=2, hw=(64, 64), seed=3)
    return data


def arguments(data: Path, run: Path, devices: int, *more: str) -> list[str]:
    small = ["data.input_hw=[64,64]", "train.batch_size=4", "train.drop_epochs=[5]", "train.validate_every=6"]
    return [str(CASE), str(run), str(devices), *data_paths(data), *small, *more]


def step_of(run: Path) -> int:
    return state_of(run).get("step", 0)


def wait_for_a_state_inside_of_an_epoch(run: Path, processes: list[subprocess.Popen], *, after: int = 0) -> None:
    deadline = time.monotonic() + DEADLINE
    while (step := step_of(run)) <= after or step % STEPS == 0:
        for process in processes:
            assert process.poll() is None, process.communicate()[0][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_same_run(one: Path, other: Path) -> None:
    """Hold two run folders to the same weights and optimizer, bit for bit, and to the same figures."""
    ours, theirs = state_of(one), state_of(other)
    assert ours.keys() == theirs.keys() and len(ours) > 20
    for key in [key for key in ours if not key.startswith("metrics/") and "best" not in key]:
        np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)
    for before, now in zip(metrics_of(one), metrics_of(other), strict=True):
        assert now == pytest.approx(before, rel=METRICS_TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_replicas_that_are_killed_continue(backend, shapes, tmp_path, spawn):
    pytest.importorskip(backend)
    settings = ['distribution="mirrored"', "train.epochs=8", "train.save.every=7", "train.save.unit=steps"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"

    def start(run: Path) -> subprocess.Popen:
        return spawn(*arguments(shapes, run, 2, *settings), KERAS_BACKEND=backend, TF_DETERMINISTIC_OPS="1")

    finish(start(whole))
    killed = start(parts)
    wait_for_a_state_inside_of_an_epoch(parts, [killed])
    killed.send_signal(signal.SIGKILL)
    finish(killed, -signal.SIGKILL)
    assert "2 replicas" in (text := finish(start(parts))) and "continues after step" in text
    assert_same_run(whole, parts)


@pytest.mark.slow
def test_workers_that_are_killed_or_preempted_continue(shapes, tmp_path, spawn, free_ports):
    """One worker's clock says when to save, one worker gets the SIGTERM: all take part, and continue from there."""
    settings = ['distribution="multi_worker"', "train.epochs=12", "train.save.every=1", "train.save.unit=minutes"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"

    def start(run: Path) -> list[subprocess.Popen]:
        cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
        return [
            spawn(
                *arguments(shapes, run, 1, *settings),
                TF_CONFIG=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": worker}}),
                CLOCK_RATE="600" if worker else "1",  # a minute in 0.1 s
                LOST_SECONDS=str(LOST_SECONDS),
                KERAS_BACKEND="tensorflow",
                TF_DETERMINISTIC_OPS="1",
            )
            for worker in range(2)
        ]

    for process in start(whole):
        finish(process)
    step = 0
    for lost in (1, 0):
        pair = start(parts)
        wait_for_a_state_inside_of_an_epoch(parts, pair, after=step)
        pair[lost].send_signal(signal.SIGKILL)
        begin = time.monotonic()
        text = finish(pair[1 - lost], 2)
        assert time.monotonic() - begin < LOST_SECONDS + OWN_SECONDS < connect.LOST_SECONDS + OWN_SECONDS
        assert f"worker {lost} (127.0.0.1:" in text and "Start all of them again" in text
        step = step_of(parts)
    pair = start(parts)
    wait_for_a_state_inside_of_an_epoch(parts, pair, after=step)
    pair[1].send_signal(signal.SIGTERM)
    texts = [finish(process, 143) for process in pair]
    assert all(f"stopped by SIGTERM after step {step_of(parts)}; the same command" in text for text in texts)
    for process in start(parts):
        finish(process)
    assert_same_run(whole, parts)
    assert not list(parts.glob("partial.*")) and json.loads((parts / "run.json").read_text())["finished"]
