"""The custom training step: losses by name, gradients for every weight, empty batches, XLA, crowds, factors."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from centermask_keras.config import Config, load_config
from centermask_keras.detectors import build_detector
from centermask_keras.detectors.base import compute_named
from centermask_keras.detectors.centernet import centernet_losses
from centermask_keras.ops.gather_patches import gather_patches

DEMO = Path(__file__).parents[2] / "configs" / "demo.json"
SMALL = ["data.input_hw=[64, 64]", "data.max_objects=6", "model.num_classes=3", "model.dtype_policy=float32"]


def small_config(*overrides: str) -> Config:
    return load_config(DEMO, [*SMALL, *overrides])


def make_batch(config: Config, *, size: int = 2, objects: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    """Draw a batch with `objects` boxes per image, soft masks and one saliency plane per class."""
    rng = np.random.default_rng(seed)
    n, m, c = config.data.max_objects, config.model.mask_size_train, config.model.num_classes
    (height, width), (h, w) = config.data.input_hw, config.grid_hw
    corners = rng.uniform(0, 40, (size, n, 2))
    valid = np.broadcast_to(np.arange(n) < objects, (size, n))
    boxes = np.concatenate([corners, corners + rng.uniform(8, 24, (size, n, 2))], -1) * valid[..., None]
    return {
        "image": rng.integers(0, 256, (size, height, width, 3), np.uint8),
        "boxes": boxes.astype(np.float32),
        "classes": (rng.integers(0, c, (size, n)) * valid).astype(np.int32),
        "valid": valid.copy(),
        "masks": rng.integers(0, 256, (size, n, m, m), np.uint8) * valid[..., None, None],
        "saliency_planes": rng.integers(0, 256, (size, c, h, w), np.uint8),
        "saliency_classes": np.tile(np.arange(c, dtype=np.int32), (size, 1)),
        "saliency_valid": np.full((size, c), objects > 0),
        "ignore_planes": np.zeros((size, 1, h, w), np.uint8),
        "ignore_classes": np.zeros((size, 1), np.int32),
        "ignore_valid": np.zeros((size, 1), bool),
    }


def compute(detector, batch, config):
    outputs = detector(batch, training=True)
    return centernet_losses(
        outputs, batch, lambda cells: detector.read_points(outputs["features"], cells), config.model
    )


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        ([], ("heatmap", "offset", "size", "mask", "saliency")),
        (
            ['model.saliency="class_agnostic"', "model.loss_weights.saliency=null"],
            ("heatmap", "offset", "size", "mask"),
        ),
        (
            ['model.mask_factors="local_shape"', "model.loss_weights.saliency=null"],
            ("heatmap", "offset", "size", "mask"),
        ),
        (['model.mask_factors="saliency"'], ("heatmap", "offset", "size", "mask", "saliency")),
    ],
    ids=["both", "agnostic", "shape only", "saliency only"],
)
def test_every_weight_gets_a_gradient_and_every_loss_a_name(overrides, names):
    config = small_config(*overrides)
    detector = build_detector(config.model)
    batch = make_batch(config)
    with tf.GradientTape() as tape:
        losses = compute(detector, batch, config)
        total = detector.compute_loss(x=batch, y_pred=detector(batch, training=True))
    assert tuple(losses) == names == tuple(config.model.loss_weights.named())
    assert all(np.isfinite(float(value)) and float(value) > 0 for value in losses.values())
    gradients = tape.gradient(total, [weight.value for weight in detector.trainable_weights])
    idle = [w.path for w, g in zip(detector.trainable_weights, gradients, strict=True) if g is None]
    assert not idle
    assert all(np.isfinite(gradient).all() and np.any(gradient != 0) for gradient in gradients)


def test_a_loss_that_is_not_named_is_neither_computed_nor_reported():
    config = small_config("model.loss_weights.offset=null").model
    names = ("heatmap", "size", "mask", "saliency")
    losses = {name: lambda name=name: f"computed {name}" for name in names} | {
        "offset": lambda: pytest.fail("computed")
    }
    assert compute_named(losses, config) == {name: f"computed {name}" for name in names}
    assert [tracker.name for tracker in build_detector(config).loss_trackers] == list(names)


def test_total_is_the_weighted_sum_of_the_named_losses():
    config = small_config("model.loss_weights.mask=3.0", "model.loss_weights.size=0.5")
    detector = build_detector(config.model)
    batch = make_batch(config)
    outputs = detector(batch, training=False)
    total = float(detector.compute_loss(x=batch, y_pred=outputs))
    named = {tracker.name: float(tracker.result()) for tracker in detector.loss_trackers}
    weights = json.loads(config.to_json())["model"]["loss_weights"]
    assert total == pytest.approx(sum(weights[name] * value for name, value in named.items()), rel=1e-6)


def test_without_objects_only_the_dense_maps_are_pushed_down():
    config = small_config()
    detector = build_detector(config.model)
    batch = make_batch(config, objects=0)
    batch["saliency_planes"][:] = 0
    losses = {name: float(value) for name, value in compute(detector, batch, config).items()}
    assert losses["offset"] == losses["size"] == losses["mask"] == 0
    assert losses["heatmap"] > 0 and losses["saliency"] > 0 and np.isfinite(sum(losses.values()))


def test_padding_rows_carry_no_loss():
    config = small_config()
    detector = build_detector(config.model)
    batch = make_batch(config)
    before = {name: float(value) for name, value in compute(detector, batch, config).items()}
    padding = ~batch["valid"]
    batch["boxes"][padding] = [3, 3, 60, 60]
    batch["classes"][padding] = 2
    batch["masks"][padding] = 255
    after = {name: float(value) for name, value in compute(detector, batch, config).items()}
    assert after == pytest.approx(before, rel=1e-6)


def test_crowd_regions_spare_negatives_of_their_class_only():
    config = small_config()
    detector = build_detector(config.model)
    batch = make_batch(config, objects=0)
    batch["saliency_planes"][:] = 0
    open_losses = compute(detector, batch, config)
    batch["ignore_planes"][:] = 255
    batch["ignore_classes"][:] = 1
    batch["ignore_valid"][:] = True
    one = compute(detector, batch, config)
    # At the start all classes have nearly the same logits: ignoring one of three spares a third.
    for name in ("heatmap", "saliency"):
        assert 0.6 < float(one[name]) / float(open_losses[name]) < 0.73
    batch = make_batch(config)
    free = float(compute(detector, batch, config)["mask"])
    batch["ignore_planes"][:] = 255
    batch["ignore_valid"][:] = True
    assert float(compute(detector, batch, config)["mask"]) == pytest.approx(free, rel=1e-6)


def test_repeating_a_batch_leaves_the_losses_the_same():
    """All losses are normalised by objects or by cells: none depends on the batch size."""
    config = small_config()
    detector = build_detector(config.model)
    batch = make_batch(config)
    double = {key: np.concatenate([value, value]) for key, value in batch.items()}
    outputs = [detector(b, training=False) for b in (batch, double)]
    single, twice = (
        centernet_losses(o, b, lambda cells, o=o: detector.read_points(o["features"], cells), config.model)
        for o, b in zip(outputs, (batch, double), strict=True)
    )
    for name in single:
        assert float(twice[name]) == pytest.approx(float(single[name]), rel=1e-5), name


@pytest.mark.slow
@pytest.mark.parametrize("deformable", [False, True])
def test_whole_training_step_compiles_under_xla_and_agrees(deformable):
    config = small_config('model.backbone="dla34"', f"model.deformable={json.dumps(deformable)}")
    batch = {key: tf.constant(value) for key, value in make_batch(config).items()}
    totals = {}
    for jit_compile in (False, True):
        detector = build_detector(config.model)
        detector.compile(optimizer=keras.optimizers.SGD(1e-3), jit_compile=jit_compile)
        dataset = tf.data.Dataset.from_tensors(batch).repeat()
        history = detector.fit(dataset, steps_per_epoch=1, epochs=2, verbose=0).history
        totals[jit_compile] = history["loss"]
        assert set(history) == {"loss", *tuple(config.model.loss_weights.named())}
    first, second = zip(totals[True], totals[False], strict=True)
    assert first[0] == pytest.approx(first[1], rel=1e-5)
    # A fresh DLA-34 normalises over 8 numbers at its deepest level here: rounding its weights alone moves the gradient
    # by 3%, so that losses after a step agree less.
    assert second[0] == pytest.approx(second[1], rel=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("deformable", [False, True])
def test_small_training_step_in_bfloat16_compiles_under_xla(deformable):
    config = small_config('model.dtype_policy="mixed_bfloat16"', f"model.deformable={json.dumps(deformable)}")
    batch = {key: tf.constant(value) for key, value in make_batch(config).items()}
    detector = build_detector(config.model)
    detector.compile(optimizer=keras.optimizers.Adam(1e-3), jit_compile=True)
    dataset = tf.data.Dataset.from_tensors(batch).repeat()
    losses = detector.fit(dataset, steps_per_epoch=4, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_the_compiled_step_takes_batches_of_different_padding():
    """The pipeline pads each batch to its own number of objects: N is unknown until the step runs."""
    config = small_config()
    batches = [make_batch(config), make_batch(config, seed=1)]
    padded = ("boxes", "classes", "valid", "masks")
    for name in padded:
        batches[1][name] = batches[1][name][:, :4]
    shapes = {name: list(value.shape) for name, value in batches[0].items()}
    for name in padded:
        shapes[name][1] = None
    specs = {name: tf.TensorSpec(shape, batches[0][name].dtype) for name, shape in shapes.items()}
    dataset = tf.data.Dataset.from_generator(lambda: iter(batches * 2), output_signature=specs)
    losses = {}
    for jit_compile in (False, True):
        detector = build_detector(config.model)
        detector.compile(optimizer=keras.optimizers.SGD(1e-3), jit_compile=jit_compile)
        losses[jit_compile] = detector.fit(dataset, epochs=1, verbose=0).history["loss"][0]
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)


def test_detections_have_fixed_size_at_any_input_size():
    config = small_config()
    detector = build_detector(config.model)
    k, m = config.model.max_detections, config.model.mask_size_infer
    for hw in [(64, 64), (32, 96)]:
        detections = detector.detect(np.zeros((2, *hw, 3), np.uint8))
        shapes = {key: tuple(value.shape) for key, value in detections.items()}
        assert shapes == {
            "boxes": (2, k, 4),
            "scores": (2, k),
            "classes": (2, k),
            "valid": (2, k),
            "masks": (2, k, m, m),
        }
        assert np.all(np.diff(np.asarray(detections["scores"]), axis=1) <= 0)


def add_known(batch: dict, known: list[list[int]]) -> dict:
    """Return the batch as of LVIS: for each image the classes of which all objects are annotated."""
    classes, valid = np.zeros((len(known), 3), np.int32), np.zeros((len(known), 3), bool)
    for row, listed in enumerate(known):
        classes[row, : len(listed)], valid[row, : len(listed)] = listed, True
    return {**batch, "known_classes": classes, "known_valid": valid}


def dense_gradients(batch, config):
    """Return the gradients of heatmap and saliency loss with respect to their logits, and the losses."""
    detector = build_detector(config.model)
    outputs = detector(batch, training=False)
    logits = [tf.convert_to_tensor(outputs[key]) for key in ("heatmap_logits", "saliency_logits")]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        replaced = {**outputs, "heatmap_logits": logits[0], "saliency_logits": logits[1]}
        losses = centernet_losses(
            replaced, batch, lambda cells: detector.read_points(outputs["features"], cells), config.model
        )
    names = ("heatmap", "saliency")
    return losses, [tape.gradient(losses[name], logit).numpy() for name, logit in zip(names, logits, strict=True)]


def test_unknown_classes_are_not_trained_as_absent():
    """Image 0 knows class 1 alone, image 1 none; both have objects of class 0, fully covered in a corner."""
    config = small_config()
    batch = make_batch(config, objects=2)
    batch["classes"][:] = 0
    batch["saliency_planes"][:, 1:] = 0
    batch["saliency_planes"][:, 0] = 128
    batch["saliency_planes"][:, 0, :4, :5] = 255
    plain = dense_gradients(batch, config)[1]
    heatmap, saliency = dense_gradients(add_known(batch, [[1], []]), config)[1]
    np.testing.assert_allclose(heatmap[0, ..., 1], plain[0][0, ..., 1], rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(saliency[0, ..., 1], plain[1][0, ..., 1], rtol=1e-5, atol=1e-8)
    assert np.abs(plain[0][..., 2]).max() > 0 and np.abs(plain[1][..., 2]).max() > 0
    assert not heatmap[..., 2].any() and not saliency[..., 2].any()
    assert not heatmap[1, ..., 1].any() and not saliency[1, ..., 1].any()
    # The objects' own class: centres pull up, nothing is pushed down; the saliency learns where it is wholly covered.
    rows, columns = np.nonzero(heatmap[1, ..., 0])
    assert 0 < len(rows) <= 2 and (heatmap[1, rows, columns, 0] < 0).all()
    covered = np.zeros(config.grid_hw, bool)
    covered[:4, :5] = True
    assert (saliency[1, ..., 0][covered] < 0).all() and not saliency[1, ..., 0][~covered].any()


def test_classes_that_are_all_known_train_as_without_lists():
    config = small_config()
    batch = make_batch(config)
    plain, listed = dense_gradients(batch, config), dense_gradients(add_known(batch, [[2, 0, 1]] * 2), config)
    for name, value in plain[0].items():
        assert float(value) == pytest.approx(float(listed[0][name]), rel=1e-6), name
    for expected, received in zip(plain[1], listed[1], strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-9)


def test_a_crowd_weighs_nothing_of_a_known_class_as_well():
    config = small_config()
    batch = add_known(make_batch(config, objects=0), [[0, 1, 2], [0]])
    batch["ignore_planes"][:, 0, :8] = 255
    batch["ignore_valid"][:] = True
    heatmap, saliency = dense_gradients(batch, config)[1]
    for gradient in (heatmap, saliency):
        assert not gradient[:, :8, :, 0].any() and gradient[:, 8:, :, 0].all()
        assert gradient[0, :8, :, 1].all() and not gradient[1, ..., 1:].any()


def test_losses_of_a_stacked_network_are_the_mean_over_its_stacks():
    config = small_config('model.backbone="hourglass_small"')
    detector = build_detector(config.model)
    batch = make_batch(config)
    outputs = detector(batch, training=False)
    detector.compute_loss(x=batch, y_pred=outputs)
    named = {tracker.name: float(tracker.result()) for tracker in detector.loss_trackers}
    first, last = outputs["intermediate"][0], outputs
    losses = [
        centernet_losses(
            stack, batch, lambda cells, s=stack, h=heads: h(gather_patches(s["features"], cells)), config.model
        )
        for stack, heads in ((first, detector.intermediate_point_heads[0]), (last, detector.point_heads))
    ]
    for name, value in named.items():
        assert float(losses[0][name]) != float(losses[1][name])
        assert value == pytest.approx((float(losses[0][name]) + float(losses[1][name])) / 2, rel=1e-5), name


@pytest.mark.slow
def test_every_head_of_every_stack_gets_a_gradient():
    config = small_config('model.backbone="hourglass_small"')
    detector = build_detector(config.model)
    batch = make_batch(config)
    with tf.GradientTape() as tape:
        total = detector.compute_loss(x=batch, y_pred=detector(batch, training=True))
    gradients = tape.gradient(total, [weight.value for weight in detector.trainable_weights])
    idle = [w.path for w, g in zip(detector.trainable_weights, gradients, strict=True) if g is None]
    assert not idle
    assert all(np.isfinite(gradient).all() and np.any(gradient != 0) for gradient in gradients)


def test_inference_reads_the_last_stack():
    config = small_config('model.backbone="hourglass_small"')
    detector = build_detector(config.model)
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    before = detector.detect(images)
    for weight in (
        *detector.intermediate_point_heads[0].weights,
        *(layer for name in ("0_heatmap_2", "0_saliency_2") for layer in detector.network.get_layer(name).weights),
    ):
        weight.assign(weight + 1.0)
    after = detector.detect(images)
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value)
    detector.point_heads.get_layer("size").project.bias.assign([3.0, 3.0])
    assert np.abs(np.asarray(detector.detect(images)["boxes"]) - np.asarray(before["boxes"])).max() > 1
