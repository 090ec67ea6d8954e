"""A stand-in for detector and data that trains in milliseconds, so that tests can look at the loop around them."""

import itertools
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from centermask_keras.config import Config, ModelConfig, load_config
from centermask_keras.data.samples.sample import SampleCounters
from centermask_keras.errors import ImageError
from centermask_keras.training import callbacks, fit, inputs, tensorboard
from centermask_keras.training.run import Run
from centermask_keras.training.run_folder import RunFolder
from centermask_keras.training.train import train

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "configs" / "demo.json"
SIDE = 4
STEPS = 3  # per epoch: odd, so that accumulation over 2 batches reaches across epochs


class TinyDetector(keras.Model):
    """The surface of `CenterMask` on a dense layer, with batch statistics and dropout: state that is easily lost."""

    def __init__(self):
        super().__init__(dtype="float32", autocast=False)
        keras.utils.set_random_seed(1)
        inputs = keras.Input((SIDE,))
        hidden = keras.layers.Dense(6, name="first")(inputs)
        hidden = keras.layers.BatchNormalization(momentum=0.9, name="normalization")(hidden)
        outputs = keras.layers.Dense(1, name="last")(keras.layers.Dropout(0.3, seed=1, name="dropout")(hidden))
        self.network = keras.Model(inputs, outputs)
        self.loss_trackers = [keras.metrics.Mean(name=name) for name in ("heatmap", "offset")]
        self.built = True

    def call(self, inputs, training=False):
        return self.network(inputs["image"], training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        losses = [keras.ops.mean((y_pred - x["target"]) ** 2), keras.ops.mean(keras.ops.abs(y_pred))]
        for tracker, loss in zip(self.loss_trackers, losses, strict=True):
            tracker.update_state(loss)
        return losses[0] + 0.1 * losses[1]


class Annotations(SimpleNamespace):
    """What training reads of a dataset."""

    def __len__(self) -> int:
        return 12

    def under(self, policy: str) -> "Annotations":
        return self


def make_annotations(path: str, class_names: list[str]) -> Annotations:
    ids = np.arange(10, 10 + len(class_names))
    return Annotations(
        path=path,
        class_names=class_names,
        category_ids=ids,
        num_classes=len(class_names),
        boxes=np.zeros((30, 4)),
        crowd=np.zeros(30, bool),
        dropped={"zero area": 2},
        known_classes=None,
    )


def weight_sum(model: keras.Model) -> float:
    """Make up a mask AP in 0..1 that tells any two sets of weights apart."""
    return float(sum(np.abs(weights).sum() for weights in model.get_weights()) % 1)


@dataclass
class Tiny:
    """The tiny project: what happens in it can be chosen before `train` is called.

    Attributes:
        mask_ap: mask AP of the averaged model.
        events: by step, what its batch does: "nan" holds NaN, "kill" ends the process, "terminate" sends SIGTERM, an
            ImageError fails to decode, a function is called.
        evaluating: called in the middle of every validation.
        evaluated: the weights at each validation.
        built: the detectors, in their order.
    """

    tmp_path: Path
    mask_ap: Callable[[keras.Model], float] = weight_sum
    events: dict[int, str | ImageError | Callable[[], None]] = field(default_factory=dict)
    evaluating: Callable[[], None] = lambda: None
    evaluated: list[list[np.ndarray]] = field(default_factory=list)
    built: list[TinyDetector] = field(default_factory=list)
    train_set: Annotations = field(default_factory=lambda: make_annotations("data/my.json", list("abcde")))
    val_set: Annotations = field(default_factory=lambda: make_annotations("data/val.json", list("abcde")))

    def config(self, *overrides: str) -> Config:
        short = ["train.epochs=4", "train.validate_every=1", "train.drop_epochs=[3]", "train.learning_rate=0.05"]
        return load_config(DEMO, [*short, *overrides])

    def run(self, config: Config, **changes) -> Run:
        """Make what callbacks share, of a run in `tmp_path` that has not begun."""
        values = {"steps_per_epoch": STEPS, "losses": ("heatmap", "offset"), "folder": RunFolder(self.tmp_path)}
        return Run(**{"config": config, "train_set": self.train_set, "val_set": self.val_set, **values, **changes})

    def train(
        self,
        config: Config,
        *,
        run: str = "run",
        weights: Path | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        overwrite: bool = False,
        processes: int = 0,
        terminal: bool = False,
    ) -> fit.TrainingResult:
        """Train in a folder of `tmp_path` and return the result; the console's text is in `self.output`."""
        run_dir = self.tmp_path / run
        console = Console(width=160, record=True, force_terminal=terminal, file=(self.tmp_path / "console").open("w"))
        try:
            return train(
                config,
                name="configs/my.json",
                run_dir=run_dir,
                weights=weights,
                callbacks=callbacks,
                overwrite=overwrite,
                processes=processes,
                console=console,
            )
        finally:
            self.output = console.export_text()

    def initial_weights(self) -> list[np.ndarray]:
        return TinyDetector().get_weights()

    def saved_weights(self, run: str = "run") -> list[np.ndarray]:
        """Read the weights file of a run."""
        model = TinyDetector()
        model.load_weights(self.tmp_path / run / "model.weights.h5")
        return model.get_weights()

    def batch(self, step: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(step)
        image = rng.normal(size=(8, SIDE)).astype("float32")
        if self.events.get(step) == "nan":
            image[3, 1] = np.nan
        return {"image": image, "target": image.sum(-1, keepdims=True)}

    def batches(self, start: int, counters: SampleCounters) -> Iterator[dict[str, np.ndarray]]:
        for step in itertools.count(start):
            event = self.events.get(step)
            if event == "kill":
                raise RuntimeError("killed")
            if event == "terminate":
                os.kill(os.getpid(), signal.SIGTERM)
            if callable(event):
                event()
            if isinstance(event, Exception):
                counters.error = event
                raise RuntimeError("an error inside of the input pipeline")
            counters.add(samples=8, objects=20, collisions=1)
            yield self.batch(step)

    def make_train_dataset(self, config, annotations, *, start, counters, share, processes) -> tf.data.Dataset:
        rows = {"image": (8, SIDE), "target": (8, 1)}
        signature = {name: tf.TensorSpec(shape, tf.float32) for name, shape in rows.items()}
        return tf.data.Dataset.from_generator(lambda: self.batches(start, counters), output_signature=signature)

    def build_detector(self, config: ModelConfig, **_: object) -> TinyDetector:
        self.built.append(TinyDetector())
        return self.built[-1]

    def evaluate_model(self, predictor, annotations, *, progress):
        assert annotations is self.val_set
        self.evaluating()
        progress(12, 12)
        model = predictor.detector
        self.evaluated.append(model.get_weights())
        figures = {"mask_ap": self.mask_ap(model), "box_ap": 0.5}
        return SimpleNamespace(figures=figures, results=[{"score": 1.0}], per_class=[], seconds={})


@pytest.fixture
def tiny(monkeypatch, tmp_path) -> Tiny:
    """Put the stand-ins in the place of detector, data and evaluation."""
    project = Tiny(tmp_path)
    sets = {project.config().data.train.annotations: "train_set", project.config().data.val.annotations: "val_set"}
    monkeypatch.setattr(fit, "check_files", lambda config, name: None)
    monkeypatch.setattr(inputs, "load_annotations", lambda path, images: getattr(project, sets[path]))
    monkeypatch.setattr(fit, "steps_per_epoch", lambda config, annotations: STEPS)
    monkeypatch.setattr(fit, "make_train_dataset", project.make_train_dataset)
    monkeypatch.setattr(fit, "build_detector", project.build_detector)
    monkeypatch.setattr(callbacks, "rebuild_batch", lambda config, annotations, step: project.batch(step))
    monkeypatch.setattr(callbacks, "evaluate_model", project.evaluate_model)
    monkeypatch.setattr(tensorboard, "draw_examples", lambda *_, count: np.zeros((8, 8, 3), np.uint8))
    return project


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of 1 MB, where the system lets tests mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
