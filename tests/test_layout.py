"""The shape of the package: layers, where frameworks may be imported, a test for every module, sizes, names."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NAME = "centermask_keras"

# A module imports only what stands above it here, or what belongs to its own entry.
ORDER = (
    "errors",
    "_cv2",
    "cores",
    "backend",
    "config",
    "structures",
    "geometry",
    "masks",
    "visualize",
    "objects",
    "inference_config",
    "ops",
    "data",
    "predictor",
    "backbones",
    "heads",
    "targets",
    "losses",
    "decode",
    "assemble",
    "detectors",
    "runtimes",
    "inference",
    "evaluation",
    "training",
    "importers",
    "export",
    "serving",
    "demo",
    "cli",
)
# Stages that only the detectors connect: none of them imports another one.
INDEPENDENT = {"data", "backbones", "heads", "targets", "losses", "decode", "assemble"}
TENSORFLOW_ALLOWED = {"data", "export", "serving", "training"}
TENSORFLOW_RUNTIME = {"runtimes.saved_model"}
FUSED = {"ops.batch_norm", "ops.grouped_conv", "ops.replicas"}  # call operations of TensorFlow under its backend
WITHOUT_KERAS = {"errors", "_cv2", "config", "structures", "masks", "visualize", "objects", "data", "predictor"}
WITHOUT_KERAS |= {"cores", "inference_config"}
WITHOUT_KERAS |= {"runtimes.saved_model", "runtimes.tflite", "runtimes.onnx", "runtimes.metadata", "inference"}

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 80
VAGUE_NAMES = {"common", "helper", "helpers", "manager", "misc", "util", "utils"}


@cache
def modules() -> dict[str, ast.Module]:
    """Parse every module of the package: dotted name below the package -> syntax tree."""
    found = {}
    for path in sorted((ROOT / NAME).rglob("*.py")):
        parts = path.relative_to(ROOT / NAME).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported_names(tree: ast.AST) -> Iterator[str]:
    """Name everything that a file imports at any depth: `from a.b import c` gives `a.b` and `a.b.c`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: expected an absolute import, received a relative one"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(tree: ast.AST) -> set[str]:
    """Name the modules of this package that a file imports, below the package."""
    below = {name.removeprefix(f"{NAME}.") for name in imported_names(tree) if name.startswith(f"{NAME}.")}
    return {name for name in below if name in modules()}


def entry(module: str) -> str:
    """Return the place of a module in ORDER: `data.images` -> `data`."""
    return module.partition(".")[0]


def test_modules_import_only_what_stands_above_them():
    wrong = []
    for module, tree in modules().items():
        if not module:  # the package itself loads its public names lazily, by text
            continue
        assert entry(module) in ORDER, f"{module}: expected a place in ORDER"
        for target in own_imports(tree):
            above = ORDER.index(entry(target)) < ORDER.index(entry(module))
            if entry(target) != entry(module) and not above:
                wrong.append(f"{module} imports {target}")
    assert not wrong


def test_stages_do_not_import_each_other():
    wrong = [
        f"{module} imports {target}"
        for module, tree in modules().items()
        for target in own_imports(tree)
        if {entry(module), entry(target)} <= INDEPENDENT and entry(module) != entry(target)
    ]
    assert not wrong


def test_modules_of_one_stage_do_not_import_in_a_circle():
    imports = {module: own_imports(tree) - {module} for module, tree in modules().items()}
    while leaves := [module for module, targets in imports.items() if not targets & imports.keys()]:
        for module in leaves:
            del imports[module]
    assert not imports


@pytest.mark.parametrize(
    ("framework", "allowed"),
    [
        ("tensorflow", lambda module: entry(module) in TENSORFLOW_ALLOWED or module in FUSED | TENSORFLOW_RUNTIME),
        ("keras", lambda module: module and not {module, entry(module)} & WITHOUT_KERAS),
        ("cv2", lambda module: module == "_cv2"),
        ("jax", lambda module: module in {"training.averaging", "runtimes.keras"}),
        ("torch", lambda module: module == "importers.checkpoint"),
    ],
)
def test_framework_is_imported_only_where_allowed(framework, allowed):
    wrong = [
        module
        for module, tree in modules().items()
        if framework in {name.partition(".")[0] for name in imported_names(tree)} and not allowed(module)
    ]
    assert not wrong


def test_every_module_with_a_function_is_imported_by_a_test():
    tested = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        tested |= own_imports(ast.parse(path.read_text(encoding="utf-8")))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    untested = {
        module
        for module, tree in modules().items()
        if module and module not in tested and any(isinstance(node, functions) for node in ast.walk(tree))
    }
    assert not untested


def test_test_files_have_unique_names():
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)


def test_files_and_functions_stay_readable():
    long = []
    for module, tree in modules().items():
        lines = max((node.end_lineno or 0 for node in ast.walk(tree) if isinstance(node, ast.stmt)), default=0)
        if lines > MAX_FILE_LINES:
            long.append(f"{module}: {lines} lines")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno > MAX_FUNCTION_LINES:
                long.append(f"{module}.{node.name}: {node.end_lineno - node.lineno} lines")
    assert not long


def test_module_names_say_what_is_inside():
    assert not {module for module in modules() if VAGUE_NAMES & set(module.split("."))}


def test_every_module_and_public_function_has_a_docstring():
    missing = [module for module, tree in modules().items() if ast.get_docstring(tree) is None]
    for module, tree in modules().items():
        missing += [
            f"{module}.{node.name}"
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
            and not node.name.startswith("_")
            and ast.get_docstring(node) is None
        ]
    assert not missing


def test_every_configuration_key_is_read():
    """A key that nothing reads is a switch without a wire."""
    classes = [
        node
        for module in ("config", "config.sections")
        for node in modules()[module].body
        if isinstance(node, ast.ClassDef)
    ]
    keys = {
        statement.target.id
        for node in classes
        for statement in node.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }
    assert {"model", "batch_size", "mask_threshold"} <= keys
    read = {
        node.attr if isinstance(node, ast.Attribute) else node.value
        for module, tree in modules().items()
        if entry(module) != "config"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
    }
    assert not keys - read - {"about"}  # for the reader of the file


SKIPPED_FOLDERS = set(".git .venv .pytest_cache .ruff_cache .hypothesis build dist runs data check out".split())
TEXT_SUFFIXES = {"", ".cfg", ".csv", ".json", ".md", ".py", ".sh", ".toml", ".txt", ".yml"}


def text_files() -> Iterator[tuple[Path, str]]:
    """Read the project's own text files."""
    for path in sorted(ROOT.rglob("*")):
        relative = path.relative_to(ROOT)
        top = relative.parts[0]
        generated = top in SKIPPED_FOLDERS or "__pycache__" in relative.parts or top.endswith(".egg-info")
        if path.is_file() and not generated and path.suffix in TEXT_SUFFIXES:
            yield relative, path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        ("a path of one machine", r"(?<![\w.:/-])/(?:Users|home|mnt|root|tmp|work)/\w"),
        ("unfinished work", r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b"),
        ("a package index", r"--(?:extra-)?index" r"-url|--find" r"-links"),
        ("a merge conflict", r"^(?:<{7}|>{7}) "),
    ],
)
def test_files_do_not_contain(what, pattern):
    found = [
        f"{path}: {match.group(0)}" for path, text in text_files() for match in re.finditer(pattern, text, re.MULTILINE)
    ]
    assert not found, f"expected no {what}"
