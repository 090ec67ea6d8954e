"""Workers: processes on several machines that train together, and what is said when one is missing.

Stage: extra, for `training/distribution.py`. `TF_CONFIG` or Slurm tells each worker who it is and where the others
are. They meet before TensorFlow starts (`rendezvous.py`). While they train, TensorFlow waits for one that died without
an end and without a word; a thread that knocks at the ports of the others puts that right.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import tensorflow as tf
from tensorflow.python.eager import context as eager_context  # has no public name

from centermask_keras.errors import CenterMaskError, ConfigError
from centermask_keras.extra.workers.rendezvous import meet, split_address

START_SECONDS = 300
"""For all workers to come: programs start at different speeds."""
LOST_SECONDS = 30
"""A worker that cannot be reached for so long is lost."""
KNOCK_SECONDS = 3
"""Between two attempts to reach the others; also what one attempt may take."""
HEARTBEAT_SECONDS = 120
"""TensorFlow's own patience with a worker that is there but says nothing; its 10 s are short for a busy machine."""
EXAMPLE = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
COLLECTIVE_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)
"""What a step raises when the collectives were given up: which one depends on where it stood."""
ABORTED = re.compile(r"Collective ops is aborted by: (.*?)\nThe error could be", re.DOTALL)


@dataclass
class Watch:
    """Knocks at the ports of the other workers, and gives the collectives up when one is lost.

    Attributes:
        peers: addresses `host:port` by the number of the worker.
        tasks: the numbers of all workers by what TensorFlow calls them.
        lost: what to say of the first one that was lost.
    """

    peers: dict[int, str]
    tasks: dict[str, int] = field(default_factory=dict)
    lost: str | None = None
    _seen: dict[int, float] = field(default_factory=dict)
    _closed: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Begin, once all workers are there."""
        self._seen = dict.fromkeys(self.peers, time.monotonic())
        threading.Thread(target=self._run, daemon=True, name="watch of workers").start()

    def close(self) -> None:
        """End: from here on workers may go."""
        self._closed.set()

    def missing(self) -> list[int]:
        """Return the workers that do not answer."""
        return [worker for worker, address in self.peers.items() if not _answers(address)]

    def explain(self, error: tf.errors.OpError) -> str:
        """Say what an error of the collectives comes from."""
        if self.lost:
            return self.lost
        if missing := self.missing():
            return f"{_names(self.peers, missing)}: expected to answer, received nothing; see what it printed"
        found = ABORTED.search(error.message)
        if found is None:
            return f"received: {str(error.message).strip().splitlines()[-1]}"
        if silent := self._silent(found[1]):
            return f"{_names(self.peers, silent)}: expected a sign of life, received none for {HEARTBEAT_SECONDS} s"
        return f"received: {found[1].splitlines()[0]}"

    def _silent(self, reason: str) -> list[int]:
        """Return the workers of whom TensorFlow says that they are there but frozen."""
        named = [self.tasks[line] for line in reason.splitlines() if line in self.tasks]
        silent = named if "heartbeats" in reason else [0] if "CoordinationService/Heartbeat" in reason else []
        return [worker for worker in silent if worker in self.peers]

    def _run(self) -> None:
        while not self._closed.wait(KNOCK_SECONDS):
            missing = self.missing()
            now = time.monotonic()
            self._seen |= {worker: now for worker in self.peers if worker not in missing}
            lost = [worker for worker in missing if now - self._seen[worker] > LOST_SECONDS]
            if lost and not self._closed.is_set():
                self.lost = f"{_names(self.peers, lost)}: expected to answer, lost for {LOST_SECONDS} s"
                eager_context.context().abort_collective_ops(tf.errors.UNAVAILABLE, self.lost)
                return


def connect_workers(name: str) -> tuple[tf.distribute.MultiWorkerMirroredStrategy, int, int, Watch]:
    """Meet the other workers; has to be the first thing that a process does with TensorFlow.

    Args:
        name: what errors call the configuration.

    Returns:
        Strategy, the number of this worker, the number of workers, and the watch of the others, not started.

    Raises:
        ConfigError: the environment names no workers.
        CenterMaskError: a worker did not come within `START_SECONDS`, or has other addresses; or a port is in use.
    """
    resolver = _find_cluster(name)
    spec, task = resolver.cluster_spec().as_dict(), (resolver.task_type, resolver.task_id)
    members = [(job, index, address) for job in ("chief", "worker") for index, address in enumerate(spec.get(job, ()))]
    numbers = {(job, index): number for number, (job, index, _) in enumerate(members)}
    if set(spec) - {"chief", "worker"} or task not in numbers:
        raise ConfigError(
            f"{name}: distribution: expected workers (and a chief) in TF_CONFIG, this process one of them, received "
            f"the jobs {', '.join(spec)} and the task {task[0]} {task[1]}"
        )
    worker, addresses = numbers[task], [address for _, _, address in members]
    _check_addresses(addresses)
    meet(addresses, worker, START_SECONDS)
    tasks = {f"/job:{job}/replica:0/task:{index}": number for (job, index), number in numbers.items()}
    watch = Watch({number: address for number, address in enumerate(addresses) if number != worker}, tasks)
    return _start(resolver), worker, len(addresses), watch


@contextmanager
def watch_workers(watch: Watch) -> Iterator[None]:
    """Watch the other workers as long as the context lasts.

    Raises:
        CenterMaskError: instead of an error of the collectives; says who was lost.
    """
    watch.start()
    try:
        yield
    except COLLECTIVE_ERRORS as error:
        raise CenterMaskError(
            f"expected all {len(watch.peers) + 1} workers until the end; {watch.explain(error)}. Start all of them "
            "again with the same command: they continue from the last saved state"
        ) from None
    finally:
        watch.close()


def _check_addresses(addresses: list[str]) -> None:
    for address in addresses:
        try:
            split_address(address)
        except ValueError:
            raise ConfigError(f"TF_CONFIG: expected addresses host:port, received {address!r}") from None


def _start(resolver: tf.distribute.cluster_resolver.ClusterResolver) -> tf.distribute.Strategy:
    """Start TensorFlow's server, which waits for those of the others."""
    _be_patient(resolver.cluster_spec().as_dict())
    # It has no deadline and holds Python's lock: a worker that died just now would be waited for without an end.
    faulthandler.dump_traceback_later(START_SECONDS, exit=True)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except (tf.errors.OpError, RuntimeError) as error:
        if "program startup" in str(error):
            raise CenterMaskError(
                "distribution multi_worker: expected to come before anything else in TensorFlow, received a process "
                "that has used it. Start a new one"
            ) from None
        raise CenterMaskError(
            f"expected TensorFlow to connect the workers, received: {str(error).splitlines()[0]}. See what the "
            "others printed, and start all of them again"
        ) from None
    finally:
        faulthandler.cancel_dump_traceback_later()


def _be_patient(spec: dict[str, list[str]]) -> None:
    """Set the times of TensorFlow's coordination, whose defaults the strategy would take otherwise."""
    job = eager_context.coordination_config_pb2.CoordinatedJob
    eager_context.context().configure_coordination_service(
        "standalone",
        service_leader=f"/job:{'chief' if 'chief' in spec else 'worker'}/replica:0/task:0",
        cluster_register_timeout_in_ms=START_SECONDS * 1000,
        heartbeat_timeout_in_ms=HEARTBEAT_SECONDS * 1000,
        coordinated_jobs=[job(name=name, num_tasks=len(addresses)) for name, addresses in spec.items()],
    )


def _find_cluster(name: str) -> tf.distribute.cluster_resolver.ClusterResolver:
    if os.environ.get("TF_CONFIG"):
        try:
            cluster = json.loads(os.environ["TF_CONFIG"])
            cluster["cluster"], cluster["task"]["type"], int(cluster["task"]["index"])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"TF_CONFIG: expected {EXAMPLE}, received {os.environ['TF_CONFIG']!r} ({error!r})"
            ) from None
        return tf.distribute.cluster_resolver.TFConfigClusterResolver()
    if os.environ.get("SLURM_PROCID"):
        return _read_slurm()
    raise ConfigError(
        f"{name}: distribution: expected TF_CONFIG or a step of Slurm (srun) in the environment for multi_worker, "
        "received neither"
    )


def _read_slurm() -> tf.distribute.cluster_resolver.ClusterResolver:
    """Read the environment of a step of Slurm; the GPUs of a host are shared out among its tasks."""
    options = {}
    if not tf.config.list_physical_devices("GPU"):  # the resolver insists on GPUs: let it count what it shall not use
        tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
        options = {"gpus_per_node": tasks, "gpus_per_task": 1, "auto_set_gpu": False}
    try:
        return tf.distribute.cluster_resolver.SlurmClusterResolver(**options)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"Slurm: expected the environment of a step (srun), received: {error}") from None


def _answers(address: str) -> bool:
    try:
        socket.create_connection(split_address(address), timeout=KNOCK_SECONDS).close()
    except OSError:
        return False
    return True


def _names(peers: dict[int, str], workers: list[int]) -> str:
    return ", ".join(f"worker {worker} ({peers[worker]})" for worker in workers)
