"""The data dictionary: what travels between the stages, with keys, dtypes, shapes and units.

Axis letters: `B` batch, `H, W` input, `h, w` feature map, `C` classes, `N` padded objects, `K` detections, `S` local
shape side, `M` mask grid side, `P` saliency planes, `Q` ignore planes, `L` known classes. Boxes are continuous `xyxy`
in input pixels: pixel i covers [i, i + 1).
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, NotRequired, TypedDict, get_args, get_origin, get_type_hints

Tensor = Any
"""A tensor of the active Keras backend, or a NumPy array where a docstring says so."""


class GroundTruth(TypedDict):
    """One training batch, as the input pipeline makes it; N may differ from batch to batch.

    Each key stands with its dtype and shape. Rows where `valid` is False hold zeros.
    """

    image: Annotated[Tensor, "uint8 [B, H, W, 3]"]
    """RGB."""
    boxes: Annotated[Tensor, "float32 [B, N, 4]"]
    """Corners, xyxy, in input pixels, clipped to the input."""
    classes: Annotated[Tensor, "int32 [B, N]"]
    """Contiguous from 0."""
    valid: Annotated[Tensor, "bool [B, N]"]
    masks: Annotated[Tensor, "uint8 [B, N, M, M]"]
    """Coverage 0..255 of the M x M cells of the object's own box."""
    saliency_planes: Annotated[Tensor, "uint8 [B, P, h, w]"]
    """Coverage 0..255 of the union of the masks of one class."""
    saliency_classes: Annotated[Tensor, "int32 [B, P]"]
    """The class of each plane."""
    saliency_valid: Annotated[Tensor, "bool [B, P]"]
    ignore_planes: Annotated[Tensor, "uint8 [B, Q, h, w]"]
    """Coverage 0..255 of the crowd regions of one class."""
    ignore_classes: Annotated[Tensor, "int32 [B, Q]"]
    ignore_valid: Annotated[Tensor, "bool [B, Q]"]
    transform: Annotated[Tensor, "float32 [B, 4]"]
    """(sx, sy, tx, ty) from original to input pixels."""
    image_hw: Annotated[Tensor, "int32 [B, 2]"]
    """Original size."""
    image_id: Annotated[Tensor, "int64 [B]"]
    """As in the dataset."""
    position: Annotated[Tensor, "int64 [B]"]
    """Place in the endless order of samples."""
    known_classes: NotRequired[Annotated[Tensor, "int32 [B, L]"]]
    """The classes of which all objects in the image are annotated. Of the others (partial labels) nothing is
    known where no object is. Not there if all classes are of that kind (COCO)."""
    known_valid: NotRequired[Annotated[Tensor, "bool [B, L]"]]


@cache
def ground_truth_forms() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return dtype and axes of each key of `GroundTruth`: numbers, or letters as above."""
    forms = {}
    for name, hint in get_type_hints(GroundTruth, include_extras=True).items():
        form = hint if get_origin(hint) is Annotated else get_args(hint)[0]  # without NotRequired
        dtype, _, axes = get_args(form)[1].partition(" ")
        forms[name] = dtype, tuple(axes.strip("[]").split(", "))
    return forms


class Outputs(TypedDict):
    """What the network gives for a batch of images."""

    heatmap_logits: Tensor
    """float32 [B, h, w, C]."""
    saliency_logits: Tensor
    """float32 [B, h, w, C] if class-specific, [B, h, w, 1] if class-agnostic."""
    features: Tensor
    """compute dtype [B, h, w, F], what the point heads read."""
    intermediate: list[Outputs]
    """What the stacks before the last one give, in their order. Only in networks of several stacks, for the losses."""


class FcosOutputs(TypedDict):
    """What the network of CenterMask on FCOS gives for a batch of images; lists go from P3 to P7."""

    class_logits: list[Tensor]
    """float32 [B, h, w, C] of each level."""
    distances: list[Tensor]
    """float32 [B, h, w, 4] of each level, at least 0: left, top, right, bottom from the cell's centre, in strides."""
    centerness_logits: list[Tensor]
    """float32 [B, h, w, 1] of each level."""
    saliency_logits: Tensor
    """As in `Outputs`, of the configured stride."""
    features: list[Tensor]
    """compute dtype [B, h, w, F] of each level, what the last block of the local shape reads."""


class PointOutputs(TypedDict):
    """What the point heads give at K (or N) cells of each image."""

    offset: Tensor
    """float32 [B, K, 2], (x, y) in cells from the cell's corner to the object's centre."""
    size: Tensor
    """float32 [B, K, 2], (w, h) in cells."""
    local_shape_logits: Tensor
    """float32 [B, K, S * S], rows first."""


class Targets(TypedDict):
    """What the losses compare with."""

    heatmap: Tensor
    """float32 [B, h, w, C] in [0, 1], exactly 1 at centres."""
    cells: Tensor
    """int32 [B, N], i * w + j of the cell that holds the centre; 0 where not valid."""
    offset: Tensor
    """float32 [B, N, 2], as in `PointOutputs`."""
    size: Tensor
    """float32 [B, N, 2], as in `PointOutputs`."""
    valid: Tensor
    """bool [B, N]."""


class FcosTargets(TypedDict):
    """What the losses of FCOS compare with, at the T locations of all levels (geometry/locations.py)."""

    objects: Tensor
    """int32 [B, T], the object that a location answers for; 0 where not positive."""
    positive: Tensor
    """bool [B, T]."""
    classes: Tensor
    """int32 [B, T], of that object."""
    distances: Tensor
    """float32 [B, T, 4], as in `FcosOutputs`; 0 where not positive."""
    centerness: Tensor
    """float32 [B, T] in [0, 1]; 0 where not positive."""


class Detections(TypedDict):
    """The output of the inference graph, of fixed size. Rows where `valid` is False carry no meaning."""

    boxes: Tensor
    """float32 [B, K, 4], xyxy in input pixels."""
    scores: Tensor
    """float32 [B, K] in [0, 1], falling."""
    classes: Tensor
    """int32 [B, K]."""
    valid: Tensor
    """bool [B, K]."""
    masks: Tensor
    """float32 [B, K, M, M], probabilities on the grid of each box."""
