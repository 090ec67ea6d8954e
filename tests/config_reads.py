"""Which keys of the configuration a program reads: its sections are followed by annotations, returns and assignments.

`settings = config.train` and then `settings.epochs` reads `train.epochs`, if `config` is annotated as a configuration.
An attribute of something else, `path.name`, reads nothing.
"""

import ast
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import BaseModel

from centermask_keras import config as complete
from centermask_keras import inference_config as stored

Names = dict[str, set[str]]
"""What a name of the program may stand for: paths of sections, "" for the whole configuration."""
ROOTS = (complete.Config, stored.InferenceConfig)


def models_of(annotation: Any) -> list[type[BaseModel]]:
    """Name the models inside of an annotation: `Section`, `Section | None`, `Annotated[Section, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_of(argument)]


def join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def sections(model: type[BaseModel], path: str = "") -> dict[str, list[type[BaseModel]]]:
    """Return the models that stand at each path of a configuration."""
    found = {path: [model]}
    for key, field in model.model_fields.items():
        for inner in models_of(field.annotation):
            for place, models in sections(inner, join(path, key)).items():
                found.setdefault(place, []).extend(models)
    return found


SECTIONS = sections(ROOTS[0])
KEYS = {
    join(path, key) for path, models in SECTIONS.items() for model in models for key in model.model_fields
} - SECTIONS.keys()


def paths_of_annotations() -> Names:
    """Return the paths that each name of an annotation stands for, those of unions of sections included."""
    paths: dict[type[BaseModel], set[str]] = {}
    for root in ROOTS:
        for path, models in sections(root).items():
            for model in models:
                paths.setdefault(model, set()).add(path)
    return {
        name: set().union(*(paths[model] for model in models_of(value)))
        for module in (complete, complete.sections, stored)
        for name, value in vars(module).items()
        if models_of(value) and paths.keys() >= set(models_of(value))
    }


ANNOTATIONS = paths_of_annotations()


def annotated(node: ast.expr | None) -> set[str]:
    names = (inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)) if node else ()
    return set().union(*(ANNOTATIONS.get(name, ()) for name in names))


def followed(node: ast.expr, names: Names) -> set[str]:
    """Return the paths of the sections that an expression may be."""
    match node:
        case ast.Name(id=name):
            return names.get(name, set())
        case ast.Attribute(value=ast.Name(id="self"), attr=key) if f"self.{key}" in names:
            return names[f"self.{key}"]
        case ast.Attribute(attr="config"):  # of a detector, a predictor: all have the configuration under this name
            return {""}
        case ast.Attribute(value=base, attr=key):
            inside = {join(path, key) for path in followed(base, names)} & SECTIONS.keys()
            return inside or names.get(f"{key}()", set())  # a property is a function that returns a section
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return names.get(f"{name}()", set())
    return set()


def keys_of(paths: set[str]) -> set[str]:
    """Return the keys of the sections at some paths."""
    return {key for key in KEYS if key.rpartition(".")[0] in paths}


def bindings(node: ast.AST) -> Iterator[tuple[str, ast.expr | None, ast.expr | None]]:
    """Return what a node gives a name to: (name, annotation, value)."""
    match node:
        case ast.arg(arg=name, annotation=annotation):
            yield name, annotation, None
        case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
            yield from ((ast.unparse(target), None, value) for target, value in zip(targets, values, strict=True))
        case ast.Assign(targets=targets, value=value):
            yield from ((ast.unparse(target), None, value) for target in targets)
        case ast.For(target=target, iter=ast.Tuple(elts=values)):
            yield from ((ast.unparse(target), None, value) for value in values)
        case ast.AnnAssign(target=target, annotation=annotation, value=value):
            yield ast.unparse(target), annotation, value
        case ast.NamedExpr(target=target, value=value):
            yield ast.unparse(target), None, value


def learn(scope: ast.AST, seen: Names) -> Names:
    """Return the names that a scope sees together with those that it binds."""
    names = {name: set(paths) for name, paths in seen.items()}
    for _ in range(2):  # a name may be used above the line that binds it
        for node in ast.walk(scope):
            for name, annotation, value in bindings(node):
                found = annotated(annotation) | (followed(value, names) if value else set())
                names.setdefault(name, set()).update(found)
    return names


def scopes(body: Iterable[ast.stmt], names: Names) -> Iterator[tuple[ast.stmt, Names]]:
    """Return functions and other statements of a module or class, each with the names that it sees."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            fields = {f"self.{name}": annotated(note) for inner in node.body for name, note, _ in bindings(inner)}
            for inner in node.body:
                fields |= {name: paths for name, paths in learn(inner, names | fields).items() if name[:5] == "self."}
            yield from scopes(node.body, names | fields)
        else:
            yield node, learn(node, names)


def read_keys(trees: Iterable[ast.Module]) -> set[str]:
    """Return the paths of all attributes that are read of a section, whether the section has them or not."""
    trees = list(trees)
    functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    returns: Names = {}
    for node in functions:
        returns.setdefault(f"{node.name}()", set()).update(annotated(node.returns))
    read = set()
    for scope, names in (pair for tree in trees for pair in scopes(tree.body, returns)):
        for node in ast.walk(scope):
            match node:
                case ast.Attribute(value=base, attr=key, ctx=ast.Load()):
                    read |= {join(path, key) for path in followed(base, names)}
                case ast.Call(func=ast.Name(id="getattr"), args=[base, ast.Name(), *_]):  # each by its name
                    read |= keys_of(followed(base, names))
                case ast.Call(func=ast.Attribute(value=base, attr="named")):  # of losses: all, each by its name
                    read |= keys_of(followed(base, names))
    return read
