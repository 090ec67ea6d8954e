"""Table 1 of the paper: every row is a configuration, and differs from its base in the keys of its row only."""

import json
import re
from pathlib import Path

import pytest
from project_files import files_below, files_in

from centermask_keras.config import load_config

CONFIGS = Path(__file__).parents[1] / "configs"
ABLATIONS = CONFIGS / "ablations"
AGNOSTIC = {"model.saliency": "class_agnostic", "model.loss_weights.saliency": None}
# File: base, and what it changes. Section 4.1: Table 1a is on DLA-34, the others are on Hourglass-104; 1c and 1d have
# the class-agnostic saliency, which has no direct loss.
CHANGES = {
    "1a_shape_size_24": ("dla34", {"model.shape_size": 24}),
    "1a_shape_size_48": ("dla34", {"model.shape_size": 48}),
    "1c_without_shape": ("hourglass104", {**AGNOSTIC, "model.mask_factors": "saliency"}),
    "1d_without_saliency": ("hourglass104", {**AGNOSTIC, "model.mask_factors": "local_shape"}),
    "1e_class_agnostic": ("hourglass104", AGNOSTIC),
    "1f_without_direct_loss": ("hourglass104", {"model.loss_weights.saliency": None}),
}
ROWS = {
    "1a, S = 24": "ablations/1a_shape_size_24",
    "1a, S = 32": "dla34",
    "1a, S = 48": "ablations/1a_shape_size_48",
    "1b, DLA-34": "dla34",
    "1b, Hourglass-104": "hourglass104",
    "1c, without local shape": "ablations/1c_without_shape",
    "1c, with local shape": "ablations/1e_class_agnostic",
    "1d, without saliency": "ablations/1d_without_saliency",
    "1d, with saliency": "ablations/1e_class_agnostic",
    "1e, class-agnostic": "ablations/1e_class_agnostic",
    "1e, class-specific": "hourglass104",
    "1f, without direct loss": "ablations/1f_without_direct_loss",
    "1f, with direct loss": "hourglass104",
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


def difference(base: str, other: str) -> dict[str, object]:
    before, after = (leaves(json.loads(load_config(CONFIGS / f"{name}.json").to_json())) for name in (base, other))
    keys = (before.keys() | after.keys()) - {"about"}
    return {key: after.get(key) for key in keys if after.get(key) != before.get(key)}


def test_every_file_of_the_folder_is_here():
    assert {path.stem for path in files_in("configs/ablations", ".json")} == set(CHANGES)


@pytest.mark.parametrize("name", CHANGES)
def test_files_change_the_keys_of_their_row_only(name):
    base, changes = CHANGES[name]
    document = json.loads((ABLATIONS / f"{name}.json").read_text())
    assert document.keys() == {"base", "changes"}
    assert document["changes"].keys() == {"about", *changes}
    assert difference(base, f"ablations/{name}") == changes
    assert f"Table {name[:2]}" in load_config(ABLATIONS / f"{name}.json").about


def test_hourglass_changes_the_backbone_and_its_batch_size_only():
    assert difference("dla34", "hourglass104") == HOURGLASS


def test_no_two_files_hold_equal_values():
    files = files_below("configs", ".json")
    configs = [load_config(path).model_copy(update={"about": ""}).to_json() for path in files]
    assert len(set(configs)) == len(configs)


def test_the_table_of_the_readme_maps_every_row_of_the_paper_to_a_file():
    text = (CONFIGS / "README.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^\| (1[a-f], [^|]+?) \| \[`(.+?)\.json`\]", text, flags=re.MULTILINE)) == ROWS
