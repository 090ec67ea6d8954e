"""Everything is declared in pyproject.toml, except this: a wheel gets copies of configs/ and saved_models/."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithShippedFiles(build_py):
    """Copy what commands find by name into the package that is built (see `centermask_keras/shipped`)."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # finds them beside the package
            return
        for name in ("configs", "saved_models"):
            copy = Path(self.build_lib, "centermask_keras", "shipped", name)
            shutil.rmtree(copy, ignore_errors=True)  # of an earlier build
            shutil.copytree(Path(__file__).parent / name, copy, ignore=shutil.ignore_patterns("eval"))


setup(cmdclass={"build_py": BuildWithShippedFiles})
