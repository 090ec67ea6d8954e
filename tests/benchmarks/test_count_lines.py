"""Lines of code are counted without what explains them."""

import subprocess
import sys
from pathlib import Path, PurePosixPath

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import count_lines

EXPLAINED = '''"""What it is.

More of it.
"""

import os  # a comment


class Point:
    """A point."""

    x: int
    """Where."""
    name: str = """of
    two lines"""


# another comment
def read(
    path,
):
    """Read."""

    return """# no comment

    """
'''


def test_docstrings_comments_and_blank_lines_are_no_code():
    assert count_lines.count_code(EXPLAINED) == 1 + 4 + 3 + 3
    assert count_lines.count_code("") == 0


def test_folders_are_added_up():
    files = ["a.py", "data/b.py", "data/c.py", "data/deep/d.py"]
    counts = count_lines.count_folders((PurePosixPath("centermask_keras", name), "x = 1\n") for name in files)
    assert counts == {"centermask_keras": 1, "centermask_keras/data": 3}
    lines = count_lines.format_table({"old": counts, "new": counts + counts}).splitlines()
    assert [line.split()[1:] for line in lines] == [
        ["old", "new"],
        ["1", "2", "+1"],
        ["3", "6", "+3"],
        ["4", "8", "+4"],
    ]


def test_every_file_of_the_package_is_counted():
    root = count_lines.ROOT
    found = {path.as_posix() for path, _ in count_lines.read_checkout(root)}
    assert "centermask_keras/__init__.py" in found and "centermask_keras/ops/nms.py" in found
    assert len(found) == len(list((root / "centermask_keras").rglob("*.py")))


def test_a_commit_is_counted_as_it_was(tmp_path):
    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words], cwd=tmp_path, check=True)

    file = tmp_path / "centermask_keras" / "ops" / "nms.py"
    file.parent.mkdir(parents=True)
    file.write_text("x = 1\n")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "one line")
    file.write_text("x = 1\ny = 2\n")
    counts = [count_lines.read_commit(tmp_path, "HEAD"), count_lines.read_checkout(tmp_path)]
    assert [count_lines.count_folders(files) for files in counts] == [
        {"centermask_keras/ops": 1},
        {"centermask_keras/ops": 2},
    ]
