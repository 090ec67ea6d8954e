"""Checkpoints are read without executing them; what is no checkpoint is named."""

import os
import pickle
import sys

import numpy as np
import pytest

from centermask_keras.errors import CenterMaskError
from centermask_keras.importers.checkpoint import read_checkpoint


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_without_pytorch_the_cure_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "a.pth").write_bytes(b"")
    with pytest.raises(CenterMaskError, match="pip install torch"):
        read_checkpoint(tmp_path / "a.pth")


def test_no_file_is_named(tmp_path):
    with pytest.raises(CenterMaskError, match=r"none\.pth: expected a PyTorch checkpoint, received no such file"):
        read_checkpoint(tmp_path / "none.pth")


@pytest.mark.parametrize("wrapped", [True, False])
def test_tensors_come_back_by_name(tmp_path, wrapped):
    torch = pytest.importorskip("torch")
    state = {"module.a.weight": torch.arange(6.0).reshape(2, 3), "b.num_batches_tracked": torch.tensor(7)}
    torch.save({"epoch": 3, "state_dict": state} if wrapped else state, tmp_path / "a.pth")
    tensors = read_checkpoint(tmp_path / "a.pth")
    assert tensors.keys() == {"a.weight", "b.num_batches_tracked"}
    np.testing.assert_array_equal(tensors["a.weight"], np.arange(6.0).reshape(2, 3))


FAULTS = ["cut", "text", "empty", "pickle", "list", "no tensors", "damaged", "complex", "sparse", "meta", "twice"]


@pytest.mark.parametrize("fault", FAULTS)
def test_other_files_are_one_clear_error_and_are_not_executed(tmp_path, monkeypatch, fault):
    torch = pytest.importorskip("torch")
    path = tmp_path / "a.pth"
    torch.save({"a": torch.zeros(1000)}, path)
    match fault:
        case "cut":
            path.write_bytes(path.read_bytes()[:700])
        case "text":
            path.write_text("not a checkpoint")
        case "empty":
            path.write_bytes(b"")
        case "pickle":
            path.write_bytes(pickle.dumps(Malicious()))
        case "list":
            torch.save([torch.zeros(2)], path)
        case "no tensors":
            torch.save({"epoch": 3}, path)
        case "damaged":
            content = bytearray(path.read_bytes())
            middle = content.index(bytes(4000)) + 2000
            content[middle : middle + 8] = b"damaged!"
            path.write_bytes(content)
        case "complex":
            torch.save({"a": torch.zeros(2, dtype=torch.complex64)}, path)
        case "sparse":
            torch.save({"a": torch.eye(2).to_sparse()}, path)
        case "meta":
            torch.save({"a": torch.zeros(2, device="meta")}, path)
        case "twice":
            torch.save({"a": torch.zeros(2), "module.a": torch.ones(2)}, path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CenterMaskError, match=r"^[^\n]*a\.pth: (a: )?expected [^\n]*received[^\n]*$") as error:
        read_checkpoint(path)
    assert "weights_only" not in str(error.value)
    assert not (tmp_path / "executed").exists()
