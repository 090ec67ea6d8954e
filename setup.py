"""Everything is declared in pyproject.toml, except this: a wheel gets copies of configs/ and saved_models/."""

import shutil
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class BuildWithShippedFiles(build_py):
    """Copy what commands find by name into the package that is built (see `centermask_keras/shipped`)."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # finds them beside the package
            return
        for name in ("configs", "saved_models"):
            shutil.rmtree(self._copies / name, ignore_errors=True)  # of an earlier build
            for path in find_files(name):
                copy = self._copies / path
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / path, copy)

    @property
    def _copies(self) -> Path:
        return Path(self.build_lib, "centermask_keras", "shipped")


def find_files(folder: str) -> list[Path]:
    """Return the files of a folder that are the project's, not what a user left there; paths from the checkout."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        command = ["git", "-c", f"safe.directory={ROOT.resolve()}", "ls-files", "-z", folder]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return [Path(name) for name in listed.stdout.split("\0") if name]
    files = [path.relative_to(ROOT) for path in sorted((ROOT / folder).rglob("*")) if path.is_file()]
    return [path for path in files if "eval" not in path.parts]  # what `centermask evaluate` leaves beside a model


setup(cmdclass={"build_py": BuildWithShippedFiles})
