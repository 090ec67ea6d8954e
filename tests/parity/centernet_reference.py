"""Run the published CenterNet networks in PyTorch and keep what `test_centernet_parity.py` compares with.

    python tests/parity/centernet_reference.py CHECKOUT

CHECKOUT is a checkout of github.com/xingyizhou/CenterNet; nothing of it is kept but numbers. Needs torch. The release's
deformable convolution is a CUDA kernel to compile; here PyTorch's `grid_sample` reads the shifted taps instead.
"""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from reference import COCO_MEAN, COCO_STD, set_weights, shapes_of, write
from rule import make_image

HEADS = {"hm": 80, "wh": 2, "reg": 2}
SIZES = {"dla34": (128, 192), "dla34_plain": (128, 192), "hourglass104": (128, 256)}
BGR_MEAN, BGR_STD = np.float32(COCO_MEAN[::-1]), np.float32(COCO_STD[::-1])
FOLDER = Path(__file__).parent


class Deformable(torch.nn.Conv2d):
    """The release's DCN: offsets and masks from a convolution of the input, 18 and 9 channels."""

    def __init__(self, inputs, outputs, kernel_size, stride, padding, dilation, deformable_groups):
        super().__init__(inputs, outputs, kernel_size, stride, padding, dilation)
        self.conv_offset_mask = torch.nn.Conv2d(inputs, 27, kernel_size, stride, padding)

    def forward(self, x):
        shifts, masks = self.conv_offset_mask(x).split((18, 9), dim=1)
        height, width = x.shape[2:]
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        total = self.bias[:, None, None]
        for tap in range(9):
            y = rows + tap // 3 - 1 + shifts[:, 2 * tap]
            x_ = columns + tap % 3 - 1 + shifts[:, 2 * tap + 1]
            grid = torch.stack([2 * x_ / (width - 1) - 1, 2 * y / (height - 1) - 1], dim=-1).double()
            seen = torch.nn.functional.grid_sample(x.double(), grid, align_corners=True).float()
            seen = seen * torch.sigmoid(masks[:, tap : tap + 1])
            total = total + torch.einsum("bchw,oc->bohw", seen, self.weight[:, :, tap // 3, tap % 3])
        return total


class Plain(torch.nn.Conv2d):
    """A plain convolution in its place, without a bias before the normalisation."""

    def __init__(self, inputs, outputs, kernel_size, stride, padding, dilation, deformable_groups):
        super().__init__(inputs, outputs, kernel_size, stride, padding, dilation, bias=False)


def import_network(checkout: Path, name: str, convolution: type) -> ModuleType:
    """Import a network's module with another convolution in place of the compiled one."""
    models = str(checkout / "src" / "lib" / "models")
    if models not in sys.path:
        sys.path.insert(0, models)
    for module in [key for key in sys.modules if key.startswith("networks")]:
        del sys.modules[module]
    stub = ModuleType("networks.DCNv2.dcn_v2")
    stub.DCN = convolution
    sys.modules[stub.__name__] = stub
    return __import__(f"networks.{name}", fromlist=["DLASeg"])


def run(model: torch.nn.Module, stages: list[str], hw: tuple[int, int]) -> dict[str, np.ndarray]:
    """Run a model on the rule's image: outputs of the named modules and of the heads, channels last."""
    kept, hooks = {}, []
    for stage in stages:
        # A copy: the release's activations overwrite their inputs.
        keep = lambda module, inputs, output, stage=stage: kept.__setitem__(stage, output.detach().clone())  # noqa: E731
        hooks.append(model.get_submodule(stage).register_forward_hook(keep))
    image = make_image(*hw)[..., ::-1].astype(np.float32) / np.float32(255.0)
    image = torch.from_numpy(np.ascontiguousarray(((image - BGR_MEAN) / BGR_STD).transpose(0, 3, 1, 2)))
    with torch.no_grad():
        outputs = model(image)
    for stack, heads in enumerate(outputs):
        kept.update({f"{name}.{stack}": value for name, value in heads.items()})
    for hook in hooks:
        hook.remove()
    return {name: value.numpy().transpose(0, 2, 3, 1) for name, value in kept.items()}


def run_dla(checkout: Path, name: str, convolution: type) -> tuple[dict[str, np.ndarray], dict[str, list[int]]]:
    """Run DLA-34, and check that the encoder of the release's variant without DCN is the same network."""
    network = import_network(checkout, "pose_dla_dcn", convolution)
    model = network.DLASeg("dla34", HEADS, pretrained=False, down_ratio=4, final_kernel=1, last_level=5, head_conv=256)
    set_weights(model, name)
    levels = [f"base.level{level}" for level in range(6)]
    nodes = [f"dla_up.ida_{ida}.node_{node}" for ida in range(3) for node in range(1, ida + 2)]
    outputs = run(model, [*levels, *nodes, "ida_up.node_1", "ida_up.node_2"], SIZES[name])
    variant = import_network(checkout, "dlav0", convolution)
    variant = variant.DLASeg("dla34", HEADS, pretrained=False, down_ratio=4, head_conv=256)
    set_weights(variant, name)
    values = run(variant, levels, SIZES[name])
    for level in levels:
        np.testing.assert_array_equal(values[level], outputs[level])
    return outputs, shapes_of(model)


def run_hourglass(checkout: Path) -> tuple[dict[str, np.ndarray], dict[str, list[int]]]:
    """Run both stacks of Hourglass-104."""
    model = import_network(checkout, "large_hourglass", Plain).get_large_hourglass_net(104, HEADS, 64)
    set_weights(model, "hourglass104")
    stages = ["pre", "inters.0", *(f"{part}.{stack}" for stack in range(2) for part in ("kps", "cnvs"))]
    inner = [f"kps.{stack}{'.low2' * depth}" for stack in range(2) for depth in range(1, 5)]
    return run(model, [*stages, *inner], SIZES["hourglass104"]), shapes_of(model)


def main(checkout: Path) -> None:
    """Write `centernet.npz`."""
    outputs = {
        "dla34": run_dla(checkout, "dla34", Deformable),
        "dla34_plain": run_dla(checkout, "dla34_plain", Plain),
        "hourglass104": run_hourglass(checkout),
    }
    commit = subprocess.check_output(["git", "-C", checkout, "rev-parse", "HEAD"], text=True).strip()
    provenance = {
        "repository": "github.com/xingyizhou/CenterNet",
        "commit": commit,
        "input_hw": SIZES,
    }
    values = {network: tensors for network, (tensors, _) in outputs.items()}
    shapes = {network: shapes for network, (_, shapes) in outputs.items()}
    write(FOLDER / "centernet.npz", values, shapes, provenance)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
