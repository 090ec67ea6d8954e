"""The configuration: one complete JSON file per experiment, strict and typed.

Every key must be present and no other is allowed, so that a file says everything about an experiment and a misspelt
key is an error instead of a silent default.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from centermask_keras.errors import ConfigError

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
}
"""Height and width of a network's input are multiples of this: the stride of its deepest level, or 32."""
DEFORMABLE_BACKBONES = ("dla34", "dla_half", "dla_small")
"""What `model.deformable` has a meaning for."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class ModelConfig(_Section):
    """The network and its inference graph."""

    detector: Literal["centernet"] = Field(description="How objects are found: as centre points")
    normalization: Literal["dataset", "image"] = Field(
        description="Colours by mean and deviation of COCO, or of each input (padding included)"
    )
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
    num_classes: PositiveInt = Field(description="Classes of the dataset")
    head_channels: PositiveInt = Field(description="Channels between the 3x3 and the 1x1 convolution of every head")
    stride: Literal[4] = Field(description="Input pixels per feature map cell")
    shape_size: Annotated[int, Field(ge=2)] = Field(description="S: the side of the local shape")
    saliency: Literal["class_specific", "class_agnostic"] = Field(
        description="One map per class, supervised directly as well; or one for all, supervised through the mask"
    )
    mask_factors: Literal["both", "local_shape", "saliency"] = Field(
        description="The factors of Eq. 1: both (the method), or one alone (the paper's Table 1d)"
    )
    mask_size_train: Annotated[int, Field(ge=2)] = Field(description="M of the mask loss")
    mask_size_infer: Annotated[int, Field(ge=2)] = Field(description="M of the predicted masks")
    max_detections: PositiveInt = Field(description="K: peaks read per image")
    dtype_policy: Literal["mixed_bfloat16", "float32"] = Field(description="Precision of the network")

    @property
    def input_multiple(self) -> int:
        """What height and width of the input are multiples of."""
        return INPUT_MULTIPLES[self.backbone]

    @model_validator(mode="after")
    def _deformable_where_possible(self) -> ModelConfig:
        if self.deformable and self.backbone not in DEFORMABLE_BACKBONES:
            raise ValueError(f"deformable: expected false with backbone {self.backbone}, received true")
        return self


class DatasetConfig(_Section):
    """One COCO-format dataset; paths are relative to the working directory."""

    annotations: str = Field(description="A json of COCO or LVIS")
    images: str = Field(description="The folder of its images")


class AugmentationConfig(_Section):
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


class DataConfig(_Section):
    """What is read and how it becomes batches."""

    train: DatasetConfig = Field(description="What is trained on")
    val: DatasetConfig = Field(description="What chooses the best weights")
    input_hw: SizeHW = Field(description="Height and width of the training input (and of letterbox evaluation)")
    max_objects: PositiveInt = Field(description="N: objects kept per image, in the order of the annotations")
    crowd: Literal["train", "ignore", "drop"] = Field(
        description="Crowd regions: trained as objects, neither object nor background, or not there"
    )
    on_error: Literal["stop", "skip"] = Field(description="An image that fails to decode during training")
    augmentation: AugmentationConfig = Field(description="What training does to an image")


class SaveConfig(_Section):
    """When the state of a run is saved, from which it continues."""

    every: PositiveInt = Field(description="How many of the unit lie between two saves")
    unit: Literal["epochs", "steps", "minutes"] = Field(
        description="With steps and minutes the end of every epoch is saved as well"
    )


class TrainConfig(_Section):
    """The optimisation."""

    batch_size: PositiveInt = Field(description="Images per step over all replicas")
    epochs: PositiveInt = Field(description="Passes over the training set")
    learning_rate: PositiveFloat = Field(description="Of Adam, before any drop")
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


class LossWeights(_Section):
    """Eq. 6: the weight of each loss in the sum."""

    heatmap: Weight = Field(description="Eq. 3")
    offset: Weight = Field(description="Eq. 4")
    size: Weight = Field(description="Eq. 5")
    mask: Weight = Field(description="Eq. 2")
    saliency: Weight = Field(description="Direct supervision of the class-specific saliency; 0 if class-agnostic")


class EvalConfig(_Section):
    """How images are read outside of training, and how masks are cut."""

    resize: Literal["letterbox", "keep"] = Field(description="To data.input_hw, or original size padded to a multiple")
    batch_size: PositiveInt = Field(description="Images per step; 1 with keep")
    mask_threshold: Fraction = Field(description="Mask probabilities above it are inside")


class Config(_Section):
    """A complete configuration."""

    about: str = Field(description="One line for the reader")
    distribution: Literal["none", "mirrored", "multi_worker"] = Field(
        description="Train on one device; on all of this machine; or on those of several machines (TF_CONFIG or Slurm)"
    )
    model: ModelConfig = Field(description="The network and its inference graph")
    data: DataConfig = Field(description="What is read and how it becomes batches")
    train: TrainConfig = Field(description="The optimisation")
    loss_weights: LossWeights = Field(description="Eq. 6: the weight of each loss in the sum")
    eval: EvalConfig = Field(description="How images are read outside of training, and how masks are cut")

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        multiple = self.model.input_multiple
        if any(side % multiple for side in self.data.input_hw):
            raise ValueError(
                f"data.input_hw: expected multiples of {multiple} (model.backbone {self.model.backbone}), "
                f"received {list(self.data.input_hw)}"
            )
        cells = self.grid_hw[0] * self.grid_hw[1]
        if self.model.max_detections > cells:
            raise ValueError(
                f"model.max_detections: expected at most {cells} (the cells of data.input_hw), "
                f"received {self.model.max_detections}"
            )
        if self.model.saliency == "class_agnostic" and self.loss_weights.saliency != 0:
            raise ValueError(
                "loss_weights.saliency: expected 0 with model.saliency class_agnostic "
                f"(it has no direct supervision), received {self.loss_weights.saliency}"
            )
        if self.model.mask_factors == "local_shape" and self.loss_weights.saliency != 0:
            raise ValueError(
                "loss_weights.saliency: expected 0 with model.mask_factors local_shape "
                f"(it has no saliency), received {self.loss_weights.saliency}"
            )
        if self.eval.resize == "keep" and self.eval.batch_size != 1:
            raise ValueError(
                "eval.batch_size: expected 1 with eval.resize keep (images differ in size), "
                f"received {self.eval.batch_size}"
            )
        return self

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Height and width of the training feature map in cells."""
        height, width = self.data.input_hw
        return height // self.model.stride, width // self.model.stride

    def to_json(self) -> str:
        """Return the text that `parse_config` reads back to an equal configuration."""
        return self.model_dump_json(indent=2) + "\n"


def check_files(config: Config, source: str, splits: Iterable[str] = ("train", "val")) -> None:
    """Check that the files and folders which a configuration names are there.

    Raises:
        ConfigError: `SOURCE: data.train.annotations: expected a file, received ...`, one line per path.
    """
    lines = []
    for split in splits:
        dataset = getattr(config.data, split)
        if not Path(dataset.annotations).is_file():
            lines.append(f"{source}: data.{split}.annotations: expected a file, received {dataset.annotations}")
        if not Path(dataset.images).is_dir():
            lines.append(f"{source}: data.{split}.images: expected a folder, received {dataset.images}")
    if lines:
        raise ConfigError("\n".join(lines))


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a configuration file and apply overrides.

    Args:
        path: JSON file with every key of `Config`.
        overrides: `"a.b=v"` strings; `v` is read as JSON and, if it is none, taken as text.

    Raises:
        ConfigError: `FILE: json.path: expected ..., received ...`, one line per mistake.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{path}: expected a readable JSON configuration, received: {reason}") from None
    return parse_config(text, source=str(path), overrides=overrides)


def parse_config(text: str, *, source: str, overrides: Iterable[str] = ()) -> Config:
    """Build a `Config` from JSON text; `source` names it in errors (see `load_config`)."""
    try:
        values = json.loads(text, object_pairs_hook=lambda pairs: _unique(pairs, source))
    except RecursionError:
        raise ConfigError(f"{source}: expected JSON, received one that is nested too deeply") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise ConfigError(f"{source}: {where}: expected JSON, received: {error.msg}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: expected a JSON object, received {type(values).__name__}")
    for override in overrides:
        _override(values, override, source)
    try:
        # Through JSON again: strict mode then takes a list for a tuple, and still no text for a number.
        return Config.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(source, problem) for problem in error.errors())) from None


def _unique(pairs: list[tuple[str, Any]], source: str) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"{source}: {key}: expected each key once, received it {keys.count(key)} times")
    return dict(pairs)


def _override(values: dict[str, Any], override: str, source: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set {override}: expected a.b=value")
    section: Any = values
    *parents, key = path.split(".")
    for parent in parents:
        section = section.get(parent) if isinstance(section, Mapping) else None
    if not isinstance(section, dict) or key not in section:
        raise ConfigError(f"--set {override}: {path}: expected a key of {source}; no such key")
    try:
        section[key] = json.loads(text)
    except (ValueError, RecursionError):
        section[key] = text


def _explain(source: str, problem: Mapping[str, Any]) -> str:
    path = ".".join(str(part) for part in problem["loc"])
    received = json.dumps(problem["input"]) if not isinstance(problem["input"], Mapping) else "an object"
    match problem["type"]:
        case "missing":
            return f"{source}: {path}: expected this key, received none"
        case "extra_forbidden":
            return f"{source}: {path}: unknown key (received {received}); expected only the keys of `config --schema`"
        case "value_error":  # one of the validators above; its message already says expected and received
            message = str(problem["ctx"]["error"])
            return f"{source}: {path + '.' if path else ''}{message}"
        case _:
            expected = problem["msg"].removeprefix("Input should be ")
            return f"{source}: {path}: expected {expected}, received {received}"
