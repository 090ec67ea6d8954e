"""The configurations and models that come with the package, by name.

Stage: before the configuration. A clone has them beside the package (`configs/`, `saved_models/`); a wheel has copies
in this folder, which the build makes (`setup.py`).
"""

from __future__ import annotations

import os
from pathlib import Path

from centermask_keras.errors import CenterMaskError, ConfigError, shorten

COPIES = Path(__file__).parent
CHECKOUT = COPIES.parents[1]


def configs() -> dict[str, Path]:
    """Return the shipped configurations: name (`dla34`, `ablations/1a_shape_size_24`) -> file."""
    folder = _folder("configs")
    files = [*sorted(folder.glob("*.json")), *sorted(folder.glob("ablations/*.json"))]
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}


def models() -> dict[str, Path]:
    """Return the shipped models: name -> run folder."""
    return {path.parent.name: path.parent for path in sorted(_folder("saved_models").glob("*/model.weights.h5"))}


def find_config(given: str | Path) -> Path:
    """Return the file of a configuration.

    Args:
        given: a path, or the name of a shipped configuration; a file that exists wins over a name.

    Raises:
        ConfigError: neither; lists the names.
    """
    path = Path(given)
    if os.path.isfile(path):  # False as well where the name is too long to be a file's
        return path
    named = configs()
    if str(given) in named:
        return named[str(given)]
    reason = "a folder" if os.path.isdir(path) else "No such file or directory"
    raise ConfigError(
        f"{shorten(str(given))}: expected a readable JSON configuration, received: {reason}. "
        f"Names of shipped configurations: {', '.join(named)}"
    )


def find_model(given: str | Path) -> Path:
    """Return the run folder or exported model of a path or a name.

    Args:
        given: a path, or the name of a shipped model; a path that exists wins over a name.

    Raises:
        CenterMaskError: neither; lists the names.
    """
    path = Path(given)
    if os.path.exists(path):
        return path
    named = models()
    if str(given) in named:
        return named[str(given)]
    raise CenterMaskError(
        f"{shorten(str(given))}: expected a run folder or an exported model, received none. "
        f"Names of shipped models: {', '.join(named)}"
    )


def _folder(name: str) -> Path:
    copy = COPIES / name
    return copy if copy.is_dir() else CHECKOUT / name
