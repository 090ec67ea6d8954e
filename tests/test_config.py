"""Configurations: complete, strict, and every mistake named with JSON path, expected and received."""

import json
from pathlib import Path
from typing import get_args

import pytest
from project_files import files_below

from centermask_keras.config.complete import Config, check_files
from centermask_keras.config.reading import load_config, parse_config
from centermask_keras.config.sections import INPUT_MULTIPLES, CenterNetConfig, FcosConfig
from centermask_keras.errors import ConfigError

CONFIGS = files_below("configs", ".json")
DLA34 = Path(__file__).parents[1] / "configs" / "dla34.json"
FCOS = DLA34.with_name("fcos_resnet101.json")


def changed(path: str, value: object) -> str:
    """Return dla34.json with one key changed, or removed (value is KeyError)."""
    values = json.loads(DLA34.read_text())
    section = values
    *parents, key = path.split(".")
    for parent in parents:
        section = section[parent]
    if value is KeyError:
        del section[key]
    else:
        section[key] = value
    return json.dumps(values)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations_load_and_survive_a_round_trip(path: Path) -> None:
    config = load_config(path)
    assert parse_config(config.to_json(), source="copy") == config


def test_dla34_holds_the_protocol_of_the_paper() -> None:
    config = load_config(DLA34)
    assert config.data.input_hw == (512, 512)
    assert config.grid_hw == (128, 128)
    assert (config.model.shape_size, config.model.max_detections) == (32, 100)
    weights = {"heatmap": 1, "offset": 1, "size": 0.1, "mask": 1, "saliency": 1}
    assert config.model.loss_weights.named() == weights
    train = config.train
    assert (train.learning_rate, train.batch_size, train.epochs, train.drop_epochs) == (2.5e-4, 64, 130, (100, 120))
    assert (config.eval.mask_threshold, config.eval.resize) == (0.4, "keep")
    assert config.model.saliency == "class_specific" and config.model.deformable


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model.num_clases", 3, r"model\.num_clases: unknown key"),
        ("train.epochs", KeyError, r"train\.epochs: expected this key, received none"),
        ("train.epochs", "130", r'train\.epochs: expected a valid integer, received "130"'),
        ("train.epochs", 130.5, r"train\.epochs: expected .*integer.*, received 130\.5"),
        ("train.epochs", 0, r"train\.epochs: expected greater than 0, received 0"),
        ("model.deformable", 1, r"model\.deformable: expected a valid boolean, received 1"),
        (
            "model.backbone",
            "dla35",
            r"model\.backbone: expected 'dla34', 'dla_half', .* or 'mobilenet_v3_large', received \"dla35\"",
        ),
        ("model.stride", 8, r"model\.stride: expected 4, received 8"),
        ("eval.mask_threshold", 1.0, r"eval\.mask_threshold: expected less than 1, received 1\.0"),
        (
            "data.input_hw",
            [512, 500],
            r"data\.input_hw: expected multiples of 32 \(model\.backbone dla34\), received \[512, 500\]",
        ),
        (
            "model.backbone",
            "hourglass104",
            r"model\.deformable: expected false with backbone hourglass104, received true",
        ),
        ("data.input_hw", [512], r"data\.input_hw"),
        ("data.augmentation.scale", [1.3, 0.6], r"scale: expected \[smallest, largest\], received \[1\.3, 0\.6\]"),
        ("data.crowd", None, r"data\.crowd: expected 'train', 'ignore' or 'drop', received null"),
        ("data", 3, r"data: expected .*, received 3"),
        ("eval.batch_size", 2, r"eval\.batch_size: expected 1 with eval\.resize keep"),
        (
            "model.saliency",
            "class_agnostic",
            r"model\.loss_weights\.saliency: expected null or no such key with model\.saliency",
        ),
        (
            "model.mask_factors",
            "local_shape",
            r"model\.loss_weights\.saliency: expected null .* with model\.mask_factors",
        ),
        ("train.learning_rate", float("nan"), r"train\.learning_rate: expected a finite number"),
        ("train.seed", 2**32, r"train\.seed: expected less than 4294967296"),
        ("data.augmentation.scale", [0.0001, 1.3], r"data\.augmentation\.scale\.0: expected greater than"),
        (
            "model.max_detections",
            20000,
            r"model\.max_detections: expected at most 16384 \(the cells of data\.input_hw\)",
        ),
        ("train.clip_norm", float("inf"), r"train\.clip_norm: expected a finite number"),
    ],
)
def test_each_mistake_names_path_expected_and_received(path: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=r"mine\.json: .*" + message):
        parse_config(changed(path, value), source="mine.json")


def test_all_mistakes_are_listed_at_once() -> None:
    values = json.loads(changed("train.epochs", -1))
    values["model"]["num_classes"] = "many"
    with pytest.raises(ConfigError) as error:
        parse_config(json.dumps(values), source="mine.json")
    assert "train.epochs" in str(error.value) and "model.num_classes" in str(error.value)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"none\.json: expected a readable JSON configuration, received: No such file"
    ):
        load_config(tmp_path / "none.json")
    with pytest.raises(ConfigError, match="expected a readable JSON configuration"):
        load_config(tmp_path)
    (tmp_path / "half.json").write_text('{"about": ')
    with pytest.raises(ConfigError, match=r"half\.json: line 1 column \d+: expected JSON"):
        load_config(tmp_path / "half.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.json: expected a readable JSON"):
        load_config(tmp_path / "binary.json")
    with pytest.raises(ConfigError, match="nested too deeply"):
        parse_config("[" * 100_000, source="deep.json")
    with pytest.raises(ConfigError, match="list.json: expected a configuration .*, received a list of 0 entries"):
        parse_config("[]", source="list.json")


def test_a_key_given_twice_is_an_error() -> None:
    text = DLA34.read_text().replace('"stride": 4,', '"stride": 4, "stride": 4,')
    with pytest.raises(ConfigError, match=r"stride: expected each key once, received it 2 times"):
        parse_config(text, source="mine.json")


def test_overrides_take_json_and_text() -> None:
    config = load_config(DLA34, ["train.epochs=3", "data.train.images=photos/", "data.input_hw=[256, 320]"])
    assert (config.train.epochs, config.data.train.images, config.data.input_hw) == (3, "photos/", (256, 320))
    assert load_config(DLA34, ["train.clip_norm=10.0"]).train.clip_norm == 10.0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", r"--set train\.epoch=3: train\.epoch: expected a key of .*dla34\.json; no such key"),
        ("train.epochs.more=3", "no such key"),
        ("train.epochs", r"--set train\.epochs: expected a\.b=value"),
        pytest.param("train.epochs=" + "[" * 5000, r"train\.epochs: expected a valid integer", id="deep"),
        pytest.param("train.epochs=" + "9" * 5000, r"train\.epochs: expected a valid integer", id="long"),
        ("train.epochs=many", r'train\.epochs: expected a valid integer, received "many"'),
    ],
)
def test_wrong_overrides_are_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(DLA34, [override])


def test_a_configuration_cannot_be_changed_in_place() -> None:
    config = load_config(DLA34)
    with pytest.raises(ValueError, match="frozen"):
        config.train.epochs = 3


def test_schema_describes_every_key() -> None:
    schema = Config.model_json_schema()
    for section in (schema, *schema["$defs"].values()):
        assert not [key for key, value in section["properties"].items() if "description" not in value]
    assert set(schema["required"]) == {"about", "distribution", "model", "data", "train", "eval"}
    assert schema["additionalProperties"] is False


def test_missing_files_are_named_by_their_keys(tmp_path: Path) -> None:
    (tmp_path / "val.json").write_text("{}")
    values = [f'data.val.annotations="{tmp_path / "val.json"}"', f'data.val.images="{tmp_path}"']
    config = load_config(DLA34, [*values, "data.train.annotations=none.json", "data.train.images=none"])
    check_files(config, "mine.json", splits=("val",))
    with pytest.raises(ConfigError) as error:
        check_files(config, "mine.json")
    assert str(error.value).splitlines() == [
        "mine.json: data.train.annotations: expected a file, received none.json",
        "mine.json: data.train.images: expected a folder, received none",
    ]


def test_every_backbone_has_its_multiple():
    fields = [kind.model_fields["backbone"].annotation for kind in (CenterNetConfig, FcosConfig)]
    assert sorted(name for field in fields for name in get_args(field)) == sorted(INPUT_MULTIPLES)


def test_all_sizes_are_multiples_of_what_the_backbone_needs():
    overrides = ["data.multi_scale_hw=[[96, 128], [80, 128]]"]
    message = r"data\.multi_scale_hw: expected multiples of 32 \(model\.backbone resnet101\), received \[80, 128\]"
    with pytest.raises(ConfigError, match=message):
        load_config(FCOS, overrides)


def test_several_sizes_are_for_fcos():
    message = r"data\.multi_scale_hw: expected null with model\.detector centernet .*, received 1 sizes"
    with pytest.raises(ConfigError, match=message):
        load_config(DLA34, ["data.multi_scale_hw=[[96, 128]]"])


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        ("[]", ["data.multi_scale_hw: expected at least 1 entries, received 0"]),
        ("[640, 1088]", [f"data.multi_scale_hw.{i}: expected a list, received {n}" for i, n in ((0, 640), (1, 1088))]),
        ("[[640]]", ["data.multi_scale_hw.0.1: expected an entry, received none in [640]"]),
        ("[[640, 1088, 3]]", ["data.multi_scale_hw.0: expected at most 2 entries, received [640, 1088, 3]"]),
        ('[["a", 64]]', ['data.multi_scale_hw.0.0: expected a valid integer, received "a"']),
    ],
)
def test_sizes_of_another_form_are_named_once(value, lines):
    with pytest.raises(ConfigError) as error:
        load_config(FCOS, [f"data.multi_scale_hw={value}"])
    assert str(error.value).splitlines() == [f"{FCOS}: {line}" for line in lines]


def test_only_centers_of_centernet_have_cells_of_their_own() -> None:
    assert load_config(DLA34).model.center_stride == 4
    assert load_config(FCOS).model.center_stride is None
