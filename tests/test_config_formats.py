"""Earlier forms of a configuration, files with a base, and files that are no configuration."""

import json
import shutil
from pathlib import Path

import pytest

from centermask_keras.config import (
    check_files,
    load_config,
    load_stored_config,
    parse_config,
    to_stored_json,
    upgrade_file,
)
from centermask_keras.config.explain import describe_document
from centermask_keras.config.formats import FORMAT, LATE_KEYS_OF_FORMAT_1
from centermask_keras.errors import SHOWN, ConfigError, shorten

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


def test_a_run_of_fcos_without_its_later_key_does_what_was_done_before(run):
    fcos = ROOT / "configs" / "fcos_resnet101.json"
    values = json.loads(fcos.read_text())
    values["loss_weights"] = values["model"].pop("loss_weights")
    assert values["model"].pop("least_score") == 0.05
    (run / "config.json").write_text(json.dumps(values))
    assert load_config(run / "config.json") == load_config(fcos)


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


def test_an_upgrade_says_what_it_adds(tmp_path):
    path, values = tmp_path / "mine.json", first_form()
    del values["train"]["patience"]
    path.write_text(json.dumps(values))
    assert upgrade_file(path)[1:] == ["train.patience: added, as null does what was done without it"]


def test_an_upgrade_refuses_the_file_of_a_program(run):
    for text in ((run / "config.json").read_text(), to_stored_json(load_config(DLA34))):
        (run / "config.json").write_text(text)
        with pytest.raises(
            ConfigError, match=r"config\.json: expected a file that somebody wrote, received a program's"
        ):
            upgrade_file(run / "config.json")
        assert (run / "config.json").read_text() == text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values | {"modle": 1}, r"mine\.json: modle: unknown key"),
        (lambda values: values["model"].update(loss_weights={"mask": 1}), "expected one of loss_weights and model"),
        (
            lambda values: values.pop("loss_weights"),
            r"mine\.json: model\.loss_weights: expected this key, received none",
        ),
    ],
)
def test_an_upgrade_leaves_a_faulty_file_as_it_is(tmp_path, change, message):
    path, values = tmp_path / "mine.json", first_form()
    changed = change(values)
    path.write_text(json.dumps(changed if isinstance(changed, dict) and "model" in changed else values))
    before = path.read_text()
    with pytest.raises(ConfigError, match=message):
        upgrade_file(path)
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss_weights.mask=2", r"--set loss_weights\.mask=2: loss_weights\.mask: moved to model\.loss_weights\.mask"),
        ("data.processes=2", r"--set data\.processes=2: data\.processes: moved to the option --processes"),
        ("data.processes.x=2", r"data\.processes\.x: moved to the option --processes .*, as it belongs to a host$"),
        ('data={"processes": 0}', r"dla34\.json: data\.processes: moved to the option --processes"),
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
        ({"base": "base.json", "changes": {"data": {"processes": 1}}}, r"data\.processes: moved to the option"),
        ({"base": "none.json", "changes": {}}, r"mine\.json: base: expected a file by its path .* received none\.json"),
        ({"base": "n" * 5000, "changes": {}}, r"mine\.json: base: expected a file by its path .* received n+ \.\.\."),
        ({"base": "chained.json", "changes": {}}, r"base: expected a complete file, received chained\.json, which has"),
    ],
)
def test_faults_of_a_file_with_a_base_are_named(base, values, message):
    write(base / "chained.json", base="base.json", changes={})
    with pytest.raises(ConfigError, match=message):
        load_config(write(base / "mine.json", **values))


def test_a_base_is_never_looked_for_where_the_program_was_started(base, monkeypatch):
    """A file means the same wherever it is read."""
    (base / "dla34").write_text("{}")
    monkeypatch.chdir(base)
    assert load_config(write(base / "deeper" / "a.json", base="dla34", changes={})) == load_config(DLA34)
    with pytest.raises(ConfigError, match=r"b\.json: base: expected a file by its path"):
        load_config(write(base / "deeper" / "b.json", base="base.json", changes={}))


def test_a_folder_does_not_hide_a_shipped_name(base):
    (base / "dla34").mkdir()  # the run folder of this configuration, as it is called by default
    assert load_config(write(base / "mine.json", base="dla34", changes={})) == load_config(DLA34)


def test_a_name_too_long_for_a_file_is_an_error_of_the_configuration(base):
    with pytest.raises(ConfigError, match=r"x+ \.\.\.: expected a readable JSON configuration"):
        load_config("x" * 5000)
    with pytest.raises(ConfigError, match=r"data\.train\.images: expected a folder, received y+ \.\.\.$"):
        check_files(load_config(DLA34, ["data.train.images=" + "y" * 5000]), "mine.json", ["train"])


@pytest.mark.parametrize(
    ("text", "received"),
    [
        ("[1, 2]", "a list of 2 entries"),
        ('{"images": [], "annotations": [], "categories": []}', "an annotation file"),
        ('{"images": [], "annotations": [], "categories": [], "data": 1}', "an annotation file"),
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


def test_an_annotation_file_is_told_by_any_of_its_lists():
    assert describe_document({"images": [], "info": {}}) == "an annotation file (it has images)"


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
        load_config(DLA34, [f"loss_weights.{'x' * 5000}=1"])
    assert len(str(error.value)) < 700
    with pytest.raises(ConfigError) as error:
        parse_config(json.dumps({**values, "model": {"z" * 2_000_000: 1}}), source="mine.json")
    assert all(len(line) < 600 for line in str(error.value).splitlines())
