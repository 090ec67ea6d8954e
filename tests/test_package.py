"""The package as installed: a light import, one version, and what `make` says about a Python it cannot use."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import centermask_keras

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
HEAVY = {"tensorflow", "keras", "jax", "torch", "cv2", "numpy", "pydantic"}


def modules_after(code: str) -> set[str]:
    """Run code in a fresh interpreter and name the packages that it has imported."""
    program = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_imports_no_framework():
    imported = modules_after("import centermask_keras")
    assert "centermask_keras" in imported
    assert not imported & HEAVY


def test_reading_a_configuration_imports_no_framework():
    imported = modules_after(
        "import centermask_keras; centermask_keras.load_config('configs/demo.json', ['train.epochs=1'])"
    )
    assert "pydantic" in imported
    assert not imported & {"tensorflow", "keras", "jax", "torch", "cv2"}


def test_the_public_names_import_no_framework():
    imported = modules_after("import centermask_keras as cm; cm.load, cm.build, cm.load_config, cm.train")
    assert not imported & {"tensorflow", "keras", "jax", "torch"}


@pytest.mark.parametrize("name", [name for name in centermask_keras.__all__ if name != "__version__"])
def test_public_names_are_there_and_documented(name):
    assert getattr(centermask_keras, name).__doc__


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'detect'"):
        _ = centermask_keras.detect


def test_version_is_that_of_the_project():
    assert centermask_keras.__version__ == PROJECT["version"]


def test_constraints_pin_every_dependency_within_its_range():
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    )
    pins = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    for text in PROJECT["dependencies"] + sum(PROJECT["optional-dependencies"].values(), []):
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[requirement.name]), requirement


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A checkout without an environment."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make as from a terminal, also when these tests run under make themselves."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True)


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@needs_make
@pytest.mark.parametrize("target", ["demo", "test"])
@pytest.mark.parametrize("version", ["3.10.13", "3.14.0"])
def test_make_names_the_python_it_cannot_use(checkout, target, version):
    python = checkout / "other-python"
    python.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "Python {version}" && exit 0\nexit 1\n')
    python.chmod(0o755)
    done = make(checkout, target, f"PYTHON={python}")
    assert done.returncode != 0
    assert f"expected Python 3.11, 3.12 or 3.13, received Python {version}" in done.stderr
    assert f"make PYTHON=python3.12 {target}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (checkout / ".venv").exists()


@needs_make
def test_make_says_when_there_is_no_python(checkout):
    done = make(checkout, "test", "PYTHON=no-such-python")
    assert done.returncode != 0
    assert 'expected Python 3.11, 3.12 or 3.13, received no command "no-such-python"' in done.stderr


@needs_make
def test_make_leaves_an_environment_that_is_up_to_date_alone(checkout):
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / ".installed").touch()
    done = make(checkout, "install", "PYTHON=no-such-python")
    assert done.returncode == 0, done.stderr
    (checkout / ".venv" / ".installed").unlink()
    assert make(checkout, "install", "PYTHON=no-such-python").returncode != 0


@needs_make
def test_make_alone_lists_the_targets():
    done = make(ROOT)
    assert done.returncode == 0
    assert {"make demo", "make test"} <= {" ".join(line.split()[:2]) for line in done.stdout.splitlines()}
