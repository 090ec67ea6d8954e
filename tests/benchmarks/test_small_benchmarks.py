"""The short versions of the benchmark scripts: they run, and what they compare is equal."""

import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf

from centermask_keras.backbones.dla import build_dla34
from centermask_keras.config import load_config
from centermask_keras.data.files.image_groups import describe_colors, group_near_duplicates
from centermask_keras.data.files.shards import ImageShards
from centermask_keras.data.files.storage import ImageFolder
from centermask_keras.detectors import build_detector
from centermask_keras.inference.load import build, load
from centermask_keras.masks import paste_rles
from centermask_keras.ops.deform_conv import DeformableConv2D
from centermask_keras.training.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import deform_conv  # noqa: E402
import facades_split  # noqa: E402
import forward  # noqa: E402
import masks  # noqa: E402
import nuclei_split  # noqa: E402
import overfit  # noqa: E402
import pipeline  # noqa: E402
import profile_step  # noqa: E402
import ship_model  # noqa: E402


def test_masks_pasted_in_boxes_equal_those_of_whole_images(coco_train):
    """Byte for byte, with the box sizes of real objects and boxes around the whole image."""
    probabilities, boxes = masks.draw_detections(coco_train, np.random.default_rng(1))
    found = paste_rles(probabilities, boxes, masks.HW, masks.THRESHOLD)
    whole = masks.paste_whole_images(probabilities, boxes)
    assert len(found) == 110 and [rle["counts"] for rle in found] == [rle["counts"] for rle in whole]


def test_the_pipeline_is_timed_from_image_files_and_from_shards(coco_tiny, tmp_path):
    config = load_config(ROOT / "configs" / "dla34.json", ["train.batch_size=2", "data.input_hw=[128, 128]"])
    both = pipeline.load_both(coco_tiny, tmp_path)
    assert [type(annotations.storage) for annotations in both.values()] == [ImageFolder, ImageShards]
    for annotations in both.values():
        clock, processor = pipeline.time_batches(config, annotations, 3, threads=2, processes=0)
        assert clock > 0 and processor > 0


def test_a_profile_names_operations_and_groups_them():
    kernel, images = tf.ones((3, 3, 8, 8)), tf.ones((1, 64, 64, 8))
    call = tf.function(lambda: tf.reduce_sum(tf.nn.relu(tf.nn.conv2d(images * 2, kernel, 1, "SAME"))))
    seconds, operations = profile_step.profile(call)
    groups = profile_step.group_seconds(operations)
    assert seconds > 0 and groups["convolutions"] > 0 and groups["batch normalisation"] == 0


def test_operations_are_grouped_by_name_and_scopes_left_out():
    groups = profile_step.group_seconds({"_MklNativeConv2D": 2.0, "_MklMatMul": 1.0, "AddV2": 0.5, "lower": 9.0})
    assert groups["convolutions"] == 2.0 and groups["matrix products"] == 1.0 and sum(groups.values()) == 3.5


def test_the_committed_list_divides_no_group(nuclei_train):
    """Of 60 images of one size: no two near-duplicates are in different parts."""
    part_of = {name: part for part, names in json.loads(nuclei_split.LIST.read_text()).items() for name in names}
    rows = json.loads((nuclei_train / "annotations" / "instances.json").read_text())["images"]
    names = [row["file_name"] for row in rows if (row["height"], row["width"]) == (256, 320)][:60]
    colors = np.stack([describe_colors(nuclei_train / "images" / name) for name in names])
    for group in group_near_duplicates(colors):
        assert len({part_of[names[index]] for index in group}) == 1


def test_the_list_of_facades_divides_no_photo_and_makes_three_files(facades_train, tmp_path):
    """Both crops of a photo are in one part; the files hold every image and object once; all classes are in all."""
    parts = json.loads(facades_split.LIST.read_text())
    photos = {part: {name.rpartition("_scaled_")[0] for name in names} for part, names in parts.items()}
    assert sum(map(len, photos.values())) == len(set.union(*photos.values())) == 324
    data = json.loads((facades_train / "annotations" / "instances.json").read_text())
    facades_split.write_parts(data, parts, facades_train / "images", tmp_path)
    written = {part: json.loads((tmp_path / f"{part}.json").read_text()) for part in parts}
    for key in ("images", "annotations"):
        ids = [row["id"] for part in written.values() for row in part[key]]
        assert sorted(ids) == sorted(row["id"] for row in data[key])
    assert all(len({row["category_id"] for row in part["annotations"]}) == 10 for part in written.values())


@pytest.mark.slow
def test_the_list_of_facades_is_what_data_split_chooses(facades_train):
    made = facades_split.make_list(facades_train / "annotations" / "instances.json", facades_train / "images")
    assert made == json.loads(facades_split.LIST.read_text())


@pytest.mark.parametrize("backbone", ["dla34", "resnet_small"])
def test_the_overfit_trains_and_judges_on_the_same_images_without_augmentation(tmp_path, backbone):
    config = overfit.make_config(tmp_path, 200, backbone)
    assert (config.model.backbone, config.model.stride, config.train.optimizer) == (backbone, 4, "adam")
    assert config.data.train == config.data.val and config.data.augmentation.crop == "none"
    assert (config.model.shape_size, config.model.max_detections, config.data.input_hw) == (32, 100, (512, 512))
    assert config.train.drop_epochs == (140, 180)


def test_a_shipped_model_equals_its_run_at_half_precision(tmp_path):
    """Every weight of the copy is the weight of the run rounded to float16."""
    config = load_config(ROOT / "configs" / "demo.json")
    run = RunFolder(tmp_path / "run")
    (run.path / "config.json").write_text(config.to_json())
    run.update_record(categories=[{"id": i, "name": str(i)} for i in range(config.model.num_classes)])
    (run.path / "metrics.csv").write_text("epoch\n")
    predictor = build(config)
    run.save_weights(predictor.detector, ship_model.WEIGHTS)
    ship_model.ship(run.path, tmp_path / "shipped", ["eval.mask_threshold=0.55"])
    shipped = load(tmp_path / "shipped")
    assert shipped.config.eval.mask_threshold == 0.55
    for weight, copy in zip(predictor.detector.get_weights(), shipped.detector.get_weights(), strict=True):
        np.testing.assert_array_equal(weight.astype(np.float16).astype(weight.dtype), copy)
    sizes = [(folder / ship_model.WEIGHTS).stat().st_size for folder in (run.path, tmp_path / "shipped")]
    assert sizes[1] < 0.65 * sizes[0]


def test_a_weight_beyond_half_precision_is_an_error(tmp_path):
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        file["layer/vars/0"] = np.array([1e6], np.float32)
    with pytest.raises(ValueError, match="layer/vars/0: expected weights within float16"):
        ship_model.halve_weights(tmp_path / "a.weights.h5")


def test_deformable_convolutions_are_timed_in_the_shapes_of_dla34():
    backbone = build_dla34(deformable=True)
    shapes = set()
    for layer in backbone.layers:
        if isinstance(layer, DeformableConv2D):
            channels, filters = layer.kernel.shape[2:]
            shapes.add((channels, filters))
    assert shapes == {shape[1:] for shape in deform_conv.SHAPES}
    times = deform_conv.compare((8, 4, 6), "mixed_bfloat16", batch_size=2, repeats=2)
    assert set(times) == {"plain forward", "plain step", "deformable forward", "deformable step"}
    assert min(times.values()) > 0


def test_the_timed_deformable_layer_moves_its_taps_and_gets_all_gradients():
    layer = deform_conv.build_layers(16, 6, "float32")["deformable"]
    features = tf.random.stateless_normal((1, 12, 12, 16), (1, 2))
    offsets = layer.conv_offset_mask(features)[..., :18].numpy()
    assert 0.7 < offsets.std() / deform_conv.OFFSET_DEVIATION < 1.3
    gradients = deform_conv.make_calls(layer, features)["step"]()
    assert len(gradients) == 5 and all(np.abs(gradient.numpy()).max() > 0 for gradient in gradients)


def test_the_curve_has_a_column_for_every_loss(tmp_path, capsys):
    (tmp_path / "metrics.csv").write_text("epoch,loss,box\n1,2.5,0.5\n2,1.25,0.25\n")
    overfit.print_curve(tmp_path / "metrics.csv", ("loss", "box"))
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["epoch", "loss", "box"],
        ["1", "2.500", "0.500"],
        ["2", "1.250", "0.250"],
    ]


def test_operations_are_counted_from_shapes():
    kernel, matrix = tf.ones((3, 3, 8, 16)), tf.ones((16, 5))

    def compute(images):
        maps = tf.nn.conv2d(images, kernel, 2, "SAME")
        maps = tf.nn.depthwise_conv2d(maps, tf.ones((3, 3, 16, 1)), [1, 1, 1, 1], "SAME")
        return tf.reshape(maps, (-1, 16)) @ matrix

    counted = forward.count_operations(compute, tf.TensorSpec([1, 10, 12, 8]))
    assert counted == 2 * 5 * 6 * (3 * 3 * 8 * 16 + 3 * 3 * 16 + 16 * 5)
    with pytest.raises(ValueError, match="received Einsum"):
        forward.count_operations(lambda a: tf.einsum("ij,kj->ik", a, matrix), tf.TensorSpec([3, 5]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "overrides", "locations"),
    [
        ("hourglass104", ["model.backbone=hourglass_small"], 32 * 32),
        ("fcos_resnet101", ["model.backbone=resnet_small", "model.tower_depth=1"], 16**2 + 8**2 + 4**2 + 2**2 + 1),
    ],
)
def test_a_model_is_run_forward_and_its_dense_heads_are_counted(name, overrides, locations):
    small = ["data.input_hw=[128, 128]", "model.head_channels=32", "model.max_detections=10", "model.shape_size=8"]
    config = load_config(ROOT / "configs" / f"{name}.json", [*small, *overrides, forward.FLOAT32])
    figures = forward.measure(config, repeats=1)
    assert 0 < figures["growth_gib"] < figures["peak_gib"] < 8 and figures["seconds"] > 0
    detector = build_detector(config.model)
    assert figures["parameters_millions"] * 1e6 == pytest.approx(detector.count_params())
    # A head of a 3x3 and a 1x1 convolution: features -> 32 -> its outputs.
    outputs = (
        {"offset": 2, "size": 2, "local_shape_logits": 64} if name == "hourglass104" else {"local_shape_logits": 64}
    )
    channels = detector.point_heads.inputs[0].shape[-1]
    head = sum(2 * (9 * channels * 32 + 32 * count) for count in outputs.values())
    apart = 1e9 * (figures["gflops_dense"] - figures["gflops_points"])
    assert apart == pytest.approx(head * (locations - 10), rel=1e-6)
