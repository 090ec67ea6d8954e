"""Our networks give what the published CenterNet networks give, with weights that come in through the importer.

The figures in `centernet.npz` are those of PyTorch (`centernet_reference.py`); `rule.py` says how both sides make the
same weights and the same image. 1,000 values, mean, deviation and largest magnitude of every output are compared.
"""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from parity.rule import compare, make_image, make_tensor

from centermask_keras.config import load_config
from centermask_keras.detectors import build_detector
from centermask_keras.importers.convert import assign, convert
from centermask_keras.importers.kinds import COUNTER, KINDS, NEVER_USED
from centermask_keras.ops.gather_patches import gather_patches

CONFIGS = Path(__file__).parents[2] / "configs"
REFERENCE = dict(np.load(Path(__file__).parent / "centernet.npz"))
SHAPES = json.loads(str(REFERENCE["shapes"]))
SIZES = json.loads(str(REFERENCE["provenance"]))["input_hw"]
KIND = {"dla34": "centernet-dla34", "dla34_plain": "centernet-dla34", "hourglass104": "centernet-hourglass"}
TOLERANCE = (
    1e-4  # of the largest magnitude of an output: float32 sums of up to 10,000 terms, in another order, 100 deep
)


def build(network: str):
    detector = build_detector(load_config(CONFIGS / f"{network}.json", ["model.dtype_policy=float32"]).model)
    tensors = {name: make_tensor(network, name, tuple(shape)) for name, shape in SHAPES[network].items() if shape}
    values, report = convert(tensors, detector, KINDS[KIND[network]], source=network)
    # Everything has a place but what the release does not use; what CenterNet lacks keeps its initial values.
    assert {name.removeprefix("0_").split("_")[0] for name in report.initial} == {"saliency", "local"}
    assert set(report.left_out.values()) <= {COUNTER, NEVER_USED}
    assign(detector, values)
    return detector


def stages_of(network: str, backbone: keras.Model) -> dict[str, object]:
    """Find the symbolic output of every stage that the reference kept, by the name of its module there."""
    if network == "hourglass104":
        stages = {"pre": backbone.get_layer("kps_0_up1_0_conv1").input}
        stages["inters.0"] = backbone.get_layer("kps_1_up1_0_conv1").input
        for stack in range(2):
            convolution = backbone.get_layer(f"cnvs_{stack}_conv")
            stages[f"kps.{stack}"] = convolution.input
            for depth in range(1, 5):
                stages[f"kps.{stack}{'.low2' * depth}"] = backbone.get_layer(
                    f"kps_{stack}{'_low2' * (depth - 1)}_low3_0_conv1"
                ).input
            stages[f"cnvs.{stack}"] = keras.ops.relu(backbone.get_layer(f"cnvs_{stack}_bn").output)
        return stages
    norms = {"base.level0": "base_level0_1", "base.level1": "base_level1_1"}
    norms |= {f"base.level{level}": f"base_level{level}_root_bn" for level in (2, 5)}
    norms |= {f"base.level{level}": f"base_level{level}_tree2_root_bn" for level in (3, 4)}
    names = [key.removeprefix(f"{network}/") for key in REFERENCE if key.startswith(f"{network}/")]
    norms |= {name: f"{name.replace('.', '_')}_actf_0" for name in names if ".node_" in name}
    return {stage: keras.ops.relu(backbone.get_layer(norm).output) for stage, norm in norms.items()}


def run(network: str) -> dict[str, np.ndarray]:
    detector = build(network)
    image = make_image(*SIZES[network])
    backbone = next(layer for layer in detector.network.layers if isinstance(layer, keras.Model))
    symbolic = stages_of(network, backbone)
    normalised = detector.network.get_layer("normalization")(image.astype(np.float32))
    outputs = keras.Model(backbone.input, symbolic)(normalised)
    found = detector(image)
    stacks = [*found.get("intermediate", ()), found]
    heads_of_stacks = [*detector.intermediate_point_heads, detector.point_heads]
    for stack, (heads, dense) in enumerate(zip(heads_of_stacks, stacks, strict=True)):
        h, w = dense["features"].shape[1:3]
        points = heads(gather_patches(dense["features"], np.arange(h * w, dtype=np.int32)[None]))
        outputs[f"hm.{stack}"] = dense["heatmap_logits"]
        outputs[f"wh.{stack}"] = np.reshape(points["size"], (1, h, w, 2))
        outputs[f"reg.{stack}"] = np.reshape(points["offset"], (1, h, w, 2))
    return {name: np.asarray(values) for name, values in outputs.items()}


@pytest.mark.slow
@pytest.mark.parametrize("network", KIND)
def test_every_stage_and_head_equals_the_release(network):
    errors = compare(network, run(network), REFERENCE)
    assert all(error < TOLERANCE for error in errors.values()), errors  # not their max: it may pass over a NaN
