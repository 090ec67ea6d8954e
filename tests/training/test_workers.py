"""Workers on this machine: they train as one process does; what happens when one is missing, lost, or another."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from centermask_keras.errors import ConfigError
from centermask_keras.training import workers
from centermask_keras.training.workers import Watch, connect_workers

HERE = Path(__file__).parent
STEPS = 20
TOLERANCE = 1e-5  # of the weights' norm: sums of float32 in another order


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def environment(ports: list[int], worker: int | None) -> dict[str, str]:
    found = os.environ | {"PYTHONPATH": str(HERE.parents[1]), "KERAS_BACKEND": "tensorflow"}
    if worker is not None:
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        found["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": worker}})
    return found


def start(script: str, arguments: list[str], ports: list[int], worker: int | None) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(HERE / script), *arguments],
        env=environment(ports, worker),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen, code: int = 0) -> str:
    text, _ = process.communicate(timeout=600)
    assert process.returncode == code, text[-3000:]
    return text


def last_weights(path: Path) -> list[np.ndarray]:
    with np.load(path) as arrays:
        return [arrays[name].astype(np.float64) for name in arrays.files if name.startswith(f"step{STEPS}/")]


@pytest.mark.slow
def test_two_workers_end_with_the_weights_of_one_process(tmp_path):
    ports, common = free_ports(2), [f"steps={STEPS}"]
    one = start("replica_case.py", [str(tmp_path / "one.npz"), *common], [], None)
    pair = [
        start("replica_case.py", [str(tmp_path / f"{worker}.npz"), *common, "distribution=multi_worker"], ports, worker)
        for worker in range(2)
    ]
    for process in [one, *pair]:
        finish(process)
    expected = last_weights(tmp_path / "one.npz")
    size = np.sqrt(sum((array**2).sum() for array in expected))
    for worker in range(2):
        found = last_weights(tmp_path / f"{worker}.npz")
        difference = np.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(expected, found, strict=True)))
        assert difference < TOLERANCE * size
        with np.load(tmp_path / f"{worker}.npz") as ours, np.load(tmp_path / "one.npz") as theirs:
            for name in [name for name in theirs.files if name.startswith("log/")]:
                np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("text", ["{", "[]", '{"cluster": {}}', '{"cluster": {}, "task": {"type": "worker"}}'])
def test_another_cluster_is_refused(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ConfigError, match="TF_CONFIG"):
        connect_workers("mine.json")


def test_without_a_cluster_the_error_says_where_it_is_looked_for(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    with pytest.raises(ConfigError, match=r"mine.json: distribution: expected TF_CONFIG or a step of Slurm"):
        connect_workers("mine.json")


def test_slurm_names_the_workers(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    variables = {"PROCID": 1, "STEP_NUM_TASKS": 2, "STEP_TASKS_PER_NODE": "1(x2)", "STEP_NODELIST": "node[3-4]"}
    for name, value in variables.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    resolver = workers._find_cluster("mine.json")
    assert resolver.cluster_spec().as_dict() == {"worker": ["node3:8888", "node4:8888"]}
    assert (resolver.task_type, resolver.task_id) == ("worker", 1)


def test_the_watch_tells_who_does_not_answer(monkeypatch):
    monkeypatch.setattr(workers, "KNOCK_SECONDS", 0.05)
    monkeypatch.setattr(workers, "LOST_SECONDS", 0.2)
    given_up = []
    context = type("Context", (), {"abort_collective_ops": lambda self, code, message: given_up.append(message)})
    monkeypatch.setattr(workers.eager_context, "context", context)
    with socket.create_server(("127.0.0.1", 0)) as server:
        watch = Watch({0: f"127.0.0.1:{server.getsockname()[1]}"})
        assert watch.missing() == []
        watch.start()
        time.sleep(0.6)
        assert watch.lost is None
    deadline = time.monotonic() + 10
    while not given_up and time.monotonic() < deadline:
        time.sleep(0.05)
    assert given_up == [watch.lost] and "worker 0 (127.0.0.1:" in watch.lost


def arguments(data: Path, run: Path, *more: str) -> list[str]:
    paths = [f'data.{split}.annotations="{data / split}.json"' for split in ("train", "val")]
    paths += [f'data.{split}.images="{data / split}"' for split in ("train", "val")]
    small = ["data.input_hw=[64,64]", "train.batch_size=4", "train.drop_epochs=[2]", "train.validate_every=1"]
    return [str(run), "1", *paths, *small, 'distribution="multi_worker"', *more]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    from centermask_keras.data.shapes import make_shapes

    data = tmp_path_factory.mktemp("shapes")
    make_shapes(data, train=8, val=2, hw=(64, 64), seed=3)
    return data


@pytest.mark.slow
def test_a_worker_that_differs_is_named_by_all(shapes, tmp_path):
    ports = free_ports(2)
    pair = [
        start("train_case.py", arguments(shapes, tmp_path / "run", f"train.learning_rate={rate}"), ports, worker)
        for worker, rate in enumerate((0.001, 0.002))
    ]
    for process in pair:
        assert "worker 1: expected the configuration of worker 0, received another one" in finish(process, 2)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_killed_worker_stops_the_other_and_both_continue(shapes, tmp_path):
    """The chief is what remains, then what is lost."""
    run = tmp_path / "run"
    for killed in (1, 0):
        ports = free_ports(2)
        pair = [
            start("train_case.py", arguments(shapes, run, "train.epochs=500"), ports, worker) for worker in range(2)
        ]
        epochs = [] if killed else json.loads((run / "run.json").read_text())["epochs"]
        deadline = time.monotonic() + 400
        while time.monotonic() < deadline and all(process.poll() is None for process in pair):
            record = json.loads((run / "run.json").read_text()) if (run / "run.json").exists() else {}
            if record.get("epochs", 0) > (epochs or 0):
                break
            time.sleep(0.2)
        assert all(process.poll() is None for process in pair), [process.communicate()[0][-2000:] for process in pair]
        pair[killed].send_signal(signal.SIGKILL)
        begin = time.monotonic()
        text = finish(pair[1 - killed], 2)
        assert time.monotonic() - begin < workers.LOST_SECONDS + 90  # and the time of the Python around it
        assert f"worker {killed}" in text and "Start all of them again" in text
