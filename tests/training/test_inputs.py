"""What is warned of before a training begins; what is refused, `test_fit.py` looks at."""

from pathlib import Path

import pytest

from centermask_keras.config import load_config
from centermask_keras.training.inputs import find_warnings

DEMO = Path(__file__).parents[2] / "configs" / "demo.json"


@pytest.mark.parametrize(
    ("drops", "steps", "words"),
    [
        ("[]", 10, []),
        ("[19]", 10, []),
        ("[19]", 9, ["train.batch_size: expected at least 10 steps per epoch, received 9"]),
        ("[20]", 10, ["train.drop_epochs: expected epochs before the last one (20), received 20"]),
        ("[5,21]", 1, ["before the last one (20), received 21:", "received 1:"]),
    ],
)
def test_drops_after_the_end_and_short_epochs_are_warned_of(drops, steps, words):
    config = load_config(DEMO, ["train.epochs=20", f"train.drop_epochs={drops}"])
    lines = find_warnings(config, "my.json", steps)
    assert [word in line for word, line in zip(words, lines, strict=True)] == [True] * len(words)
    assert all(line.startswith("my.json: train.") and "\n" not in line for line in lines)
