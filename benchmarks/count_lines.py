"""Count the lines of code of the package by folder: without docstrings, comments and blank lines.

    python benchmarks/count_lines.py --against 7efeff8

A string that stands alone is a docstring, also below an attribute.
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import tarfile
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
NAME = "centermask_keras"
NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def count_code(text: str) -> int:
    """Return how many lines of a Python file hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, node.end_lineno + 1))
    return len(lines)


def count_folders(files: Iterator[tuple[PurePosixPath, str]]) -> Counter[str]:
    """Add up the files of each folder of the package; the folder of a file beside them is the package itself."""
    counts: Counter[str] = Counter()
    for path, text in files:
        counts["/".join(path.parts[:2]) if len(path.parts) > 2 else NAME] += count_code(text)
    return counts


def read_checkout(root: Path) -> Iterator[tuple[PurePosixPath, str]]:
    """Read the package's files as they are on disk: path from the root, text."""
    for path in sorted((root / NAME).rglob("*.py")):
        yield PurePosixPath(path.relative_to(root).as_posix()), path.read_text(encoding="utf-8")


def read_commit(root: Path, commit: str) -> Iterator[tuple[PurePosixPath, str]]:
    """Read the package's files of a commit."""
    content = subprocess.run(["git", "archive", commit, NAME], cwd=root, check=True, stdout=subprocess.PIPE).stdout
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            if member.name.endswith(".py"):
                yield PurePosixPath(member.name), archive.extractfile(member).read().decode()


def format_table(columns: dict[str, Counter[str]]) -> str:
    """Return a line per folder and their sum; of two columns the difference as well."""
    first, last = list(columns.values())[0], list(columns.values())[-1]
    rows = [(folder, [counts[folder] for counts in columns.values()]) for folder in sorted({*first, *last})]
    rows.append(("all", [counts.total() for counts in columns.values()]))
    lines = [f"{'folder':30}" + "".join(f"{title:>14}" for title in columns)]
    for folder, numbers in rows:
        change = f"{numbers[1] - numbers[0]:>+14,}" if len(numbers) == 2 else ""
        lines.append(f"{folder:30}" + "".join(f"{number:>14,}" for number in numbers) + change)
    return "\n".join(lines)


def main() -> None:
    """Parse, count, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commit", help="count this commit; default: the files on disk")
    parser.add_argument("--against", help="a commit to print beside it")
    arguments = parser.parse_args()
    columns = {arguments.against: count_folders(read_commit(ROOT, arguments.against))} if arguments.against else {}
    files = read_commit(ROOT, arguments.commit) if arguments.commit else read_checkout(ROOT)
    columns[arguments.commit or "on disk"] = count_folders(files)
    print(format_table(columns))


if __name__ == "__main__":
    main()
