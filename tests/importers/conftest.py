"""A checkpoint and a detector of a small DLA with deformable convolutions, and its table of names."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from centermask_keras.config import load_config
from centermask_keras.detectors import build_detector
from centermask_keras.importers.kinds import KINDS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config():
    return load_config(
        ROOT / "configs" / "demo.json",
        ["model.deformable=true", "model.dtype_policy=float32", "model.head_channels=16", "model.shape_size=4"],
    )


@pytest.fixture
def detector(config):
    return build_detector(config.model)


@pytest.fixture
def kind():
    """`dla_small` has the layers of DLA-34 under the same names, only fewer."""
    return replace(KINDS["centernet-dla34"], backbones=("dla_small",))


@pytest.fixture
def tensors(detector):
    """Write the detector's shapes the way PyTorch does, by hand, with values that tell any two tensors apart."""
    heads = {"heatmap": "hm", "size": "wh", "offset": "reg"}
    rng = np.random.default_rng(1)
    state = {}

    def add(key, *shape):
        state[key] = rng.uniform(0.5, 1.5, shape).astype(np.float32)

    def add_norm(key, channels):
        for name in ("weight", "bias", "running_mean", "running_var"):
            add(f"{key}.{name}", channels)
        state[f"{key}.num_batches_tracked"] = np.array(7)

    def add_block(key, inputs, outputs):
        add(f"{key}.conv1.weight", outputs, inputs, 3, 3), add_norm(f"{key}.bn1", outputs)
        add(f"{key}.conv2.weight", outputs, outputs, 3, 3), add_norm(f"{key}.bn2", outputs)

    def add_deformable(key, inputs, outputs):
        add(f"{key}.conv.weight", outputs, inputs, 3, 3), add(f"{key}.conv.bias", outputs)
        add(f"{key}.conv.conv_offset_mask.weight", 27, inputs, 3, 3), add(f"{key}.conv.conv_offset_mask.bias", 27)
        add_norm(f"{key}.actf.0", outputs)

    add("base.base_layer.0.weight", 16, 3, 7, 7), add_norm("base.base_layer.1", 16)
    add("base.level0.0.weight", 16, 16, 3, 3), add_norm("base.level0.1", 16)
    for level, inputs, outputs in ((2, 16, 32), (3, 32, 64), (4, 64, 128)):
        (
            add(f"base.level{level}.project.0.weight", outputs, inputs, 1, 1),
            add_norm(f"base.level{level}.project.1", outputs),
        )
        add_block(f"base.level{level}.tree1", inputs, outputs), add_block(f"base.level{level}.tree2", outputs, outputs)
        add(f"base.level{level}.root.conv.weight", outputs, 2 * outputs + (inputs if level > 2 else 0), 1, 1)
        add_norm(f"base.level{level}.root.bn", outputs)
    for key, inputs, outputs, factor in (
        ("dla_up.ida_0.{}_1", 128, 64, 2),
        ("dla_up.ida_1.{}_1", 64, 32, 2),
        ("dla_up.ida_1.{}_2", 64, 32, 2),
        ("ida_up.{}_1", 64, 32, 2),
    ):
        add_deformable(key.format("proj"), inputs, outputs), add_deformable(key.format("node"), outputs, outputs)
        add(f"{key.format('up')}.weight", outputs, 1, 2 * factor, 2 * factor)
    for name, width in (("heatmap", 5), ("size", 2), ("offset", 2)):
        add(f"{heads[name]}.0.weight", 16, 32, 3, 3), add(f"{heads[name]}.0.bias", 16)
        add(f"{heads[name]}.2.weight", width, 16, 1, 1), add(f"{heads[name]}.2.bias", width)
    return state
