"""The sections of a configuration: every key, its type and what it means.

A section checks what concerns itself alone; what concerns several of them, `Config` checks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
CropScale = Annotated[float, Field(ge=0.05, le=20)]
SizeHW = tuple[PositiveInt, PositiveInt]

INPUT_MULTIPLES = {
    "dla34": 32,
    "dla_half": 32,
    "dla_small": 32,
    "hourglass104": 128,
    "hourglass_small": 64,
    "mobilenet_v3_small": 32,
    "mobilenet_v3_large": 32,
    "resnet_small": 32,
    "resnet50": 32,
    "resnet101": 32,
    "resnext101_32x8d": 32,
    "resnext101_64x4d": 32,
}
"""Height and width of a network's input are multiples of this: the stride of its deepest level, or 32."""
DEFORMABLE_BACKBONES = ("dla34", "dla_half", "dla_small")
"""What `model.deformable` has a meaning for."""

DIRECT_SALIENCY = "Direct supervision of the class-specific saliency (Section 4.1)"


class Section(BaseModel):
    """Objects of exactly these keys, which do not change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class _LossWeights(Section):
    """The weight of each loss in the sum. A loss that is not named, or is null, is off."""

    @model_validator(mode="after")
    def _any(self) -> _LossWeights:
        if not self.named():
            raise ValueError(f"expected at least one of {', '.join(type(self).model_fields)}, received none")
        return self

    @model_serializer(mode="wrap")
    def _named_alone(self, serialize: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return {name: weight for name, weight in serialize(self).items() if weight is not None}

    def named(self) -> dict[str, float]:
        """Return the weight of each loss that is trained, by its name, in the order of this class."""
        weights = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: weight for name, weight in weights.items() if weight is not None}


class CenterNetLossWeights(_LossWeights):
    """Eq. 6: the weight of each loss in the sum. A loss that is not named, or is null, is off."""

    heatmap: Weight | None = Field(None, description="Eq. 3")
    offset: Weight | None = Field(None, description="Eq. 4")
    size: Weight | None = Field(None, description="Eq. 5")
    mask: Weight | None = Field(None, description="Eq. 2")
    saliency: Weight | None = Field(None, description=DIRECT_SALIENCY)


class FcosLossWeights(_LossWeights):
    """The weights of the losses of FCOS, and of the masks (Section 4.3). One that is not named, or is null, is off."""

    classification: Weight | None = Field(None, description="Focal loss of the classes at every location")
    box: Weight | None = Field(None, description="Generalised IoU at the positive locations")
    centerness: Weight | None = Field(None, description="Cross entropy of the centerness at the positive locations")
    mask: Weight | None = Field(None, description="Eq. 2")
    saliency: Weight | None = Field(None, description=DIRECT_SALIENCY)


class _DetectorConfig(Section):
    """What all detectors have."""

    detector: Literal["centernet", "fcos"] = Field(
        description="How objects are found: as centre points (CenterNet), or by every location inside of them (FCOS)"
    )
    normalization: Literal["dataset", "image"] = Field(
        description="Colours by mean and deviation of COCO, or of each input (padding included)"
    )
    num_classes: PositiveInt = Field(description="Classes of the dataset")
    head_channels: PositiveInt = Field(
        description="Channels between the 3x3 and the 1x1 convolution of every head; FCOS: of pyramid and towers too"
    )
    shape_size: Annotated[int, Field(ge=2)] = Field(description="S: the side of the local shape")
    saliency: Literal["class_specific", "class_agnostic"] = Field(
        description="One map per class, supervised directly as well; or one for all, supervised through the mask"
    )
    mask_factors: Literal["both", "local_shape", "saliency"] = Field(
        description="The factors of Eq. 1: both (the method), or one alone (the paper's Table 1d)"
    )
    mask_size_train: Annotated[int, Field(ge=2)] = Field(description="M of the mask loss")
    mask_size_infer: Annotated[int, Field(ge=2)] = Field(description="M of the predicted masks")
    max_detections: PositiveInt = Field(description="K: detections read per image")
    dtype_policy: Literal["mixed_bfloat16", "float32"] = Field(description="Precision of the network")

    @property
    def input_multiple(self) -> int:
        """What height and width of the input are multiples of."""
        return INPUT_MULTIPLES[self.backbone]

    @model_validator(mode="after")
    def _saliency_to_supervise(self) -> _DetectorConfig:
        if self.loss_weights.saliency is None:
            return self
        for key, value, reason in (
            ("saliency", "class_agnostic", "it has no direct supervision"),
            ("mask_factors", "local_shape", "it has no saliency"),
        ):
            if getattr(self, key) == value:
                raise ValueError(
                    f"loss_weights.saliency: expected null or no such key with model.{key} {value} ({reason}), "
                    f"received {self.loss_weights.saliency}"
                )
        return self


class CenterNetConfig(_DetectorConfig):
    """The network and its inference graph: CenterMask on CenterNet."""

    detector: Literal["centernet"] = Field(description="Objects are found as centre points")
    backbone: Literal[
        "dla34",
        "dla_half",
        "dla_small",
        "hourglass104",
        "hourglass_small",
        "mobilenet_v3_small",
        "mobilenet_v3_large",
    ] = Field(
        description="DLA-34, one of half its width, or its small relative for a CPU; Hourglass-104 or its small "
        "relative; MobileNetV3 for devices"
    )
    deformable: bool = Field(description="Deformable convolutions (DCNv2) in the upsampling path of DLA")
    stride: Literal[4] = Field(description="Input pixels per feature map cell")
    loss_weights: CenterNetLossWeights = Field(description="The losses that are trained, and their weights in the sum")

    @property
    def takes_several_sizes(self) -> bool:
        """Whether the sizes of training inputs may differ from step to step: the maps of this detector have one."""
        return False

    @model_validator(mode="after")
    def _deformable_where_possible(self) -> CenterNetConfig:
        if self.deformable and self.backbone not in DEFORMABLE_BACKBONES:
            raise ValueError(f"deformable: expected false with backbone {self.backbone}, received true")
        return self

    @property
    def center_stride(self) -> int | None:
        """Input pixels per cell in which only one object of a class can have its centre; None where objects may share
        one."""
        return self.stride


class FcosConfig(_DetectorConfig):
    """The network and its inference graph: CenterMask on FCOS."""

    detector: Literal["fcos"] = Field(description="Objects are found by every location inside of them")
    backbone: Literal["resnet_small", "resnet50", "resnet101", "resnext101_32x8d", "resnext101_64x4d"] = Field(
        description="ResNet, ResNeXt, or a small relative for a CPU; a feature pyramid stands on it"
    )
    deformable: bool = Field(description="Deformable convolutions (DCNv2) in c3 to c5 of ResNet, c4 and c5 of ResNeXt")
    frozen_norm: bool = Field(description="Batch normalisation of the backbone stays as its weights have it")
    tower_depth: PositiveInt = Field(description="3x3 convolutions of each head before its last block")
    stride: Literal[4, 8] = Field(description="Input pixels per cell of the global saliency")
    least_score: Fraction = Field(description="Classes less probable than this at a location are not looked at")
    loss_weights: FcosLossWeights = Field(description="The losses that are trained, and their weights in the sum")

    @property
    def takes_several_sizes(self) -> bool:
        """Whether the sizes of training inputs may differ from step to step."""
        return True

    @property
    def center_stride(self) -> int | None:
        """As in `CenterNetConfig`: here objects may share a cell, the targets choose among them."""
        return None


ModelConfig = Annotated[CenterNetConfig | FcosConfig, Field(discriminator="detector")]


class DatasetConfig(Section):
    """One COCO-format dataset; paths are relative to the working directory."""

    annotations: str = Field(description="A json of COCO or LVIS")
    images: str = Field(description="The folder of its images, or of shards of them (centermask data shard)")


class AugmentationConfig(Section):
    """What training does to an image."""

    crop: Literal["random", "window", "none"] = Field(
        description="Random crop of the letterboxed image; random window at the image's own resolution; or neither: "
        "the whole image, letterboxed"
    )
    scale: tuple[CropScale, CropScale] = Field(description="Smallest and largest scale of the crop, step 0.1")
    flip: Probability = Field(description="Probability of mirroring left and right")
    flip_vertical: Probability = Field(description="Probability of mirroring top and bottom")
    invert: Probability = Field(description="Probability of a negative: dark for bright")
    color: Annotated[float, Field(ge=0, lt=1)] = Field(description="Brightness, contrast, saturation: 1 +- this")
    lighting: Weight = Field(description="Standard deviation of the PCA lighting")

    @model_validator(mode="after")
    def _ordered(self) -> AugmentationConfig:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale: expected [smallest, largest], received {list(self.scale)}")
        return self


class DataConfig(Section):
    """What is read and how it becomes batches."""

    train: DatasetConfig = Field(description="What is trained on")
    val: DatasetConfig = Field(description="What chooses the best weights")
    input_hw: SizeHW = Field(
        description="Height and width of the training input without multi_scale_hw, and of letterbox evaluation"
    )
    multi_scale_hw: Annotated[tuple[SizeHW, ...], Field(min_length=1)] | None = Field(
        description="Sizes of the training input, wide or square: a step takes one of them for images that are wide, "
        "turned for images that are high; null: input_hw for all"
    )
    max_objects: PositiveInt = Field(description="N: objects kept per image, in the order of the annotations")
    crowd: Literal["train", "ignore", "drop"] = Field(
        description="Crowd regions: trained as objects, neither object nor background, or not there"
    )
    on_error: Literal["stop", "skip"] = Field(description="An image that fails to decode during training")
    augmentation: AugmentationConfig = Field(description="What training does to an image")

    @model_validator(mode="after")
    def _wide(self) -> DataConfig:
        for height, width in self.multi_scale_hw or ():
            if height > width:
                raise ValueError(f"multi_scale_hw: expected no height above its width, received {[height, width]}")
        return self


class SaveConfig(Section):
    """When the state of a run is saved, from which it continues."""

    every: PositiveInt = Field(description="How many of the unit lie between two saves")
    unit: Literal["epochs", "steps", "minutes"] = Field(
        description="With steps and minutes the end of every epoch is saved as well"
    )


class TrainConfig(Section):
    """The optimisation."""

    batch_size: PositiveInt = Field(description="Images per step over all replicas")
    epochs: PositiveInt = Field(description="Passes over the training set, or multiples of steps_per_epoch")
    steps_per_epoch: PositiveInt | None = Field(description="Steps that count as an epoch; null: a pass over the set")
    optimizer: Literal["adam", "sgd"] = Field(description="Adam, or SGD with momentum 0.9")
    l2: Weight = Field(description="With SGD: l2 times each kernel is added to its gradient, before the momentum")
    learning_rate: PositiveFloat = Field(description="Before any drop")
    warmup_steps: Annotated[int, Field(ge=0)] = Field(
        description="Steps in which the rate rises from a third of learning_rate to all of it"
    )
    drop_epochs: tuple[PositiveInt, ...] = Field(description="The learning rate drops after these epochs")
    drop_factor: Fraction = Field(description="What each drop multiplies the learning rate with")
    ema_decay: Fraction | None = Field(description="Decay of the averaged weights that are evaluated and saved")
    clip_norm: PositiveFloat | None = Field(description="Largest global norm of the gradient")
    accumulation_steps: PositiveInt = Field(description="Steps whose gradients are averaged into one update")
    synchronized_norm: bool = Field(description="Batch normalisation by the statistics of the batch over all replicas")
    validate_every: PositiveInt = Field(description="Epochs between validations")
    patience: PositiveInt | None = Field(
        description="Training ends after this many validations in a row without a higher mask AP; null: never"
    )
    save: SaveConfig = Field(description="When the state of a run is saved, from which it continues")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(description="Decides initial weights, order and augmentation")

    @model_validator(mode="after")
    def _decay_of_sgd(self) -> TrainConfig:
        if self.optimizer == "adam" and self.l2 != 0:
            raise ValueError(f"l2: expected 0 with optimizer adam, received {self.l2}")
        return self


class EvalConfig(Section):
    """How images are read outside of training, and how masks are cut."""

    resize: Literal["letterbox", "turned", "keep"] = Field(
        description="To data.input_hw; the same, turned for images that lie the other way; or original size padded to "
        "a multiple"
    )
    batch_size: PositiveInt = Field(description="Images per step; 1 with turned and keep")
    mask_threshold: Fraction = Field(description="Mask probabilities above it are inside")
