"""CenterMask on FCOS: losses by name, gradients, draws, crowds, inference, saved weights, XLA."""

from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_base import add_known, make_batch

from centermask_keras.config import load_config
from centermask_keras.decode.fcos import decode_fcos
from centermask_keras.detectors import build_detector
from centermask_keras.detectors.fcos import MOST_MASK_POSITIVES, draw_positives, fcos_losses

FCOS = Path(__file__).parents[2] / "configs" / "fcos_resnet101.json"
SMALL = [
    "model.backbone=resnet_small",
    "model.head_channels=32",
    "model.tower_depth=1",
    "model.num_classes=3",
    "model.dtype_policy=float32",
    "model.shape_size=8",
    "model.mask_size_train=16",
    "model.mask_size_infer=16",
    "model.frozen_norm=false",
    "model.max_detections=20",
    "data.input_hw=[64, 64]",
    "data.multi_scale_hw=null",
    "data.max_objects=6",
]


def small_config(*overrides: str):
    return load_config(FCOS, [*SMALL, *overrides])


def compute(detector, batch):
    return detector.compute_losses(detector(batch, training=False), batch)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "last"),
    [
        (["model.stride=4"], ("mask", "saliency")),
        (["model.saliency=class_agnostic", "model.loss_weights.saliency=null"], ("mask",)),
        (["model.mask_factors=local_shape", "model.loss_weights.saliency=null"], ("mask",)),
        (["model.mask_factors=saliency"], ("mask", "saliency")),
    ],
    ids=["stride 4", "agnostic", "shape only", "saliency only"],
)
def test_every_weight_gets_a_gradient_and_every_loss_a_name(overrides, last):
    config = small_config(*overrides)
    detector = build_detector(config.model)
    batch = make_batch(config)
    with tf.GradientTape() as tape:
        outputs = detector(batch, training=True)
        total = detector.compute_loss(x=batch, y_pred=outputs)
    losses = compute(detector, batch)
    assert tuple(losses) == ("classification", "box", "centerness", *last) == tuple(config.model.loss_weights.named())
    assert all(np.isfinite(float(value)) and float(value) > 0 for value in losses.values())
    gradients = tape.gradient(total, [weight.value for weight in detector.trainable_weights])
    idle = [w.path for w, g in zip(detector.trainable_weights, gradients, strict=True) if g is None]
    assert not idle
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    detections = detector.detect(batch["image"])
    assert detections["masks"].shape == (2, 20, 16, 16)


def test_without_objects_only_the_dense_maps_are_pushed_down():
    config = small_config()
    detector = build_detector(config.model)
    batch = make_batch(config, objects=0)
    batch["saliency_planes"][:] = 0
    losses = {name: float(value) for name, value in compute(detector, batch).items()}
    assert losses["box"] == losses["centerness"] == losses["mask"] == 0
    assert losses["classification"] > 0 and losses["saliency"] > 0 and np.isfinite(sum(losses.values()))


@pytest.mark.slow
def test_crowd_regions_spare_negatives_of_their_class_only():
    config = small_config()
    detector = build_detector(config.model)
    batch = make_batch(config, objects=0)
    free = float(compute(detector, batch)["classification"])
    batch["ignore_planes"][:] = 255
    batch["ignore_classes"][:] = 1
    batch["ignore_valid"][:] = True
    # At the start all classes have nearly the same logits: ignoring one of three spares a third.
    assert 0.6 < float(compute(detector, batch)["classification"]) / free < 0.73


def dense_gradients(batch, config):
    """Return the gradients of classification and saliency loss with respect to their logits: [B, cells, C] each."""
    detector = build_detector(config.model)
    outputs = detector(batch, training=False)
    logits = [tf.convert_to_tensor(level) for level in (*outputs["class_logits"], outputs["saliency_logits"])]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        losses = detector.compute_losses({**outputs, "class_logits": logits[:-1], "saliency_logits": logits[-1]}, batch)
    levels = tape.gradient(losses["classification"], logits[:-1])
    classes = np.concatenate([level.numpy().reshape(2, -1, 3) for level in levels], axis=1)
    return classes, tape.gradient(losses["saliency"], logits[-1]).numpy().reshape(2, -1, 3)


@pytest.mark.slow
def test_unknown_classes_of_lvis_are_not_trained_as_absent():
    """Image 0 knows class 1 alone, image 1 none; both have objects of class 0, fully covered in their first cells."""
    config = small_config()
    batch = make_batch(config, objects=2)
    batch["classes"][:] = 0
    batch["saliency_planes"][:, 1:] = 0
    batch["saliency_planes"][:, 0] = 128
    batch["saliency_planes"][:, 0, 0, :5] = 255
    plain = dense_gradients(batch, config)
    classes, saliency = dense_gradients(add_known(batch, [[1], []]), config)
    for before, after in zip(plain, (classes, saliency), strict=True):
        np.testing.assert_allclose(after[0, :, 1], before[0, :, 1], rtol=1e-5, atol=1e-8)
        assert before[..., 2].all() and not after[..., 2].any() and not after[1, :, 1].any()
    # The objects' own class: positives pull up, nothing is pushed down; the saliency learns where it is wholly covered.
    positive = plain[0][..., 0] < 0
    assert positive[1].any() and (classes[1, :, 0][positive[1]] < 0).all() and not classes[1, :, 0][~positive[1]].any()
    assert (saliency[1, :5, 0] < 0).all() and not saliency[1, 5:, 0].any()


def test_padding_rows_carry_no_loss():
    config = small_config()
    detector = build_detector(config.model)
    batch = make_batch(config)
    outputs = detector(batch, training=False)

    def losses():
        read_points = partial(detector.read_points, outputs["features"])
        seed = keras.random.SeedGenerator(0)  # the same draw both times
        return {k: float(v) for k, v in fcos_losses(outputs, batch, read_points, config.model, seed=seed).items()}

    before = losses()
    padding = ~batch["valid"]
    batch["boxes"][padding], batch["classes"][padding], batch["masks"][padding] = [3, 3, 60, 60], 2, 255
    assert losses() == pytest.approx(before, rel=1e-6)


def test_positives_are_drawn_evenly_without_repetition_and_anew():
    positive = np.zeros((2, 500), bool)
    positive[0, 100:400] = True
    positive[1, 7:10] = True
    seed = keras.random.SeedGenerator(3)
    counts = np.zeros(500)
    for _ in range(40):
        locations, chosen = (np.asarray(value) for value in draw_positives(positive, seed))
        assert chosen[0].all() and chosen[1].sum() == 3 and not locations[1][~chosen[1]].any()
        assert sorted(locations[1][chosen[1]]) == [7, 8, 9]
        assert len(set(locations[0])) == MOST_MASK_POSITIVES and positive[0][locations[0]].all()
        counts[locations[0]] += 1
    # 40 draws of 128 of 300: 17.1 each, deviation 3.1.
    assert counts[100:400].min() > 3 and counts[100:400].max() < 32
    first, second = (draw_positives(positive, keras.random.SeedGenerator(3))[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.slow
def test_detections_take_their_masks_from_their_own_locations():
    config = small_config()
    detector = build_detector(config.model)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8)
    bias = detector.network.get_layer("class_head").get_layer("class_logits").bias
    bias.assign(0 * bias)  # fresh heads find nothing
    box_bias = detector.network.get_layer("box_head").get_layer("distances").bias
    box_bias.assign(box_bias + 1.0)
    detections = {key: np.asarray(value) for key, value in detector.detect(images).items()}
    assert detections["valid"].all() and np.all(np.diff(detections["scores"], axis=1) <= 0)
    outputs = detector(images)
    decoded = decode_fcos(
        outputs["class_logits"], outputs["distances"], outputs["centerness_logits"], num_detections=20, least_score=0.05
    )
    np.testing.assert_allclose(detections["boxes"], decoded["boxes"], atol=1e-4)
    tower = [np.asarray(level) for level in outputs["features"]]
    starts = np.cumsum([0, *(level.shape[1] * level.shape[2] for level in tower)])
    head = detector.point_heads.get_layer("local_shape_logits")
    location = int(decoded["locations"][1, 3])
    level = int(np.searchsorted(starts, location, side="right")) - 1
    i, j = divmod(location - starts[level], tower[level].shape[2])
    patch = np.pad(tower[level][1], ((1, 1), (1, 1), (0, 0)))[i : i + 3, j : j + 3]
    expected = head(patch[None, None])
    received = detector.read_points(outputs["features"], decoded["locations"])["local_shape_logits"][1, 3]
    np.testing.assert_allclose(received, expected[0, 0], atol=1e-5)


@pytest.mark.slow
def test_saved_and_loaded_it_detects_the_same_and_the_masks_tell_of_the_point_heads(tmp_path):
    config = small_config("model.least_score=0.0001")
    first, second = build_detector(config.model), build_detector(config.model)
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    for weight in first.trainable_weights:
        weight.assign(weight + 0.01)
    first.save_weights(tmp_path / "model.weights.h5")
    second.load_weights(tmp_path / "model.weights.h5")
    expected = first.detect(images)
    for key, value in second.detect(images).items():
        np.testing.assert_array_equal(value, expected[key], err_msg=key)
    bias = second.point_heads.get_layer("local_shape_logits").project.bias
    bias.assign(bias + 1.0)
    valid = np.asarray(expected["valid"])
    changed = np.asarray(second.detect(images)["masks"])[valid] != np.asarray(expected["masks"])[valid]
    assert valid.any() and changed.any(axis=(1, 2)).all()


@pytest.mark.slow
def test_the_whole_step_compiles_under_xla_and_agrees_also_at_changing_sizes():
    """The pipeline changes the size of the input and the number of objects: both are unknown until the step runs.

    Deformable convolutions meet XLA in their own tests: in this one they would be most of what is compiled.
    """
    config = small_config()
    batches = [make_batch(config), make_batch(small_config("data.input_hw=[64, 96]"), seed=1)]
    for name in ("boxes", "classes", "valid", "masks"):
        batches[1][name] = batches[1][name][:, :4]
    shapes = {
        name: [a if a == b else None for a, b in zip(value.shape, batches[1][name].shape, strict=True)]
        for name, value in batches[0].items()
    }
    specs = {name: tf.TensorSpec(shape, batches[0][name].dtype) for name, shape in shapes.items()}
    # Endless: where a dataset ends, Keras counts one step too many in the means of losses, but not under XLA.
    dataset = tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=specs).repeat()
    losses = {}
    for jit_compile in (False, True):
        detector = build_detector(config.model)
        detector.compile(optimizer=keras.optimizers.SGD(1e-3), jit_compile=jit_compile)
        losses[jit_compile] = detector.fit(dataset, steps_per_epoch=1, epochs=2, verbose=0).history
    for name, values in losses[True].items():  # one for each batch; measured: rounding weights moves them by 2e-7
        assert values == pytest.approx(losses[False][name], rel=1e-5), name
