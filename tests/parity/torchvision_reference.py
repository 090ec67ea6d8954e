"""Run torchvision's residual networks in PyTorch and keep what `test_torchvision_resnets.py` compares with.

    python tests/parity/torchvision_reference.py

Needs torch and torchvision (github.com/pytorch/vision). The image is normalised by ImageNet's statistics, as the
published weights want it. Beyond its border the first convolution sees COCO's mean colour instead of ImageNet's: so
does ours, whose padding comes after a normalisation by COCO's statistics; the folded colours are then exact there too.
"""

from pathlib import Path

import numpy as np
import torch
import torchvision
from reference import COCO_MEAN, set_weights, shapes_of, write
from rule import make_image

NETWORKS = ("resnet101", "resnext101_32x8d")
HW = (128, 192)
MEAN, STD = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
"""Of ImageNet's pixels in 0..1, RGB."""


def make_input(padding: int) -> torch.Tensor:
    """Return the rule's image as the network wants it, with a border of COCO's mean colour."""
    image = np.pad(make_image(*HW).astype(np.float64) / 255.0, ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)))
    inside = np.zeros(image.shape[1:3], bool)
    inside[padding:-padding, padding:-padding] = True
    image[:, ~inside] = COCO_MEAN
    return torch.from_numpy(((image - MEAN) / STD).astype(np.float32).transpose(0, 3, 1, 2))


def run(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """Run a network up to its last stage: the outputs of the four stages, channels last."""
    padding = model.conv1.padding[0]
    model.conv1.padding = (0, 0)
    outputs = {}
    with torch.no_grad():
        x = model.maxpool(model.relu(model.bn1(model.conv1(make_input(padding)))))
        for stage in range(1, 5):
            x = getattr(model, f"layer{stage}")(x)
            outputs[f"C{stage + 1}"] = x.numpy().transpose(0, 2, 3, 1)
    return outputs


def main() -> None:
    """Write `torchvision.npz`."""
    outputs, shapes = {}, {}
    for name in NETWORKS:
        model = getattr(torchvision.models, name)(weights=None)
        set_weights(model, name)
        outputs[name], shapes[name] = run(model), shapes_of(model)
    provenance = {
        "repository": "github.com/pytorch/vision",
        "commit": torchvision.version.git_version,
        "torchvision": torchvision.__version__,
        "input_hw": dict.fromkeys(NETWORKS, HW),
    }
    write(Path(__file__).parent / "torchvision.npz", outputs, shapes, provenance)


if __name__ == "__main__":
    main()
