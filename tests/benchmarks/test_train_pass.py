"""The short version of `benchmarks/train_pass.py`: DLA-34 at full size on real photos in bfloat16."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_dla34_trains_on_real_photos_at_full_size(coco_tiny):
    spec = importlib.util.spec_from_file_location("train_pass", ROOT / "benchmarks" / "train_pass.py")
    train_pass = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(train_pass)
    losses = train_pass.run_pass(ROOT / "configs" / "dla34.json", coco_tiny, batch_size=2, steps=16).per_step()
    assert all(np.isfinite(values).all() for values in losses.values())
    # The same 16 photos in both halves: with two images, the number of objects alone moves a loss by a factor.
    assert losses["loss"][8:].mean() < 0.7 * losses["loss"][:8].mean()
