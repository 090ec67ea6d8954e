"""What TensorFlow Serving reads beside a SavedModel: configurations, a compose file, warm-up requests.

Stage: extra. Everything is written into the folder of the export, so that it can be copied to a server as it is:

    NAME/1/                                           the SavedModel
    NAME/1/assets.extra/tf_serving_warmup_requests    requests that the server runs before it answers any
    NAME/serving/{models,batching,monitoring}.config  text protocol buffers
    NAME/serving/docker-compose.yml                   `docker compose up` in this folder
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from centermask_keras.data.files.shards import ImageFile
from centermask_keras.export.formats import check_name

WARM_UP = Path("assets.extra") / "tf_serving_warmup_requests"
MOST_WARM_UPS = 1000  # TensorFlow Serving refuses files of more
WARM_UP_IMAGES = 4
BATCH_SIZES = (1, 2, 4, 8)
"""The server fills batches up to the next of these, so that the graph sees few shapes."""

MODELS = """\
model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
  }}
}}
"""
BATCHING = """\
# Requests that wait together run together. A timeout of 0 would not wait for a second one.
max_batch_size {{ value: {largest} }}
batch_timeout_micros {{ value: 5000 }}
max_enqueued_batches {{ value: 64 }}
num_batch_threads {{ value: 2 }}
{allowed}
"""
MONITORING = """\
prometheus_config {
  enable: true
  path: "/monitoring/prometheus/metrics"
}
"""
COMPOSE = """\
# docker compose up
# REST on 8501, gRPC on 8500; metrics: http://localhost:8501/monitoring/prometheus/metrics
services:
  {service}:
    image: tensorflow/serving:${{TF_SERVING_VERSION:-{version}}}
    ports: ["8500:8500", "8501:8501"]
    volumes: ["..:/models/{name}:ro"]
    command:
      - --model_config_file=/models/{name}/serving/models.config
      - --monitoring_config_file=/models/{name}/serving/monitoring.config
      - --enable_batching=true
      - --batching_parameters_file=/models/{name}/serving/batching.config
      - --rest_api_timeout_in_ms=60000
    restart: unless-stopped
"""


def write_kit(folder: Path, version: Path, images: Sequence[ImageFile]) -> list[Path]:
    """Write the files beside a SavedModel.

    Args:
        folder: folder of the export; its name is the model's.
        version: the SavedModel in it, `FOLDER/1`.
        images: image files for the warm-up, sent as they are.

    Returns:
        What was written. Without `tensorflow-serving-api` the warm-up is left out.

    Raises:
        CenterMaskError: the name of the folder is none that a URL can hold.
    """
    name = check_name(folder)
    target = folder / "serving"
    target.mkdir(parents=True, exist_ok=True)
    allowed = "\n".join(f"allowed_batch_sizes: {size}" for size in BATCH_SIZES)
    texts = {
        "models.config": MODELS.format(name=name),
        "batching.config": BATCHING.format(largest=BATCH_SIZES[-1], allowed=allowed),
        "monitoring.config": MONITORING,
        "docker-compose.yml": COMPOSE.format(name=name, version=tf.__version__, service=name.lower().replace(".", "-")),
    }
    for file, text in texts.items():
        (target / file).write_text(text, encoding="utf-8")
    written = [target / file for file in texts]
    try:
        written.append(write_warm_up(version, name, images))
    except ModuleNotFoundError:
        (version / WARM_UP).unlink(missing_ok=True)  # one of another model would be run
    return written


def write_warm_up(version: Path, name: str, images: Sequence[ImageFile]) -> Path:
    """Write the requests that a server runs before it answers any: each image alone, and batches of `BATCH_SIZES`.

    Raises:
        ModuleNotFoundError: `tensorflow-serving-api` is not installed.
    """
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    contents = [path.read_bytes() for path in images]
    batches = [[content] for content in contents]
    batches += [[contents[index % len(contents)] for index in range(size)] for size in BATCH_SIZES[1:]]
    path = version / WARM_UP
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for batch in batches[:MOST_WARM_UPS]:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = name
            request.model_spec.signature_name = "serving_default"
            request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(batch, tf.string, [len(batch)]))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
    return path
