"""A small detector whose steps are compared between replicas, processes and backends; run as a script in a process.

Devices and backends are chosen before TensorFlow or JAX start, so that a test cannot choose them in its own process.
`python replica_case.py OUT.npz KEY=VALUE ...` trains a few steps and writes what came out.
"""

import os
import sys
from pathlib import Path

import numpy as np

OPTIONS = {
    "devices": "1",
    "weights": "",  # what another process wrote: begin with its weights (backends draw different random numbers)
    "distribution": "none",
    "synchronized": "true",
    "policy": "float32",
    "clip": "null",
    "accumulation": "1",  # parts of a batch that come one after the other, instead of at once
    "frozen": "false",  # batch normalisation
    "objects": "3,1,0,0",  # of each image: the second of two replicas has none
    "trimmed": "-1",  # replica whose part of every second batch comes with less padding than those of the others
    "steps": "5",
    "first": "0",  # of the steps, whose numbers choose the batches
    "jit_compile": "false",
    "model": "tiny",  # or what the demo builds, or a small CenterMask on FCOS
    "learning_rate": "1e-2",
    "l2": "1e-2",  # large enough to be seen in a few steps
}
CONFIGS = Path(__file__).parents[2] / "configs"
FCOS = [
    *("model.backbone=resnet_small", "model.tower_depth=1", "model.frozen_norm=false", "data.multi_scale_hw=null"),
    "model.max_detections=20",
]
SIZE = 4  # images
PADDED = ("boxes", "classes", "valid", "masks")


def make_config(options):
    from centermask_keras.config import load_config

    fcos = options["model"] == "fcos"
    return load_config(
        CONFIGS / ("fcos_resnet101.json" if fcos else "demo.json"),
        [
            *(FCOS if fcos else ()),
            *("data.input_hw=[64, 64]", "data.max_objects=6", "model.num_classes=3", "model.head_channels=16"),
            *(
                "model.shape_size=8",
                "model.mask_size_train=8",
                "model.mask_size_infer=16",
            ),
            *("train.optimizer=sgd", f"train.clip_norm={options['clip']}", f"train.l2={options['l2']}"),
            f"train.accumulation_steps={options['accumulation']}",
            f"train.batch_size={SIZE}",
            f"model.dtype_policy={options['policy']}",
            f"distribution={options['distribution']}",
            f"train.synchronized_norm={options['synchronized']}",
        ],
    )


def make_batch(config, step, objects):
    """Draw the batch of a step: so many boxes in each image, soft masks and one saliency plane per class."""
    rng = np.random.default_rng(step)
    n, m, c = config.data.max_objects, config.model.mask_size_train, config.model.num_classes
    (height, width), (h, w) = config.data.input_hw, config.grid_hw
    valid = np.arange(n) < np.asarray(objects)[:, None]
    corners = rng.uniform(0, 40, (SIZE, n, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(8, 24, (SIZE, n, 2))], -1) * valid[..., None]
    return {
        "image": rng.integers(0, 256, (SIZE, height, width, 3), np.uint8),
        "boxes": boxes.astype(np.float32),
        "classes": (rng.integers(0, c, (SIZE, n)) * valid).astype(np.int32),
        "valid": valid,
        "masks": rng.integers(0, 256, (SIZE, n, m, m), np.uint8) * valid[..., None, None].astype(np.uint8),
        "saliency_planes": rng.integers(0, 256, (SIZE, c, h, w), np.uint8),
        "saliency_classes": np.tile(np.arange(c, dtype=np.int32), (SIZE, 1)),
        "saliency_valid": np.repeat(np.asarray(objects)[:, None] > 0, c, axis=1),
        "ignore_planes": np.zeros((SIZE, 1, h, w), np.uint8),
        "ignore_classes": np.zeros((SIZE, 1), np.int32),
        "ignore_valid": np.zeros((SIZE, 1), bool),
    }


def trim(name, rows, trimmed):
    """Cut objects of padding off."""
    return rows[:, :4] if trimmed and name in PADDED else rows


def make_dataset(config, share, options):
    """Make what `make_train_dataset` would make of these batches."""
    import tensorflow as tf

    steps, objects = int(options["steps"]), [int(count) for count in options["objects"].split(",")]
    per_replica = SIZE // share.replicas
    first = share.worker * (share.replicas // share.workers)
    parts = [
        {
            name: trim(name, rows, step % 2 and replica == int(options["trimmed"]))[replica * per_replica :][
                :per_replica
            ]
            for name, rows in make_batch(config, int(options["first"]) + step, objects).items()
        }
        for step in range(steps)
        for replica in range(first, first + share.replicas // share.workers)
    ]
    signature = {
        name: tf.TensorSpec([rows.shape[0], None if name in PADDED else rows.shape[1], *rows.shape[2:]], rows.dtype)
        for name, rows in parts[0].items()
    }
    dataset = tf.data.Dataset.from_generator(lambda: iter(parts), output_signature=signature)
    return dataset.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))


def build_tiny(config, *, seed, synchronized_norm):
    """Build a detector of two convolutions with batch normalisation: a second to trace, not a minute."""
    import keras

    from centermask_keras.backbones.conv_norm import conv_norm
    from centermask_keras.detectors import synchronize_norms
    from centermask_keras.detectors.centernet import CenterNetCenterMask, add_dense_heads, build_point_heads
    from centermask_keras.ops.image_normalization import ImageNormalization

    keras.utils.set_random_seed(1)
    keras.config.set_dtype_policy(config.dtype_policy)
    images = keras.Input((None, None, 3), name="image", dtype="float32")
    features = conv_norm(ImageNormalization(per_image=False)(images), 16, "first", stride=2)
    outputs = add_dense_heads(conv_norm(features, 16, "second", stride=2), config, stack="")
    network = keras.Model(images, outputs, name="network")
    detector = CenterNetCenterMask(network, build_point_heads(config, 16), config=config)
    synchronize_norms(detector, synchronized_norm)
    return detector


def train(options):
    """Train `steps` epochs of one step by SGD at a constant rate; return arrays by name."""
    import keras

    from centermask_keras.data.feeding.pipeline import Share
    from centermask_keras.detectors import build_detector
    from centermask_keras.training.distribution import start_replicas
    from centermask_keras.training.optimizer import build_optimizer

    config, steps, parts = make_config(options), int(options["steps"]), int(options["accumulation"])
    with start_replicas(config, "case") as replicas:
        with replicas.scope():
            build = build_tiny if options["model"] == "tiny" else build_detector
            model = build(config.model, seed=config.train.seed, synchronized_norm=config.train.synchronized_norm)
            if options["frozen"] == "true":
                for layer in model.network.layers:
                    layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
            optimizer = build_optimizer(config.train, float(options["learning_rate"]))
            optimizer.build(model.trainable_variables)
            model.compile(optimizer=optimizer, jit_compile=options["jit_compile"] == "true")
        replicas.prepare(model)
        if options["weights"]:
            load_weights(model, options["weights"])
        weights = [model.get_weights()]

        def keep(epoch, logs):
            weights.append(model.get_weights())

        history = model.fit(
            replicas.distribute(
                lambda share: make_dataset(config, share if parts == 1 else Share(0, 1, parts), options)
            ),
            steps_per_epoch=parts,
            epochs=steps,
            shuffle=False,
            verbose=0,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=keep)],
        ).history
    trainable = {weight.path for weight in model.trainable_weights}
    found = {f"log/{name}": np.asarray(values, np.float64) for name, values in history.items()}
    for step, values in enumerate(weights):
        for index, (weight, value) in enumerate(zip(model.weights, values, strict=True)):
            kind = "trained" if weight.path in trainable else "statistics"
            found[f"step{step}/{kind}/{index}"] = value
    return found | {"replicas": np.asarray(replicas.count)}


def load_weights(model, path):
    """Set the weights to those of step 0 in a file that `train` made."""
    with np.load(path) as stored:
        names = [name for name in stored.files if name.startswith("step0/")]
        model.set_weights([stored[name] for name in sorted(names, key=lambda name: int(name.split("/")[-1]))])


if __name__ == "__main__":
    out, *given = sys.argv[1:]
    chosen = OPTIONS | dict(pair.split("=", 1) for pair in given)
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={chosen['devices']}"
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * int(chosen["devices"]))
    np.savez(out, **train(chosen))
