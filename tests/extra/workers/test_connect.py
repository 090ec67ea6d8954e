"""Workers on this machine: they train as one process does; what is said when one is missing or another."""

import json
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from project_files import ROOT
from run_files import data_paths, finish

from centermask_keras.demo.shapes import make_shapes
from centermask_keras.errors import ConfigError
from centermask_keras.extra.workers import connect
from centermask_keras.extra.workers.connect import Watch, connect_workers

TRAINING = ROOT / "tests" / "training"
CASE = str(TRAINING / "replica_case.py")
TRAIN_CASE = str(TRAINING / "train_case.py")
STEPS = 20
TOLERANCE = 1e-5  # of the weights' norm: sums of float32 in another order


def variables(ports: list[int], worker: int) -> dict[str, str]:
    """Return what tells a process which worker it is."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": worker}})}


def last_weights(path: Path) -> list[np.ndarray]:
    with np.load(path) as arrays:
        return [arrays[name].astype(np.float64) for name in arrays.files if name.startswith(f"step{STEPS}/")]


@pytest.mark.slow
def test_two_workers_end_with_the_weights_of_one_process(tmp_path, spawn, free_ports):
    """The shapes of one worker's batches change, those of the other do not."""
    ports, common = free_ports(2), [f"steps={STEPS}", "trimmed=1"]
    one = spawn(CASE, str(tmp_path / "one.npz"), *common, KERAS_BACKEND="tensorflow")
    pair = [
        spawn(
            *(CASE, str(tmp_path / f"{worker}.npz"), *common, "distribution=multi_worker"),
            **variables(ports, worker),
            KERAS_BACKEND="tensorflow",
        )
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


def test_an_address_without_port_is_refused(monkeypatch):
    cluster = {"cluster": {"worker": ["127.0.0.1", "127.0.0.1:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    with pytest.raises(ConfigError, match=r"TF_CONFIG: expected addresses host:port, received '127\.0\.0\.1'"):
        connect_workers("mine.json")


@pytest.mark.slow
@pytest.mark.parametrize("worker", [0, 1])
def test_one_process_of_two_names_the_other_and_ends(worker, tmp_path, spawn, free_ports):
    """A process of its own: TensorFlow's wait for a missing worker can only be ended by SIGKILL."""
    make_shapes(tmp_path, train=8, val=2, hw=(64, 64), seed=3)
    ports, begin = free_ports(2), time.monotonic()
    alone = spawn(
        *(TRAIN_CASE, str(tmp_path / "run"), "1", *data_paths(tmp_path), 'distribution="multi_worker"'),
        **variables(ports, worker),
        START_SECONDS="3",
        KERAS_BACKEND="tensorflow",
    )
    absent = 1 - worker
    assert f"expected all 2 workers, worker {absent} (127.0.0.1:{ports[absent]}) did not come" in finish(alone, 2)
    assert time.monotonic() - begin < 60


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
    resolver = connect._find_cluster("mine.json")
    assert resolver.cluster_spec().as_dict() == {"worker": ["node3:8888", "node4:8888"]}
    assert (resolver.task_type, resolver.task_id) == ("worker", 1)


def test_the_watch_tells_who_does_not_answer(monkeypatch):
    monkeypatch.setattr(connect, "KNOCK_SECONDS", 0.05)
    monkeypatch.setattr(connect, "LOST_SECONDS", 0.2)
    given_up = []
    context = type("Context", (), {"abort_collective_ops": lambda self, code, message: given_up.append(message)})
    monkeypatch.setattr(connect.eager_context, "context", context)
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


ABORTED = """Graph execution error:

Detected at node allgather/CollectiveGatherV2 defined at (most recent call last):

Collective ops is aborted by: {reason}
The error could be from a previous operation. Restart your program to reset.
\t [[{{{{node allgather/CollectiveGatherV2}}}}]] [Op:__inference_gather_214]"""
UNHEALTHY = """Error reported from /job:worker/task:1: The following tasks are unhealthy (stopped sending heartbeats):
/job:worker/replica:0/task:1
The tasks have crashed. Check the task logs for an earlier error"""


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (UNHEALTHY, "worker 2 (b:1): expected a sign of life, received none for 120 s"),
        ("Deadline Exceeded\n\nRPC: /tensorflow.CoordinationService/Heartbeat", "worker 0 (a:1): expected a sign of"),
        ("Device 1 is joining a group", "received: Device 1 is joining a group"),
    ],
)
def test_what_tensorflow_says_of_a_frozen_worker_is_made_readable(reason, expected, monkeypatch):
    """Its port still answers; behind a chief the first task called worker is the second worker."""
    monkeypatch.setattr(connect, "_answers", lambda address: True)
    tasks = {"/job:chief/replica:0/task:0": 0, "/job:worker/replica:0/task:1": 2}
    watch = Watch({0: "a:1", 2: "b:1"}, tasks)
    error = tf.errors.InternalError(None, None, ABORTED.format(reason=reason))
    assert watch.explain(error).startswith(expected)


@pytest.mark.slow
def test_folders_that_are_not_shared_are_found_out(tmp_path, spawn, free_ports):
    make_shapes(tmp_path, train=8, val=2, hw=(64, 64), seed=3)
    ports = free_ports(2)
    pair = [
        spawn(
            *(TRAIN_CASE, str(tmp_path / str(worker) / "run"), "1", *data_paths(tmp_path)),
            'distribution="multi_worker"',
            **variables(ports, worker),
            KERAS_BACKEND="tensorflow",
        )
        for worker in range(2)
    ]
    for process in pair:
        assert "worker 1: expected the run folder of worker 0, received another one" in finish(process, 2)


@pytest.mark.slow
def test_a_worker_that_differs_is_named_by_all(tmp_path, spawn, free_ports):
    make_shapes(tmp_path, train=8, val=2, hw=(64, 64), seed=3)
    ports = free_ports(2)
    pair = [
        spawn(
            *(
                TRAIN_CASE,
                str(tmp_path / "run"),
                "1",
                *data_paths(tmp_path),
                'distribution="multi_worker"',
                f"train.seed={worker}",
            ),
            **variables(ports, worker),
            KERAS_BACKEND="tensorflow",
        )
        for worker in range(2)
    ]
    for process in pair:
        assert "worker 1: expected the configuration of worker 0, received another one" in finish(process, 2)
    assert not (tmp_path / "run").exists()
