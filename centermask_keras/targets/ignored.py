"""Where nothing is known: cells of a class that no loss may take for its absence, and none for its presence.

Stage: targets (training only). Two rules stand here, for all detectors: a crowd region hides its class, and of
partial labels, as those of LVIS, only the classes that the annotators of an image looked for are known to be absent.
Source: Gupta et al. 2019, "LVIS" (arXiv 1908.03195), Section 3: what is neither annotated nor listed is unknown.
"""

from __future__ import annotations

from keras import ops

from centermask_keras.structures import GroundTruth, Tensor
from centermask_keras.targets.saliency import class_planes_to_map

HALF_COVERED, WHOLLY_COVERED = 128, 255
"""Of 255: where a crowd region covers a cell by half, the cell is ignored. The saliency of a class that is not
known in an image is ignored but for the cells that an object covers wholly."""


def find_ignored_cells(batch: GroundTruth, num_classes: int) -> Tensor:
    """Return the cells whose negatives do not count when objects are found: bool [B, h, w, C].

    These are the cells that a crowd region of the class covers by half or more, and all cells of an unknown class.
    Positives count all the same.

    Args:
        batch: ground truth; `known_classes` and `known_valid` of partial labels only.
        num_classes: C.
    """
    ignored = _find_crowd(batch, num_classes)
    if "known_classes" in batch:
        ignored = ignored | find_unknown_classes(batch, num_classes)[:, None, None]
    return ignored


def find_ignored_saliency(batch: GroundTruth, coverage: Tensor) -> Tensor:
    """Return the cells whose saliency does not count: bool [B, h, w, C].

    These are the cells that a crowd region of the class covers by half or more, and of an unknown class all but those
    that an object covers wholly.

    Args:
        batch: ground truth; `known_classes` and `known_valid` of partial labels only.
        coverage: uint8 [B, h, w, C], 0..255, what the objects of each class cover of each cell.
    """
    num_classes = coverage.shape[-1]
    ignored = _find_crowd(batch, num_classes)
    if "known_classes" in batch:
        unknown = find_unknown_classes(batch, num_classes)[:, None, None]
        ignored = ignored | (unknown & (coverage < WHOLLY_COVERED))
    return ignored


def find_unknown_classes(batch: GroundTruth, num_classes: int) -> Tensor:
    """Return the classes of which an image may show objects that are not annotated: bool [B, C].

    Args:
        batch: of partial labels, with `known_classes` and `known_valid`.
        num_classes: C.
    """
    listed = batch["known_classes"][..., None] == ops.arange(num_classes, dtype="int32")  # [B, L, C]
    return ~ops.any(listed & batch["known_valid"][..., None], axis=1)


def _find_crowd(batch: GroundTruth, num_classes: int) -> Tensor:
    planes = (batch["ignore_planes"], batch["ignore_classes"], batch["ignore_valid"])
    return class_planes_to_map(*planes, num_classes) >= HALF_COVERED
