"""The shape of the package: layers, where frameworks may be imported, a test for every module, sizes, names."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from project_files import ROOT, files_below, project_files

NAME = "centermask_keras"

# A module imports only what stands above it here, or what belongs to its own entry.
ORDER = (
    "errors",
    "packages",
    "shipped",
    "backend",
    "files",
    "outputs",
    "_cv2",
    "cores",
    "devices",
    "coco_categories",
    "config",
    "structures",
    "geometry",
    "masks",
    "visualize",
    "inference_config",
    "ops",
    "data",
    "backbones",
    "heads",
    "targets",
    "losses",
    "decode",
    "assemble",
    "detectors",
    "inference",
    "evaluation",
    "training",
    "importers",
    "export",
    "extra",
    "demo",
    "convert",
    "cli",
    "__main__",
)
# Stages that only the detectors connect: none of them imports another one.
INDEPENDENT = {"data", "backbones", "heads", "targets", "losses", "decode", "assemble"}
# What the core never loads: only these import it, inside of functions.
MAY_IMPORT_EXTRA = {"cli", "training.distribution", "export.saved_model"}
TENSORFLOW_ALLOWED = {"data", "export", "extra", "training"}
TENSORFLOW_RUNTIME = {"inference.runtimes.saved_model"}
FUSED = {"ops.batch_norm", "ops.grouped_conv", "ops.replicas"}  # call operations of TensorFlow under its backend
USES_CV2 = {"_cv2"}
USES_JAX = {"training.averaging", "inference.runtimes.keras"}
USES_TORCH = {"importers.checkpoint"}
WITHOUT_KERAS = {"errors", "packages", "shipped", "files", "outputs", "_cv2", "cores", "coco_categories", "config"}
WITHOUT_KERAS |= {"structures", "masks", "visualize", "inference_config", "data", "inference", "convert"}
KERAS_RUNTIME = {"inference.runtimes.keras"}

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 80
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
VAGUE_NAMES = {"common", "helper", "helpers", "manager", "misc", "util", "utils"}


@cache
def modules() -> dict[str, ast.Module]:
    """Parse every module of the package: dotted name below the package -> syntax tree."""
    found = {}
    for path in files_below(NAME, ".py"):
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


def extra_imports(module: str, tree: ast.AST) -> set[str]:
    """Name the modules of `extra` that a file imports inside of functions, where it may import any."""
    if not {module, entry(module)} & MAY_IMPORT_EXTRA:
        return set()
    functions = [node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]
    inside = {target for function in functions for target in own_imports(function)}
    outside = {target for node in outside_of_functions(tree) for target in own_imports(node)}
    return {target for target in inside - outside if entry(target) == "extra"}


def outside_of_functions(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the import statements that run when a file is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif not isinstance(node, FUNCTIONS):
            yield from outside_of_functions(node)


def test_rules_name_modules_that_exist():
    allowed = (
        MAY_IMPORT_EXTRA
        | TENSORFLOW_ALLOWED
        | TENSORFLOW_RUNTIME
        | KERAS_RUNTIME
        | FUSED
        | USES_CV2
        | USES_JAX
        | USES_TORCH
    )
    assert not ({*ORDER} | INDEPENDENT | WITHOUT_KERAS | allowed) - modules().keys()


def test_modules_import_only_what_stands_above_them():
    wrong = []
    for module, tree in modules().items():
        if not module:  # the package itself loads its public names lazily, by text
            continue
        assert entry(module) in ORDER, f"{module}: expected a place in ORDER"
        for target in own_imports(tree) - extra_imports(module, tree):
            above = ORDER.index(entry(target)) < ORDER.index(entry(module))
            if entry(target) != entry(module) and not above:
                wrong.append(f"{module} imports {target}")
    assert not wrong


def test_extra_is_imported_in_a_few_functions_only():
    wrong = []
    for module, tree in modules().items():
        if entry(module) != "extra":
            targets = {target for target in own_imports(tree) if entry(target) == "extra"}
            wrong += [f"{module} imports {target}" for target in targets - extra_imports(module, tree)]
    assert not wrong


def test_stages_do_not_import_each_other():
    wrong = [
        f"{module} imports {target}"
        for module, tree in modules().items()
        for target in own_imports(tree)
        if {entry(module), entry(target)} <= INDEPENDENT and entry(module) != entry(target)
    ]
    assert not wrong


def test_data_flows_from_files_to_samples_to_batches():
    floors = ("order", "files", "samples", "feeding")
    floor = {module: floors.index(module.split(".")[1]) for module in modules() if module.startswith("data.")}
    wrong = [
        f"{module} imports {target}"
        for module in floor
        for target in own_imports(modules()[module])
        if floor.get(target, -1) > floor[module]
    ]
    assert len(set(floor.values())) == len(floors) and not wrong


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
        ("keras", lambda module: module in KERAS_RUNTIME or (module and entry(module) not in WITHOUT_KERAS)),
        ("cv2", lambda module: module in USES_CV2),
        ("jax", lambda module: module in USES_JAX),
        ("torch", lambda module: module in USES_TORCH),
    ],
)
def test_framework_is_imported_only_where_allowed(framework, allowed):
    wrong = [
        module
        for module, tree in modules().items()
        if framework in {name.partition(".")[0] for name in imported_names(tree)} and not allowed(module)
    ]
    assert not wrong


def _test_files() -> list[Path]:
    return [path for path in files_below("tests", ".py") if path.name.startswith("test_")]


def test_every_module_with_a_function_is_imported_by_a_test():
    tested = set()
    for path in _test_files():
        tested |= own_imports(ast.parse(path.read_text(encoding="utf-8")))
    untested = {
        module
        for module, tree in modules().items()
        if module and module not in tested and any(isinstance(node, FUNCTIONS) for node in ast.walk(tree))
    }
    assert not untested


def test_test_files_have_unique_names():
    names = [path.name for path in _test_files()]
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


TEXT_SUFFIXES = {"", ".cc", ".csv", ".in", ".json", ".md", ".py", ".toml", ".txt"}


def text_files() -> Iterator[tuple[Path, str]]:
    """Read the project's own text files."""
    for path in project_files():
        if path.suffix in TEXT_SUFFIXES:
            yield path.relative_to(ROOT), path.read_text(encoding="utf-8")


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
