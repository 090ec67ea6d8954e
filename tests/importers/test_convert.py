"""Every tensor of a checkpoint finds its variable, in the right order of axes, or is named with a reason."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from centermask_keras.errors import CenterMaskError
from centermask_keras.importers.convert import IMAGENET_MEAN, IMAGENET_STD, assign, convert, fold_colors
from centermask_keras.importers.kinds import CLASSIFIER, COUNTER, KINDS, NEVER_USED
from centermask_keras.importers.slots import find_slots
from centermask_keras.ops.image_normalization import IMAGE_MEAN, IMAGE_STD, ImageNormalization


@pytest.fixture
def kind(kind):
    # In `dla_small` the trees of level 3 and 4 have one level, and their projections are used.
    return replace(kind, left_out=((r"base\.level9\.project\.", NEVER_USED), (r"base\.fc\.", CLASSIFIER)))


def test_every_tensor_and_every_variable_is_accounted_for(tensors, detector, kind):
    tensors |= {"base.level9.project.0.weight": np.zeros((8, 4, 1, 1)), "base.fc.weight": np.zeros((9, 8, 1, 1))}
    values, report = convert(tensors, detector, kind, source="file")
    assert report.mapped.keys() | report.left_out.keys() == tensors.keys()
    assert not report.mapped.keys() & report.left_out.keys()
    assert set(report.mapped.values()) == values.keys()
    assert values.keys() | report.initial.keys() == find_slots(detector).keys()
    assert {name.split("_")[0] for name in report.initial} == {"saliency", "local"}
    assert set(report.left_out.values()) == {COUNTER, NEVER_USED, CLASSIFIER}


def test_slots_are_all_weights_of_the_detector(detector):
    weights = [weight for weight in detector.weights if "seed" not in weight.path]
    assert sorted(id(slot.variable) for slot in find_slots(detector).values()) == sorted(map(id, weights))


def test_values_stand_where_they_belong(tensors, detector, kind):
    values, _ = convert(tensors, detector, kind, source="file")
    before = {name: np.asarray(slot.variable) for name, slot in find_slots(detector).items()}
    assign(detector, values)
    backbone = next(layer for layer in detector.network.layers if isinstance(layer, keras.Model))
    kernel = np.asarray(backbone.get_layer("base_level2_tree1_conv1").kernel)
    assert kernel[1, 2, 3, 4] == tensors["base.level2.tree1.conv1.weight"][4, 3, 1, 2]
    first = np.asarray(backbone.get_layer("base_base_layer_0").kernel)
    assert first[1, 2, 0, 4] == tensors["base.base_layer.0.weight"][4, 2, 1, 2]  # red is the last channel of BGR
    up = np.asarray(backbone.get_layer("ida_up_up_1").kernel)
    assert up[1, 2, 3] == tensors["ida_up.up_1.weight"][3, 0, 1, 2]
    deformable = backbone.get_layer("ida_up_proj_1_conv")
    offsets = np.asarray(deformable.conv_offset_mask.kernel)
    assert offsets[1, 2, 3, 4] == tensors["ida_up.proj_1.conv.conv_offset_mask.weight"][4, 3, 1, 2]
    assert np.asarray(deformable.bias)[3] == tensors["ida_up.proj_1.conv.bias"][3]
    norm = backbone.get_layer("dla_up_ida_0_node_1_actf_0")
    for ours, theirs in (("gamma", "weight"), ("beta", "bias"), ("moving_mean", "running_mean")):
        np.testing.assert_array_equal(getattr(norm, ours), tensors[f"dla_up.ida_0.node_1.actf.0.{theirs}"])
    np.testing.assert_array_equal(norm.moving_variance, tensors["dla_up.ida_0.node_1.actf.0.running_var"])
    size = detector.point_heads.get_layer("size")
    assert np.asarray(size.kernel)[1, 2, 3, 4] == tensors["wh.0.weight"][4, 3, 1, 2]
    assert np.asarray(size.project.kernel)[5, 1] == tensors["wh.2.weight"][1, 5, 0, 0]
    assert np.asarray(detector.point_heads.get_layer("offset").project.bias)[1] == tensors["reg.2.bias"][1]
    heatmap = detector.network.get_layer("heatmap_2")
    assert np.asarray(heatmap.kernel)[0, 0, 5, 4] == tensors["hm.2.weight"][4, 5, 0, 0]
    for name, slot in find_slots(detector).items():
        if name not in values:
            np.testing.assert_array_equal(slot.variable, before[name])


def break_tensors(tensors, how):
    match how:
        case "unknown":
            tensors["hps.0.weight"] = np.zeros((2, 2, 3, 3))
        case "cut":
            del tensors["base.level4.root.conv.weight"]
        case "classes":
            tensors["hm.2.weight"] = np.zeros((80, 16, 1, 1))
        case "axes":
            tensors["base.level2.tree1.conv1.weight"] = np.zeros(7)
        case "nan":
            tensors["wh.2.bias"] = np.array([0.0, np.nan])
        case "empty":
            tensors.clear()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("unknown", r"received others: hps\.0\.weight"),
        ("cut", r"received none for: base_level4_root_conv_weight"),
        ("classes", r"hm\.2\.weight: expected a tensor for \[1, 1, 16, 5\] .*, received \[80, 16, 1, 1\]"),
        ("axes", r"tree1\.conv1\.weight: expected a tensor for \[3, 3, 16, 32\] .*, received \[7\]"),
        ("nan", r"wh\.2\.bias: expected finite numbers"),
        ("empty", r"received none for: .* and \d+ more"),
    ],
)
def test_what_does_not_fit_is_named_and_changes_nothing(tensors, detector, kind, how, message):
    before = [np.asarray(weight) for weight in detector.weights]
    break_tensors(tensors, how)
    with pytest.raises(CenterMaskError, match="^file: .*" + message):
        convert(tensors, detector, kind, source="file")
    for weight, value in zip(detector.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


def first_layers(kernel, mean, images):
    """Convolve with zero padding, as PyTorch does, and subtract the moving average."""
    padded = np.pad(images, ((0, 0), (3, 3), (3, 3), (0, 0)))
    return np.asarray(keras.ops.conv(padded, kernel, padding="valid")) - mean


def test_bgr_checkpoints_are_exact():
    rng = np.random.default_rng(0)
    kernel, mean = rng.normal(size=(7, 7, 3, 4)).astype("float32"), rng.normal(size=4).astype("float32")
    pixels = rng.integers(0, 256, (1, 12, 14, 3)).astype("float32")
    theirs = (pixels[..., ::-1] / 255 - IMAGE_MEAN[::-1]) / IMAGE_STD[::-1]
    kind = KINDS["centernet-dla34"]
    folded = fold_colors({"base_base_layer_0_weight": kernel, "base_base_layer_1_running_mean": mean}, kind)
    ours = np.asarray(ImageNormalization(per_image=False)(pixels))
    np.testing.assert_allclose(
        first_layers(folded["base_base_layer_0_weight"], folded["base_base_layer_1_running_mean"], ours),
        first_layers(kernel, mean, theirs.astype("float32")),
        atol=1e-4,
    )


def test_imagenet_checkpoints_are_exact_but_for_the_border():
    rng = np.random.default_rng(0)
    kernel, mean = rng.normal(size=(7, 7, 3, 4)).astype("float32"), rng.normal(size=4).astype("float32")
    pixels = rng.integers(0, 256, (1, 12, 14, 3)).astype("float32")
    theirs = ((pixels / 255 - IMAGENET_MEAN) / IMAGENET_STD).astype("float32")
    folded = fold_colors(
        {"base_base_layer_0_weight": kernel, "base_base_layer_1_running_mean": mean}, KINDS["dla34-imagenet"]
    )
    ours = np.asarray(ImageNormalization(per_image=False)(pixels))
    received = first_layers(folded["base_base_layer_0_weight"], folded["base_base_layer_1_running_mean"], ours)
    error = np.abs(received - first_layers(kernel, mean, theirs))
    assert error[:, 3:-3, 3:-3].max() < 1e-4  # float32 sums of 147 terms
    shift = np.abs(np.subtract(IMAGE_MEAN, IMAGENET_MEAN) / IMAGENET_STD)
    assert shift.max() < 0.065
    bound = np.einsum("abio,i->o", np.abs(kernel), shift)  # the whole kernel beyond the image
    assert 1e-3 < error.max() and (error <= bound).all()


def test_names_of_hourglass_heads_lead_to_their_stack():
    from centermask_keras.importers.convert import rename

    kind = KINDS["centernet-hourglass"]
    assert rename("hm.0.0.conv.weight", kind) == "0_heatmap_0_weight"
    assert rename("hm.0.1.bias", kind) == "0_heatmap_2_bias"
    assert rename("wh.1.0.conv.bias", kind) == "size_0_bias"
    assert rename("reg.1.1.weight", kind) == "offset_2_weight"
    assert rename("kps.0.low2.up1.0.conv1.weight", kind) == "kps_0_low2_up1_0_conv1_weight"
    assert rename("inters_.0.1.running_var", kind) == "inters__0_1_running_var"
