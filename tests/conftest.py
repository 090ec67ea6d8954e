"""Shared fixtures: the folders of real images, processes and ports, reproducible random numbers, quiet TensorFlow.

The real images are not part of the project. `CENTERMASK_DATA` names their folder; without it `../shared/data` beside
the checkout is used. Tests that need a folder which is not there are skipped; one line at the end says how many.

With `CI` set (`.ci/run` sets it) a test that misses a package fails instead of being skipped.
"""

import gc
import os
import random
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from project_files import ROOT

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # has to be set before TensorFlow is imported

SEED = 317
SLOW_TIMEOUT = 1500  # seconds
MISSING_DATA = "real images not found"
MISSING_PACKAGE = "could not import"  # what pytest.importorskip says

# The same examples in every run, and no deadline: a busy machine must not fail a test.
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")


def _real_data_dir() -> Path:
    return ROOT / (os.environ.get("CENTERMASK_DATA") or ROOT.parent / "shared" / "data")


def _data_folder(name: str) -> Path:
    folder = _real_data_dir() / name
    if not folder.is_dir():
        pytest.skip(f"{MISSING_DATA}: expected a folder {folder}; set CENTERMASK_DATA to the folder that holds {name}")
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real images and of the published evaluator figures."""
    return _data_folder(".")


@pytest.fixture(scope="session")
def coco_tiny() -> Path:
    """16 COCO photos: `annotations/instances.json` and `images/`."""
    return _data_folder("coco_tiny")


@pytest.fixture(scope="session")
def coco_train() -> Path:
    """COCO train2017 photos with all 80 categories: `annotations/instances.json` and `images/`."""
    return _data_folder("coco_train")


@pytest.fixture(scope="session")
def nuclei_train() -> Path:
    """504 microscopy images, one category, up to 375 objects each: `annotations/instances.json` and `images/`."""
    return _data_folder("nuclei_train")


@pytest.fixture(scope="session")
def facades_train() -> Path:
    """464 photos of house fronts, 10 classes, crops of one photo: `annotations/instances.json` and `images/`."""
    return _data_folder("facades_train")


@pytest.fixture(scope="session")
def coco_eval_reference() -> Path:
    """COCO ground truth, results files and the published figures (`expected_stats.json`)."""
    return _data_folder("coco_eval_reference")


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen]]:
    """Start Python with arguments and variables of the environment; no process outlives the test."""
    processes = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen:
        processes.append(
            subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def free_ports() -> Callable[[int], list[int]]:
    """Find ports of this machine that nobody listens on."""

    def find(count: int) -> list[int]:
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
        ports = [each.getsockname()[1] for each in sockets]
        for each in sockets:
            each.close()
        return ports

    return find


@pytest.fixture(scope="session", autouse=True)
def _empty_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run the tests in an empty folder: a relative path never finds what a user left in the checkout."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("empty"))
    yield
    os.chdir(before)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Give every test the same random numbers, whatever ran before it."""
    random.seed(SEED)
    np.random.seed(SEED)
    if "keras" in sys.modules:  # do not import it for tests that have no use for it
        sys.modules["keras"].utils.set_random_seed(SEED)


@pytest.fixture(autouse=True)
def _released(request: pytest.FixtureRequest):
    """Release the networks of a slow test: models are reference cycles, and Python counts objects, not gigabytes."""
    yield
    if request.node.get_closest_marker("slow"):
        gc.collect()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests more time than `timeout` of pyproject.toml, unless they name their own."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """Fail the test of a missing package where everything has to be here."""
    report = yield
    if report.skipped and os.environ.get("CI") and MISSING_PACKAGE in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: {call.excinfo.value}; CI is set, so that no package may be missing"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why tests were skipped, in a line for each reason; missing images are one reason."""
    reasons = Counter(_reason(report) for report in terminalreporter.stats.get("skipped", []))
    for reason, count in reasons.items():
        terminalreporter.write_line(f"{count} {'test' if count == 1 else 'tests'} skipped: {reason}", yellow=True)


def _reason(report: pytest.TestReport) -> str:
    reason = report.longrepr[2].removeprefix("Skipped: ")
    if reason.startswith(MISSING_DATA):
        return f"{MISSING_DATA} in {_real_data_dir()}; CENTERMASK_DATA names their folder"
    return reason
