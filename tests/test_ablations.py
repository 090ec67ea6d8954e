"""Table 1 of the paper: every row is a configuration, and differs from its base in the keys of its row only."""

import json
from pathlib import Path

import pytest
from project_files import files_in

CONFIGS = Path(__file__).parents[1] / "configs"
AGNOSTIC = {"model.saliency": "class_agnostic", "loss_weights.saliency": 0.0}
# Row: base, and what the row changes. Section 4.1: Table 1a is on DLA-34, the others are on Hourglass-104; 1c and 1d
# have the class-agnostic saliency, which has no direct loss.
ROWS = {
    "1a_shape_size_24": ("dla34", {"model.shape_size": 24}),
    "1a_shape_size_32": ("dla34", {}),
    "1a_shape_size_48": ("dla34", {"model.shape_size": 48}),
    "1b_dla34": ("dla34", {}),
    "1b_hourglass104": ("hourglass104", {}),
    "1c_without_shape": ("hourglass104", {**AGNOSTIC, "model.mask_factors": "saliency"}),
    "1c_with_shape": ("hourglass104", AGNOSTIC),
    "1d_without_saliency": ("hourglass104", {**AGNOSTIC, "model.mask_factors": "local_shape"}),
    "1d_with_saliency": ("hourglass104", AGNOSTIC),
    "1e_class_agnostic": ("hourglass104", AGNOSTIC),
    "1e_class_specific": ("hourglass104", {}),
    "1f_without_direct_loss": ("hourglass104", {"loss_weights.saliency": 0.0}),
    "1f_with_direct_loss": ("hourglass104", {}),
}
# The backbone of Table 1b, with the batch size that goes with it in CenterNet.
HOURGLASS = {"model.backbone": "hourglass104", "model.deformable": False, "train.batch_size": 24}


def leaves(value: object, path: str = "") -> dict[str, object]:
    if not isinstance(value, dict):
        return {path: value}
    return {
        leaf: member
        for key, inner in value.items()
        for leaf, member in leaves(inner, f"{path}.{key}" if path else key).items()
    }


def read(name: str) -> dict[str, object]:
    return leaves(json.loads((CONFIGS / f"{name}.json").read_text()))


def difference(base: str, other: str) -> dict[str, object]:
    before, after = read(base), read(other)
    assert before.keys() == after.keys()
    return {key: after[key] for key in after if after[key] != before[key] and key != "about"}


def test_rows_of_equal_models_are_known():
    models = {json.dumps(json.loads((CONFIGS / "ablations" / f"{row}.json").read_text())["model"]) for row in ROWS}
    assert len(models) == 7  # five of tests/detectors/test_centernet.py, and those of dla34.json and hourglass104.json


def test_every_row_has_a_file():
    assert {path.stem for path in files_in("configs/ablations", ".json")} == set(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_rows_change_the_keys_of_their_row_only(row):
    base, changes = ROWS[row]
    assert difference(base, f"ablations/{row}") == changes
    assert row[:2] in read(f"ablations/{row}")["about"]


def test_hourglass_changes_the_backbone_and_its_batch_size_only():
    assert difference("dla34", "hourglass104") == HOURGLASS
