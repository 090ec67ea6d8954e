"""A missing package is named as it is installed, not as it is imported."""

import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from centermask_keras.export.formats import FORMATS
from centermask_keras.extra.serving.client import GRPC_MODULES
from centermask_keras.packages import PACKAGES, install_hint

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_a_package_is_named_after_its_module_or_by_the_table():
    assert install_hint(ModuleNotFoundError(name="onnxruntime")) == "pip install onnxruntime"
    assert install_hint(ModuleNotFoundError(name="tensorflow_serving.apis")) == "pip install tensorflow-serving-api"


def test_modules_of_the_same_task_are_named_where_they_are_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "grpc", None)
    error = ModuleNotFoundError(name="tensorflow_serving")
    assert install_hint(error, ("grpc", "tensorflow_serving", "json")) == "pip install tensorflow-serving-api grpcio"


@pytest.mark.parametrize("module", [*PACKAGES, "grain", "requests", "onnx", "onnxruntime", "tf2onnx", "keras"])
def test_the_names_are_those_of_the_installed_packages(module):
    assert PACKAGES.get(module, module) in packages_distributions()[module]


def test_the_modules_of_the_extras_are_packages_of_the_extras():
    extras = PROJECT["optional-dependencies"]
    known = {re.match(r"[\w-]+", text).group() for name in ("export", "serving") for text in extras[name]}
    modules = {*GRPC_MODULES, *(module for row in FORMATS.values() for module in row.modules)}
    assert {PACKAGES.get(module, module) for module in modules} - {"grpcio"} <= known
