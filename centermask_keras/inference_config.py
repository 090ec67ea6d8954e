"""The part of a configuration that prediction and evaluation read: what an exported file carries.

The same paths as in `Config`, fewer keys, milder rules. Who runs a model has no use for the way it was trained (nor for
the folders that its data lay in), and a file that was exported once stays readable: keys of later versions are passed
over, and a key that comes later has a default here.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from centermask_keras.config import Config
from centermask_keras.config.sections import Fraction, PositiveInt, SizeHW

SCORE_THRESHOLD = 0.3
"""Objects that score less are not shown unless somebody asks for them."""


class _Stored(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, allow_inf_nan=False, from_attributes=True)


class InferenceModelConfig(_Stored):
    """The inference graph."""

    num_classes: PositiveInt = Field(description="Classes")
    input_multiple: PositiveInt = Field(description="Height and width of the input are multiples of this")
    max_detections: PositiveInt = Field(description="K: rows per image")


class InferenceDataConfig(_Stored):
    """How images are read."""

    input_hw: SizeHW = Field(
        description="Height and width of the input with letterbox; with turned, of wide or high images"
    )
    on_error: Literal["stop", "skip"] = Field(description="An image that fails to decode during an evaluation")


class InferenceEvalConfig(_Stored):
    """How images are brought to the network, and how masks are cut."""

    resize: Literal["letterbox", "turned", "keep"] = Field(
        description="To data.input_hw; the same, turned for images that lie the other way; or original size padded to "
        "a multiple"
    )
    batch_size: PositiveInt = Field(description="Images per step of an evaluation")
    mask_threshold: Fraction = Field(description="Mask probabilities above it are inside")


class InferenceConfig(_Stored):
    """What prediction and evaluation read."""

    model: InferenceModelConfig
    data: InferenceDataConfig
    eval: InferenceEvalConfig

    @property
    def network_hw(self) -> tuple[int | None, int | None]:
        """Height and width of the network's input; None where the image decides."""
        return self.data.input_hw if self.eval.resize == "letterbox" else (None, None)


def to_inference_config(config: Config) -> InferenceConfig:
    """Take what prediction and evaluation read out of a complete configuration."""
    return InferenceConfig.model_validate(config)
