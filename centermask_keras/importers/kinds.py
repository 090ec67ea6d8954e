"""The checkpoints that can be imported: one table of names for each kind.

Stage: importers.
Source: names of the tensors as in the released checkpoints of CenterNet (github.com/xingyizhou/CenterNet), DLA
(github.com/ucbdrive/dla) and torchvision (github.com/pytorch/vision).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

NEVER_USED = "outer projection of a two-level tree: the release computes it and never reads it"
CLASSIFIER = "classifier of ImageNet"
COUNTER = "counter of batches: not needed with a fixed momentum"
MASKS = "not part of CenterNet: keeps its initial value"
UNTRAINED = "not part of the classifier: keeps its initial value"
OFFSETS = "offsets of a deformable convolution, which begins as the plain one: keeps its initial value"


@dataclass(frozen=True)
class Kind:
    """A kind of checkpoint. All patterns are regular expressions, matched from the beginning of a name.

    Attributes:
        backbones: values of `model.backbone` that it fits.
        renames: pattern of a tensor's name and what takes its place, applied one after another; the result, with `_`
            for `.`, names a variable of the detector (see `find_slots`).
        left_out: pattern of tensors that are not wanted, and why.
        initial: pattern of variables that the checkpoint has nothing for, and why.
        colors: what the first convolution was trained on: BGR by the statistics of COCO, or RGB by those of ImageNet.
        first: the first convolution and its normalisation, as variables are named.
        classes: what the heads were trained on, None without heads.
    """

    backbones: tuple[str, ...]
    renames: tuple[tuple[str, str], ...]
    left_out: tuple[tuple[str, str], ...]
    initial: tuple[tuple[str, str], ...]
    colors: Literal["bgr_coco", "rgb_imagenet"]
    first: tuple[str, str]
    classes: Literal["coco"] | None = None


HEADS = ((r"(\d_)?hm\.", r"\1heatmap."), (r"(\d_)?wh\.", r"\1size."), (r"(\d_)?reg\.", r"\1offset."))
KINDS = {
    "centernet-dla34": Kind(
        backbones=("dla34",),
        renames=HEADS,
        left_out=((r"base\.level[34]\.project\.", NEVER_USED), (r"base\.fc\.", CLASSIFIER)),
        initial=((r"saliency_|local_shape_logits_", MASKS),),
        colors="bgr_coco",
        first=("base_base_layer_0", "base_base_layer_1"),
        classes="coco",
    ),
    "centernet-hourglass": Kind(
        backbones=("hourglass104",),
        renames=(
            (r"(hm|wh|reg)\.(\d)\.0\.conv\.", r"\1.\2.0."),
            (r"(hm|wh|reg)\.(\d)\.1\.(weight|bias)", r"\1.\2.2.\3"),
            (r"(hm|wh|reg)\.0\.(\d)\.", r"0_\1.\2."),
            (r"(hm|wh|reg)\.1\.(\d)\.", r"\1.\2."),
            *HEADS,
        ),
        left_out=(),
        initial=((r"(0_)?(saliency_|local_shape_logits_)", MASKS),),
        colors="bgr_coco",
        first=("pre_0_conv", "pre_0_bn"),
        classes="coco",
    ),
    "dla34-imagenet": Kind(
        backbones=("dla34",),
        renames=((r"(base_layer|level\d)\.", r"base.\1."),),
        left_out=((r"level[34]\.project\.", NEVER_USED), (r"fc\.", CLASSIFIER)),
        initial=((r"(?!base_)", UNTRAINED),),
        colors="rgb_imagenet",
        first=("base_base_layer_0", "base_base_layer_1"),
    ),
    "torchvision-resnet": Kind(
        backbones=("resnet50", "resnet101", "resnext101_32x8d", "resnext101_64x4d"),
        renames=(),
        left_out=((r"fc\.", CLASSIFIER),),
        initial=((r"layer\d_\d+_conv2_conv_offset_mask_", OFFSETS), (r"(?!conv1_|bn1_|layer\d_)", UNTRAINED)),
        colors="rgb_imagenet",
        first=("conv1", "bn1"),
    ),
}
