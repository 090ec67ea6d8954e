"""The commands of the README run as they stand, one after the other; smaller data and one epoch make them short."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from project_files import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
SHORTER = {"--train 400 --val 40": "--train 80 --val 8", "python train.py": "python train.py --set train.epochs=1"}
ELSEWHERE = ("make ", "git ", "pip ")  # of the environment, which these tests are in


def commands() -> list[str]:
    """Return the commands of the README's sections that use the package, in their order."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", README[README.index("## Try it") :], flags=re.MULTILINE | re.DOTALL)
    lines = [line for language, block in blocks if not language for line in block.splitlines()]
    return [line for line in lines if not line.startswith(ELSEWHERE)]


def run(line: str, folder: Path) -> str:
    for words, shorter in SHORTER.items():
        line = line.replace(words, shorter)
    program, *words = shlex.split(line)
    command = {"centermask": ["-m", "centermask_keras"], "python": []}[program]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command, *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_the_steps_of_the_readme_run_one_after_the_other(tmp_path):
    for name in ("train.py", "evaluate.py"):
        shutil.copy(ROOT / name, tmp_path)
    samples = Path("saved_models") / "nuclei" / "samples"
    shutil.copytree(ROOT / samples, tmp_path / samples)
    (configuration,) = re.findall(r"```json\n(.*?)```", README, flags=re.DOTALL)
    (tmp_path / "mine.json").write_text(configuration)
    printed = {line: run(line, tmp_path) for line in commands()}
    assert len(printed) == len(commands()) >= 9
    assert (tmp_path / "exported" / "mine" / "export.json").is_file()
    assert any("best possible mask AP" in text for text in printed.values())
    (program,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    program = program.replace("photo.jpg", str(next((tmp_path / "data" / "shapes" / "val").iterdir())))
    (tmp_path / "mine.json").write_text(configuration.replace('"changes": {', '"changes": {"train.epochs": 1,'))
    (tmp_path / "program.py").write_text(program)
    run("python program.py", tmp_path)
    assert (tmp_path / "out.png").is_file()
