"""Which files belong to the project: those that git tracks, or without git those of the source distribution.

What a user left in a checkout (runs, exported models, a configuration of one's own) is none of them, and no test looks
at it. A new file counts from `git add` on.
"""

import shutil
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@cache
def project_files(root: Path = ROOT) -> tuple[Path, ...]:
    """Return the paths of all files of the project, sorted.

    Args:
        root: a checkout, or an unpacked source distribution.

    Raises:
        FileNotFoundError: neither git nor the list of a source distribution says what belongs to the project.
    """
    names = _tracked(root) if (root / ".git").exists() and shutil.which("git") else _distributed(root)
    return tuple(path for path in sorted(root / name for name in names) if path.is_file())


def files_below(folder: str, suffix: str = "") -> list[Path]:
    """Return the project's files in a folder and in those inside of it, whose names end in `suffix`."""
    return [path for path in project_files() if (ROOT / folder) in path.parents and path.name.endswith(suffix)]


def files_in(folder: str, suffix: str = "") -> list[Path]:
    """Return the project's files in a folder, whose names end in `suffix`."""
    return [path for path in files_below(folder, suffix) if path.parent == ROOT / folder]


def _tracked(root: Path) -> list[str]:
    # The owner of a checkout that a container mounts is another user, which git alone would refuse.
    command = ["git", "-c", f"safe.directory={root}", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return listed.stdout.split("\0")[:-1]


def _distributed(root: Path) -> list[str]:
    """Read the list that setuptools makes for a source distribution, and when the package is installed editable."""
    lists = sorted(root.glob("*.egg-info/SOURCES.txt"))
    if not lists:
        raise FileNotFoundError(f"{root}: expected a git checkout or *.egg-info/SOURCES.txt; run `make install`")
    return lists[0].read_text(encoding="utf-8").splitlines()
