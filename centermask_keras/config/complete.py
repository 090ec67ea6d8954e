"""The complete configuration: its sections, and what has to agree between them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Literal

from pydantic import Field, model_validator

from centermask_keras.config.sections import DataConfig, EvalConfig, ModelConfig, Section, TrainConfig
from centermask_keras.errors import ConfigError, shorten


class Config(Section):
    """A complete configuration."""

    about: str = Field(description="One line for the reader")
    distribution: Literal["none", "mirrored", "multi_worker"] = Field(
        description="Train on one device; on all of this machine; or on those of several machines (TF_CONFIG or Slurm)"
    )
    model: ModelConfig = Field(description="The network, its losses and its inference graph")
    data: DataConfig = Field(description="What is read and how it becomes batches")
    train: TrainConfig = Field(description="The optimisation")
    eval: EvalConfig = Field(description="How images are read outside of training, and how masks are cut")

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        multiple, detector = self.model.input_multiple, self.model.detector
        if self.data.multi_scale_hw and not self.model.takes_several_sizes:
            raise ValueError(
                f"data.multi_scale_hw: expected null with model.detector {detector} (its maps have one size), received "
                f"{len(self.data.multi_scale_hw)} sizes"
            )
        sizes = {"input_hw": [self.data.input_hw], "multi_scale_hw": self.data.multi_scale_hw or ()}
        for key, hw in ((key, hw) for key, several in sizes.items() for hw in several):
            if any(side % multiple for side in hw):
                raise ValueError(
                    f"data.{key}: expected multiples of {multiple} (model.backbone {self.model.backbone}), "
                    f"received {list(hw)}"
                )
        cells = self.grid_hw[0] * self.grid_hw[1]
        if self.model.center_stride and self.model.max_detections > cells:
            raise ValueError(
                f"model.max_detections: expected at most {cells} (the cells of data.input_hw), "
                f"received {self.model.max_detections}"
            )
        if self.eval.resize != "letterbox" and self.eval.batch_size != 1:
            raise ValueError(
                f"eval.batch_size: expected 1 with eval.resize {self.eval.resize} (images differ in size), "
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
        if not os.path.exists(dataset.annotations):  # of a folder the reader says what it is
            lines.append(
                f"{source}: data.{split}.annotations: expected a file, received {shorten(dataset.annotations)}"
            )
        if not os.path.isdir(dataset.images):
            lines.append(f"{source}: data.{split}.images: expected a folder, received {shorten(dataset.images)}")
    if lines:
        raise ConfigError("\n".join(lines))
