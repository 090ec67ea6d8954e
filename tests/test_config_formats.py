"""Earlier forms of a configuration, files with a base, and files that are no configuration."""

import json
import shutil
from pathlib import Path

import pytest

from centermask_keras.config import load_config, load_stored_config, parse_config, to_stored_json, upgrade_file
from centermask_keras.config.explain import SHOWN, shorten
from centermask_keras.config.formats import FORMAT, LATE_KEYS_OF_FORMAT_1
from centermask_keras.errors import ConfigError

ROOT = Path(__file__).parents[1]
DLA34 = ROOT / "configs" / "dla34.json"
NUCLEI = ROOT / "saved_models" / "nuclei"


def first_form(**processes: int) -> dict:
    """Return dla34.json as the first form had it."""
    values = json.loads(DLA34.read_text())
    values["loss_weights"] = values["model"].pop("loss_weights")
    values["data"] |= processes
    return values


@pytest.fixture
def run(tmp_path) -> Path:
    """A run folder of the first form."""
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "config.json").write_text(json.dumps(first_form(processes=3)))
    return tmp_path


def test_the_configuration_of_a_run_is_brought_up_to_date(run):
    assert load_config(run / "config.json") == load_stored_config(run / "config.json") == load_config(DLA34)
    config = load_config(run / "config.json", ["model.loss_weights.mask=3"])
    assert config.model.loss_weights.mask == 3


@pytest.mark.parametrize("key", ["data.processes", *LATE_KEYS_OF_FORMAT_1])
def test_a_run_without_a_later_key_does_what_was_done_before_the_key_came(run, key):
    values = first_form(processes=0)
    *parents, name = key.split(".")
    section = values
    for parent in parents:
        section = section[parent]
    del section[name]
    (run / "config.json").write_text(json.dumps(values))
    assert load_config(run / "config.json") == load_config(DLA34)


def test_a_loss_that_was_off_is_not_named_any_more(run):
    values = first_form()
    values["model"]["saliency"], values["loss_weights"]["saliency"] = "class_agnostic", 0.0
    values["loss_weights"]["offset"] = 0.0  # was computed and reported, and is
    (run / "config.json").write_text(json.dumps(values))
    weights = load_config(run / "config.json").model.loss_weights.named()
    assert weights == {"heatmap": 1, "offset": 0, "size": 0.1, "mask": 1}


def test_the_shipped_model_of_the_first_form_loads():
    values = json.loads((NUCLEI / "config.json").read_text())
    assert "format" not in values and "loss_weights" in values
    assert load_config(NUCLEI / "config.json").model.loss_weights.mask == values["loss_weights"]["mask"]


def test_a_stored_configuration_has_the_number_of_its_form(tmp_path):
    config = load_config(DLA34)
    path = tmp_path / "anything.json"
    path.write_text(to_stored_json(config))
    assert json.loads(path.read_text())["format"] == FORMAT
    assert load_config(path) == parse_config(to_stored_json(config), source="copy") == config
    assert "format" not in json.loads(config.to_json())


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (FORMAT + 1, f"expected at most {FORMAT}, received {FORMAT + 1}: a later version .* Update the package"),
        (0, f"format: expected a number from 1 to {FORMAT}, received 0"),
        ("2", f"format: expected a number from 1 to {FORMAT}, received 2"),
        (True, f"format: expected a number from 1 to {FORMAT}, received true"),
    ],
)
def test_other_numbers_are_refused(run, number, message):
    (run / "config.json").write_text(json.dumps({"format": number, **first_form()}))
    with pytest.raises(ConfigError, match=message):
        load_config(run / "config.json")


def test_a_file_of_a_person_is_upgraded_by_command_only(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(first_form(processes=8)))
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert str(error.value).splitlines() == [
        f"{path}: loss_weights: moved to model.loss_weights",
        f"{path}: data.processes: moved to the option --processes of `centermask train`, as it belongs to a host "
        "(received 8)",
        f"`centermask config --upgrade {path}` writes the file anew",
    ]
    moved = upgrade_file(path)
    assert [line.partition(":")[0] for line in moved] == ["loss_weights", "data.processes"] and "8" in moved[1]
    assert load_config(path) == load_config(DLA34)
    text = path.read_text()
    assert upgrade_file(path) == [] and path.read_text() == text and "format" not in json.loads(text)


def test_an_upgrade_leaves_the_file_of_a_program_as_it_is(run):
    for text in ((run / "config.json").read_text(), to_stored_json(load_config(DLA34))):
        (run / "config.json").write_text(text)
        assert upgrade_file(run / "config.json") == [] and (run / "config.json").read_text() == text


def test_an_upgrade_leaves_a_faulty_file_as_it_is(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(first_form() | {"modle": 1}))
    before = path.read_text()
    with pytest.raises(ConfigError, match=r"mine\.json: modle: unknown key"):
        upgrade_file(path)
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss_weights.mask=2", r"--set loss_weights\.mask=2: loss_weights\.mask: moved to model\.loss_weights\.mask"),
        ("data.processes=2", r"--set data\.processes=2: data\.processes: moved to the option --processes"),
    ],
)
def test_an_override_of_a_moved_key_names_its_new_place(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(DLA34, [override])


@pytest.fixture
def base(tmp_path) -> Path:
    shutil.copy(DLA34, tmp_path / "base.json")
    (tmp_path / "deeper").mkdir()
    return tmp_path


def write(path: Path, **values: object) -> Path:
    path.write_text(json.dumps(values))
    return path


def test_a_file_names_a_base_by_its_path_from_there_and_what_differs(base):
    path = write(base / "deeper" / "mine.json", base="../base.json", changes={"model.shape_size": 24, "about": "S"})
    config = load_config(path, ["train.epochs=2"])
    assert (config.model.shape_size, config.about, config.train.epochs) == (24, "S", 2)
    assert config == load_config(DLA34, ["model.shape_size=24", "about=S", "train.epochs=2"])
    assert parse_config(config.to_json(), source="whole") == config


def test_a_base_may_be_the_configuration_of_an_earlier_run(run):
    path = write(run / "mine.json", base="config.json", changes={"model.loss_weights.saliency": None})
    assert load_config(path).model.loss_weights.saliency is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"base": "base.json", "changes": {"model.shape_sice": 24}},
            r"changes: model\.shape_sice: .*no such",
        ),
        (
            {"base": "base.json", "changes": {"model.shape_size": "x"}},
            r"mine\.json: model\.shape_size: expected .*int",
        ),
        ({"base": "base.json", "changes": {"loss_weights.mask": 2}}, r"moved to model\.loss_weights\.mask"),
        ({"base": "base.json"}, r'mine\.json: expected {"base": FILE, "changes": .*received the keys base'),
        (
            {"base": "base.json", "changes": {}, "about": "x"},
            r"and no other key, received .* base, changes, about",
        ),
        ({"base": 3, "changes": {}}, r'mine\.json: expected {"base": FILE'),
        ({"base": "none.json", "changes": {}}, r"none\.json: expected a readable JSON configuration"),
        ({"base": "chained.json", "changes": {}}, r"base: expected a complete file, received chained\.json, which has"),
    ],
)
def test_faults_of_a_file_with_a_base_are_named(base, values, message):
    write(base / "chained.json", base="base.json", changes={})
    with pytest.raises(ConfigError, match=message):
        load_config(write(base / "mine.json", **values))


@pytest.mark.parametrize(
    ("text", "received"),
    [
        ("[1, 2]", "a list of 2 entries"),
        ('{"images": [], "annotations": [], "categories": []}', "an annotation file"),
        ('{"a": 1}', "an object with the keys a"),
        ("{}", "an empty object"),
        ('"text"', "text"),
        ("9" * 5000, "Exceeds the limit"),
    ],
)
def test_a_file_that_is_no_configuration_is_told_in_one_line(text, received):
    with pytest.raises(ConfigError) as error:
        parse_config(text, source="mine.json")
    assert "\n" not in str(error.value) and received in str(error.value)


def test_values_are_repeated_up_to_a_length():
    assert shorten("x" * SHOWN) == "x" * SHOWN and len(shorten("x" * (SHOWN + 1))) == SHOWN
    assert shorten([1, "a"]) == '[1, "a"]'


@pytest.mark.parametrize("place", ["train.epochs", "model.backbone", "data.input_hw", "model", "data.surplus"])
def test_no_message_repeats_a_long_value(place):
    values = json.loads(DLA34.read_text())
    *parents, key = place.split(".")
    section = values
    for parent in parents:
        section = section[parent]
    for long in ("x" * 2_000_000, [[1] * 500_000], {"y" * 2_000_000: 1}):
        section[key] = long
        with pytest.raises(ConfigError) as error:
            parse_config(json.dumps(values), source="mine.json")
        assert all(len(line) < 600 for line in str(error.value).splitlines())
    with pytest.raises(ConfigError) as error:
        load_config(DLA34, ["train.epochs=" + "9" * 2_000_000])
    assert len(str(error.value)) < 600
    with pytest.raises(ConfigError) as error:
        parse_config(json.dumps({**values, "model": {"z" * 2_000_000: 1}}), source="mine.json")
    assert all(len(line) < 600 for line in str(error.value).splitlines())
