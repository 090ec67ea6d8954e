"""The files for the model server: they parse as the protocol buffers that it reads, and name each other rightly."""

import re

import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from centermask_keras.errors import CenterMaskError
from centermask_keras.extra.serving.kit import BATCH_SIZES, write_kit

Field = descriptor_pb2.FieldDescriptorProto


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "nuclei.v2"
    (folder / "1").mkdir(parents=True)
    images = []
    for number in range(3):
        images.append(folder / f"{number}.jpg")
        images[-1].write_bytes(bytes([255, 216, number]))
    return folder, images, write_kit(folder, folder / "1", images)


def message_of(name, fields):
    """Build a message class of the model server's own schema, which no Python package brings along."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package="test", syntax="proto3")
    wrapped = file.message_type.add(name="Wrapped")
    wrapped.field.add(name="value", number=1, type=Field.TYPE_INT64, label=Field.LABEL_OPTIONAL)
    group = file.message_type.add(name="Group")
    group.field.add(name="enable", number=1, type=Field.TYPE_BOOL, label=Field.LABEL_OPTIONAL)
    group.field.add(name="path", number=2, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)
    message = file.message_type.add(name=name)
    for number, (field, kind) in enumerate(fields.items(), start=1):
        repeated = kind == "repeated"
        added = message.field.add(name=field, number=number, type=Field.TYPE_INT64 if repeated else Field.TYPE_MESSAGE)
        added.label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
        if not repeated:
            added.type_name = f".test.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"test.{name}"))


def test_models_config_is_that_of_the_server(export):
    folder, _, _ = export
    text = (folder / "serving" / "models.config").read_text()
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert [(model.name, model.base_path, model.model_platform) for model in config] == [
        ("nuclei.v2", "/models/nuclei.v2", "tensorflow")
    ]


def test_batching_and_monitoring_configs_parse(export):
    folder, _, _ = export
    # Names and kinds of the fields: session_bundle_config.proto and monitoring_config.proto of TensorFlow Serving.
    names = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
    schema = {**dict.fromkeys(names, "Wrapped"), "allowed_batch_sizes": "repeated"}
    batching = text_format.Parse(
        (folder / "serving" / "batching.config").read_text(), message_of("BatchingParameters", schema)()
    )
    assert list(batching.allowed_batch_sizes) == list(BATCH_SIZES)
    assert batching.max_batch_size.value == BATCH_SIZES[-1]  # the server refuses anything else
    monitoring = text_format.Parse(
        (folder / "serving" / "monitoring.config").read_text(),
        message_of("MonitoringConfig", {"prometheus_config": "Group"})(),
    )
    assert monitoring.prometheus_config.enable and monitoring.prometheus_config.path.startswith("/")


def test_the_compose_file_names_files_that_are_there(export):
    folder, _, _ = export
    text = (folder / "serving" / "docker-compose.yml").read_text()
    named = re.findall(r"=/models/nuclei\.v2/(\S+)", text)
    assert len(named) == 3 and all((folder / name).is_file() for name in named)
    assert '"..:/models/nuclei.v2:ro"' in text  # seen from serving/, the folder of the export


def test_warm_up_requests_hold_the_images(export):
    folder, images, written = export
    contents = [path.read_bytes() for path in images]
    assert written[-1] == folder / "1" / "assets.extra" / "tf_serving_warmup_requests"
    logs = [
        prediction_log_pb2.PredictionLog.FromString(r)
        for r in tf.data.TFRecordDataset(str(written[-1])).as_numpy_iterator()
    ]
    requests = [log.predict_log.request for log in logs]
    assert {(r.model_spec.name, r.model_spec.signature_name) for r in requests} == {("nuclei.v2", "serving_default")}
    sent = [tf.make_ndarray(r.inputs["image_bytes"]).tolist() for r in requests]
    assert sent[:3] == [[content] for content in contents]
    assert [len(batch) for batch in sent[3:]] == list(BATCH_SIZES[1:])
    assert set(sum(sent[3:], [])) == set(contents)


def test_a_name_that_no_url_can_hold_is_refused(tmp_path):
    with pytest.raises(CenterMaskError, match="expected a name of letters.*received my model"):
        write_kit(tmp_path / "my model", tmp_path / "my model" / "1", [])
