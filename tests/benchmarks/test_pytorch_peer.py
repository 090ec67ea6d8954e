"""The comparison with PyTorch: one line where there is none; the networks agree where it is installed."""

import sys
from pathlib import Path

import pytest

from centermask_keras.config import load_config
from centermask_keras.detectors import build_detector

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import pytorch_peer  # noqa: E402


def test_an_interpreter_without_pytorch_is_named(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(SystemExit, match="expected an interpreter with PyTorch, received one without"):
        pytorch_peer.main(["--torch-python", str(python)])


def test_both_networks_have_the_same_parameters_and_outputs():
    torch = pytest.importorskip("torch")
    network = pytorch_peer.build_torch_network(torch).eval()
    detector = build_detector(load_config(pytorch_peer.CONFIG).model)
    ours = sum(int(weight.numpy().size) for weight in detector.trainable_variables)
    assert sum(weight.numel() for weight in network.parameters()) == ours
    with torch.inference_mode():
        outputs = network(torch.zeros(1, 3, 64, 64), torch.zeros(1, 5, dtype=torch.int64))
    assert [tuple(value.shape) for value in outputs] == [(1, 80, 16, 16)] * 2 + [(1, 5, 2), (1, 5, 2), (1, 5, 1024)]
