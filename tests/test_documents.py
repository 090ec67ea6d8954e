"""The documents hold: links lead somewhere, commands exist, every configuration is listed."""

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
from project_files import ROOT, files_below, files_in, project_files
from typer.main import get_command

DOCUMENTS = files_below(".", ".md")
CONFIGS = files_in("configs", ".json")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def without_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def anchors(text: str) -> set[str]:
    """Name the anchors that a renderer gives the headings of a document."""
    headings = re.findall(r"^#+ +(.+?) *$", without_code(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_there_are_documents():
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/fidelity.md"} <= {name_of(path) for path in DOCUMENTS}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document):
    places = {place for path in project_files() for place in (path, *path.parents)}
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(document.read_text(encoding="utf-8"))):
        if re.match(r"https?://", link):
            continue
        file, _, anchor = link.partition("#")
        target = (document.parent / file).resolve() if file else document
        if target not in places or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_named_files_of_code_exist(document):
    names = set(re.findall(r"`([\w.]+/[\w./]+\.py)\b", without_code(document.read_text(encoding="utf-8"))))
    assert not {name for name in names if not {ROOT / name, ROOT / "centermask_keras" / name} & {*project_files()}}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_named_make_targets_exist(document):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    assert {"demo", "test"} <= targets
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", document.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert named <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_named_configurations_exist(document):
    named = re.findall(r"configs/(\w+)\.json", document.read_text(encoding="utf-8"))
    placeholders = {"mine", "NAME"}  # the reader's own
    assert set(named) - placeholders <= {path.stem for path in CONFIGS}


def documented_commands(documents: Iterable[Path] = DOCUMENTS) -> list[str]:
    """List what documents tell a reader to type to this package, each once."""
    found = set()
    for document in documents:
        text = document.read_text(encoding="utf-8")
        lines = [
            line for block in re.findall(r"```\w*\n(.*?)```", text, flags=re.DOTALL) for line in block.splitlines()
        ]
        snippets = lines + re.findall(r"`([^`\n]+)`", without_code(text))
        found |= {
            s.strip() for s in snippets if re.match(r"centermask [a-z-]|python (?:train|evaluate)\.py ", s.strip())
        }
    return sorted(found)


def test_documents_name_commands():
    assert {"centermask config --schema", "python evaluate.py --run runs/mine"} <= set(documented_commands())


@pytest.mark.parametrize("line", documented_commands())
def test_documented_commands_and_their_options_exist(line):
    from centermask_keras.cli import app

    words = shlex.split(
        line.replace("python train.py", "centermask train").replace("python evaluate.py", "centermask evaluate")
    )
    command, words = get_command(app), words[1:]
    while hasattr(command, "commands") and not words[0].startswith("--"):
        assert words[0] in command.commands
        command, words = command.commands[words[0]], words[1:]
    options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_paths_in_documented_commands_are_the_projects_or_ignored_by_git(tmp_path):
    commands = documented_commands([ROOT / "README.md", *files_in("docs", ".md")])
    words = {word for line in commands for word in shlex.split(line)[1:] if "=" not in word}
    paths = {word for word in words if re.search(r"^\w[^:]*(/|\.[a-z]\w+$)", word)}
    assert {"mine.json", "exported/mine", "my_train.json", "out/", "photos/*.jpg", "shards/train"} <= paths
    places = {place for path in project_files() for place in (path, *path.parents)}
    others = {path for path in paths if ROOT / path not in places}
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    command = ["git", "check-ignore", "--stdin"]
    done = subprocess.run(command, cwd=tmp_path, input="\n".join(others), capture_output=True, text=True)
    visible = others - set(done.stdout.splitlines())
    assert not visible


def test_readme_names_make_demo_and_make_test_on_the_first_screen():
    first_screen = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:40]
    assert {"make demo", "make test"} <= {line.partition("#")[0].strip() for line in first_screen}


def test_readme_tells_the_two_papers_of_this_name_apart_in_its_first_paragraph():
    first = (ROOT / "README.md").read_text(encoding="utf-8").split("\n\n")[1]
    assert "2004.04446" in first and "1911.06667" in first


def test_configs_readme_lists_every_configuration_and_no_other():
    rows = re.findall(
        r"^\| \[`(\w+)\.json`\]", (ROOT / "configs" / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(rows) == [path.stem for path in CONFIGS]


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_configurations_say_what_they_are_about(path):
    assert len(json.loads(path.read_text(encoding="utf-8"))["about"]) > 20


def test_every_dependency_is_explained():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = project["dependencies"] + sum(project["optional-dependencies"].values(), [])
    decisions = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
    assert not [
        name for name in (re.match(r"[\w-]+", text).group() for text in requirements) if f"`{name}`" not in decisions
    ]


def test_changelog_begins_with_this_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert headings[0] == version
