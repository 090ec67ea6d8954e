"""The distributions: the source distribution holds tests that run, and a wheel what its commands need."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from project_files import files_below, files_in

ROOT = Path(__file__).parents[1]
PARTS = "centermask_keras configs saved_models tests docs benchmarks .ci .gitignore MANIFEST.in Makefile".split()
PARTS += "CHANGELOG.md CONTRIBUTING.md LICENSE NOTICE README.md constraints.txt evaluate.py pyproject.toml".split()
PARTS += "requirements-edge.txt setup.py train.py".split()

pytestmark = pytest.mark.slow


def call(*arguments: str | Path, cwd: Path, path: Path) -> str:
    """Run Python in a folder, with one folder of packages before the installed ones."""
    environment = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source: Path, what: str) -> Path:
    """Build `sdist` or `wheel` of a source tree, with the setuptools at hand and without a network."""
    code = f"from setuptools import build_meta; print(build_meta.build_{what}('made'))"
    return source / "made" / call("-c", code, cwd=source, path=source).splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The unpacked source distribution, built from a copy: a build leaves files behind."""
    copy, unpacked = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("sdist")
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)
    (copy / "saved_models" / "nuclei" / "eval").mkdir(exist_ok=True)
    (copy / "saved_models" / "nuclei" / "eval" / "detections.json").write_text("[]")  # what `evaluate` leaves there
    with tarfile.open(build(copy, "sdist")) as archive:
        archive.extractall(unpacked, filter="data")
    return next(unpacked.iterdir())


@pytest.fixture(scope="module")
def wheel(sdist):
    return build(sdist, "wheel")


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder of packages with the wheel in it."""
    folder = tmp_path_factory.mktemp("packages")
    options = ["--no-index", "--no-deps", "--quiet", "--disable-pip-version-check", "--target", folder]
    call("-m", "pip", "install", *options, wheel, cwd=folder, path=folder)
    return folder


def test_the_guards_pass_in_the_unpacked_source_distribution(sdist):
    guards = ["tests/test_layout.py", "tests/test_documents.py", "tests/test_package.py"]
    printed = call("-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", *guards, cwd=sdist, path=sdist)
    assert " passed" in printed and "failed" not in printed


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_wheel_of_a_checkout_holds_nothing_that_a_user_left_there(tmp_path):
    for path in (*files_in("."), *(path for part in ("centermask_keras", "configs") for path in files_below(part))):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    for command in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    for name in ("configs/mine.json", "configs/ablations/mine.json", "saved_models/private/model.weights.h5"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    with zipfile.ZipFile(build(tmp_path, "wheel")) as archive:
        names = set(archive.namelist())
    assert "centermask_keras/shipped/configs/dla34.json" in names
    assert not {name for name in names if "mine" in name or "private" in name}


def test_a_wheel_holds_the_shipped_files_and_nothing_that_is_not_the_package(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    nuclei = ROOT / "saved_models" / "nuclei"
    files = [*files_below("configs", ".json"), *files_in("saved_models/nuclei/samples")]
    files += [nuclei / name for name in ("config.json", "model.weights.h5", "run.json", "README.md")]
    assert {f"centermask_keras/shipped/{path.relative_to(ROOT).as_posix()}" for path in files} <= names
    assert not [name for name in names if "/eval/" in name]
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"centermask_keras"}


def test_an_installed_wheel_works_in_an_empty_folder(installed, tmp_path):
    copies = installed / "centermask_keras" / "shipped"
    shown = call("-m", "centermask_keras", "config", "--show", "dla34", cwd=tmp_path, path=installed)
    assert json.loads(shown)["model"]["backbone"] == "dla34"
    sample = copies / "saved_models" / "nuclei" / "samples" / "fluorescence.png"
    arguments = ["predict", "--model", "nuclei", sample, "--out", "out"]
    assert " in 1 images" in call("-m", "centermask_keras", *arguments, cwd=tmp_path, path=installed)
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())["images"][0]["objects"]) >= 20
    code = (
        "import centermask_keras as cm; from centermask_keras import shipped; model = cm.load('nuclei');"
        "print(cm.__file__, *shipped.configs().values(), *shipped.models().values(), sep='\\n')"
    )
    used = call("-c", code, cwd=tmp_path, path=installed).splitlines()
    assert len(used) > 10 and all(Path(name).is_relative_to(installed) for name in used)
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
