"""Tests look at the project alone: in a checkout where somebody worked, and in an unpacked source distribution."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from project_files import ROOT, project_files

GUARDS = [f"tests/test_{name}.py" for name in ("layout", "documents", "config_reads", "config", "ablations")]
BINARY = bytes(range(256))
HERE = "/" + "home/me"  # in parts, as this file is one of those that may not name such a path
LEFT_BY_A_USER = {
    "runs/mine/config.json": '{"about": "' + HERE + '"}',
    "runs/mine/events.out.tfevents.1": BINARY,
    "runs/mine/README.md": "[weights](gone.h5) `make model`",
    "exported/mine/mine_int8.tflite": BINARY,
    "exported/mine/1/fingerprint": BINARY,
    "exported/mine/export.json": '{"run": "' + HERE + '"}',
    "exported/mine/models.config.txt": BINARY,
    "configs/mine.json": '{"about": "", "mine": true}',
    "shards/train/annotations.json": "[]",
    "check/1.jpg": BINARY,
    "out/photo.json": BINARY,
    "photos/photo.jpg": BINARY,
    "my_train.json": "<<<<<<< mine",
}
VISIBLE_TO_GIT = {
    "configs/mine_too.json": "{}",
    "configs/ablations/9z_mine.json": "{}",
    "notebooks/look.ipynb": '{"cells": ["' + HERE + '"]}',
    "notebooks/plan.md": "[plan](gone.md) `make plan` `centermask plan --all`",
    "saved_models/mine/README.md": "configs/gone.json",
    "saved_models/nuclei/samples/mine.txt": BINARY,
    "tests/data/test_masks.py": "def f(:",
    "centermask_keras/utils.py": "import keras, gone\n" * 500,
}
BREAKS = {  # guard: (file, what stands there, what to write instead)
    "test_named_make_targets_exist": ("CONTRIBUTING.md", "make install ", "make model "),
    "test_named_files_of_code_exist": ("docs/architecture.md", "`heads/dense.py`", "`heads/thick.py`"),
    "test_links_lead_somewhere": ("CONTRIBUTING.md", "(docs/decisions.md", "(docs/gone.md"),
    "test_files_do_not_contain": ("docs/fidelity.md", "# ", f"# {HERE} "),
    "test_documented_commands_and_their_options_exist": ("docs/serving.md", "centermask client ", "centermask ask "),
    "test_paths_in_documented_commands_are_the_projects_or_ignored_by_git": (".gitignore", "/exported/\n", ""),
    "test_configs_readme_lists_every_configuration_and_no_other": ("configs/README.md", "| [`mobile", "| [`mo"),
    "test_rules_name_modules_that_exist": ("tests/test_layout.py", "ops.batch_norm", "ops.gone"),
    "test_framework_is_imported_only_where_allowed": ("centermask_keras/masks.py", "import numpy", "import keras"),
    "test_extra_is_imported_in_a_few_functions_only": (
        "centermask_keras/demo/run.py",  # stands below, so that no other rule is broken
        "from centermask_keras.errors",
        "from centermask_keras.extra.workers.connect import meet\nfrom centermask_keras.errors",
    ),
    "test_every_key_is_read": ("centermask_keras/config/sections.py", "    unit:", "    name: str\n    unit:"),
}
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def write(folder: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A checkout of its own, in which somebody has worked."""
    folder = tmp_path / "checkout"
    for path in project_files():
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    subprocess.run(["git", "add", "--all"], cwd=folder, check=True)
    write(folder, LEFT_BY_A_USER | VISIBLE_TO_GIT)
    return folder


def run_guards(folder: Path, guards: list[str]) -> tuple[int, str]:
    """Run the tests that look at a checkout on another one; return their status and what they print."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "GIT_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *guards],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def relative(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in project_files(root)}


@needs_git
def test_what_a_user_left_is_not_the_project_and_what_the_readme_names_is_not_seen_by_git(checkout):
    assert relative(checkout) == relative(ROOT)
    command = ["git", "ls-files", "--others", "--exclude-standard"]
    seen = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True).stdout.splitlines()
    assert set(seen) == set(VISIBLE_TO_GIT)


@needs_git
@pytest.mark.slow
def test_the_guards_pass_where_somebody_worked(checkout):
    status, printed = run_guards(checkout, GUARDS)
    assert status == 0, printed[-3000:]


@needs_git
@pytest.mark.slow
def test_the_guards_see_what_breaks_the_project(checkout):
    for name, before, after in BREAKS.values():
        text = (checkout / name).read_text()
        assert before in text, name
        (checkout / name).write_text(text.replace(before, after, 1))
    status, printed = run_guards(checkout, GUARDS[:3])
    assert set(re.findall(r"^FAILED \S+::(\w+)", printed, re.MULTILINE)) == BREAKS.keys()
    assert status == 1


@needs_git
def test_the_source_distribution_is_the_project(checkout, tmp_path):
    """Made where somebody worked, by the file names that the README gives; unpacked, its list says what it holds."""
    for name in VISIBLE_TO_GIT:
        (checkout / name).unlink()
    command = [sys.executable, "setup.py", "--quiet", "sdist", "--dist-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="data")
    unpacked = tmp_path / archive.name.removesuffix(".tar.gz")
    made = {name for name in relative(unpacked) if name.partition("/")[0].endswith(".egg-info")}
    assert relative(unpacked) - made == relative(ROOT)
    write(unpacked, LEFT_BY_A_USER)
    assert relative(unpacked) - made == relative(ROOT)
