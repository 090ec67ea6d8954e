"""Every key of the configuration is read: one that nothing reads is a switch without a wire."""

import ast

import pytest
from config_reads import KEYS, SECTIONS, join, read_keys
from project_files import ROOT, files_below

ABOUT = "about"  # for the reader of the file


def program() -> list[ast.Module]:
    """Parse the package without its configuration, whose checks read keys without doing anything with them."""
    package = ROOT / "centermask_keras"
    paths = [path for path in files_below("centermask_keras", ".py") if package / "config" not in path.parents]
    return [ast.parse(path.read_text(encoding="utf-8")) for path in paths]


def test_every_key_is_read():
    assert {"model.stride", "data.val.images", "train.save.unit"} <= KEYS
    assert not KEYS - {ABOUT} - read_keys(program())


def test_attributes_of_other_objects_read_no_key():
    """A key of a name that stands everywhere in the package, but is no key today, would be seen to be unread."""
    common = {"name", "path", "count", "shape", "kind", "width", "height", "device", "momentum", "bias", "dtype"}
    assert not {join(section, key) for section in SECTIONS for key in common} & read_keys(program())


@pytest.mark.parametrize(
    ("source", "read"),
    [
        ("def f(config: Config): return config.train.epochs", {"train.epochs"}),
        ("def f(config: Config | None):\n settings = config.train\n return settings.epochs", {"train.epochs"}),
        ("def f(config: Config):\n a, b = config.train, config.data\n return b.crowd", {"data.crowd"}),
        (
            "def f(config: Config):\n for s in (config.train, config.eval): s.batch_size",
            {"train.batch_size", "eval.batch_size"},
        ),
        ("def f(model: ModelConfig, size): return model.stride * size.stride", {"model.stride"}),
        ("def f(data: DatasetConfig): return data.images", {"data.train.images", "data.val.images"}),
        ("def g() -> Config: ...\ndef f(): return g().eval.resize", {"eval.resize"}),
        ("class A:\n def g(self, m: ModelConfig): self.m = m\n def f(self): self.m.stride", {"model.stride"}),
        ("class A:\n config: Config\n def f(self): self.config.train.seed", {"train.seed"}),
        ("def f(config: FcosConfig, path): path.named()", set()),
        ("class A:\n def s(self) -> TrainConfig: ...\ndef f(a): return a.s.seed", {"train.seed"}),
        ("def f(predictor): return predictor.config.eval.resize", {"eval.resize"}),
        ("def f(model, train): return model.stride, train.epochs, 'train.epochs'", set()),
        ("def f(config: Config): config.train.epochs = 3", set()),
        ("def f(config: Config, model):\n config.train\n return model.epochs, config.data.epochs", set()),
    ],
)
def test_sections_are_followed(source, read):
    assert read_keys([ast.parse(source)]) & KEYS == read
