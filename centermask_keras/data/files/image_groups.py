"""Images of one scene -> groups that no split may divide: what was learned must not be among what is scored.

Stage: data. Three rules say that two images are of one group: a pattern of the user's for their names, Roboflow's
copies of one photo, and near-duplicates by content. A group is what hangs together over any of them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from centermask_keras.cores import count_cores
from centermask_keras.data.files.images import read_image
from centermask_keras.data.files.shards import ImageFile, ImageShards
from centermask_keras.data.files.storage import ImageFolder
from centermask_keras.errors import CenterMaskError

ROBOFLOW_COPY = re.compile(r"([^/\\]+)\.rf\.[^./\\]+\.[^./\\]+$")  # NAME.rf.HASH.jpg
QUANTILES = (0.02, 0.25, 0.5, 0.75, 0.98)
NEAR = 2.0  # grey levels


def group_by_name(names: list[str], pattern: str | None = None) -> list[list[int]]:
    """Group images by what their file names say.

    Args:
        names: file names, relative to the folder of images.
        pattern: a regular expression that is searched in each name; what its first group matches is the group. A name
            without a match is a group of its own.

    Returns:
        The groups as indices into `names`, by their first index: one file, Roboflow's copies of one photo, and what
        `pattern` joins.

    Raises:
        CenterMaskError: a pattern that is none, has no group or matches no name.
    """
    by_key: dict[Hashable, list[int]] = defaultdict(list)
    expression = None if pattern is None else _compile(pattern)
    matches = 0
    for index, name in enumerate(names):
        by_key["file", name].append(index)
        if copy := ROBOFLOW_COPY.search(name):
            by_key["copy", copy[1]].append(index)
        if expression is not None and (match := expression.search(name)) and match[1] is not None:
            by_key["pattern", match[1]].append(index)
            matches += 1
    if expression is not None and matches == 0:
        raise CenterMaskError(
            f"--group: expected a pattern that is found in file names such as {names[0]!r}, "
            f"received {pattern!r}, which is in none of {len(names):,}"
        )
    return join_groups(len(names), by_key.values())


def group_by_content(
    names: list[str],
    hw: np.ndarray,
    storage: ImageFolder | ImageShards,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[int]]:
    """Group near-duplicates: images of one size with nearly the same colours.

    Fields of one slide and frames of one camera look like that, copies of one photo as well. Images of two sizes are
    never of one group.

    Args:
        names: file names.
        hw: int [I, 2], their sizes.
        storage: where they are.
        progress: called with (images done, images in all).

    Returns:
        The groups as indices, by their first index.

    Raises:
        ImageError: an image that cannot be read.
    """
    colors = np.zeros((len(names), 3 * len(QUANTILES)))
    with ThreadPoolExecutor(count_cores()) as pool:  # decoding releases the interpreter lock
        for index, found in enumerate(pool.map(lambda name: describe_colors(storage.file(name)), names)):
            colors[index] = found
            if progress is not None:
                progress(index + 1, len(names))
    groups = []
    for size in np.unique(hw, axis=0):
        rows = np.flatnonzero((hw == size).all(axis=1))
        groups += [rows[group].tolist() for group in group_near_duplicates(colors[rows])]
    return sorted(groups)


def describe_colors(file: str | ImageFile) -> np.ndarray:
    """Return the colour quantiles of an image, float64 [15], grey levels."""
    image = read_image(file)
    places = np.array(QUANTILES) * (image.shape[0] * image.shape[1] - 1)
    quantiles = []
    for channel in range(3):
        counts = np.cumsum(np.bincount(image[..., channel].ravel(), minlength=256))
        low, high = (np.searchsorted(counts, rounded, side="right") for rounded in (np.floor(places), np.ceil(places)))
        quantiles.append(low + (high - low) * (places % 1))
    return np.stack(quantiles, axis=1).ravel()


def group_near_duplicates(descriptors: np.ndarray) -> list[list[int]]:
    """Group rows that are nearer than `NEAR` (root mean square), directly or over others."""
    left = np.arange(len(descriptors))
    groups = []
    while len(left):
        group, border, left = [], [left[0]], left[1:]
        while border:
            index = border.pop()
            group.append(int(index))
            near = np.sqrt(((descriptors[left] - descriptors[index]) ** 2).mean(axis=-1)) < NEAR
            border += left[near].tolist()
            left = left[~near]
        groups.append(sorted(group))
    return groups


def join_groups(count: int, groups: Iterable[list[int]]) -> list[list[int]]:
    """Join groups of the indices 0 to `count` - 1 that share one, and give every other index a group of its own.

    Returns:
        The groups, each rising, by their first index.
    """
    first = list(range(count))  # a smaller index of the same group, or itself

    def find(index: int) -> int:
        while first[index] != index:
            first[index] = first[first[index]]
            index = first[index]
        return index

    for group in groups:
        for index in group:
            low, high = sorted((find(group[0]), find(index)))
            first[high] = low
    members: dict[int, list[int]] = defaultdict(list)
    for index in range(count):
        members[find(index)].append(index)
    return list(members.values())


def _compile(pattern: str) -> re.Pattern:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise CenterMaskError(f"--group: expected a regular expression, received {pattern!r}: {error}") from None
    if expression.groups == 0:
        raise CenterMaskError(
            f"--group: expected a pattern with a group, such as '(.+)_crop', received {pattern!r}; "
            f"set what names of one group have in common in parentheses"
        )
    return expression
