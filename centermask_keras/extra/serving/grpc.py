"""Ask a model server over gRPC: grpc://HOST:8500/NAME, or grpcs:// behind a proxy with TLS.

Stage: extra. Masks travel as bytes, a quarter of their size as JSON. Needs `tensorflow-serving-api` (the extra
`serving`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import urlsplit

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from centermask_keras.errors import ServingError
from centermask_keras.extra.serving.replies import MEBIBYTE, OUTPUTS

MOST_BYTES = 512 * MEBIBYTE
"""Of one reply. 400 masks of 64 x 64 are 1.6 MiB."""
MOST_VERSION = 2**63
RETRY = {"maxAttempts": 4, "initialBackoff": "0.2s", "maxBackoff": "2s", "backoffMultiplier": 2}


class GrpcConnection:
    """A model behind gRPC. A server that is not there, or not ready, is tried again within the deadline.

    Args:
        url: `grpc://HOST:PORT/NAME`, with `/versions/N` if it has to be that one.
        deadline: seconds for an answer.
        most_bytes: a larger reply is refused.

    Raises:
        ServingError: not such a URL.
    """

    def __init__(self, url: str, *, deadline: float, most_bytes: int = MOST_BYTES):
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        name, _, version = parts.path.strip("/").partition("/versions/")
        is_number = version.isascii() and version.isdecimal() and int(version) < MOST_VERSION
        if not parts.netloc or not name or "/" in name or not (is_number or not version):
            raise ServingError(url, "grpc://HOST:PORT/NAME", url)
        self._name, self._version = name, version
        self._deadline = deadline
        self._most_bytes = most_bytes
        policy = {"methodConfig": [{"name": [{}], "retryPolicy": {**RETRY, "retryableStatusCodes": ["UNAVAILABLE"]}}]}
        options = [
            ("grpc.max_receive_message_length", most_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.service_config", json.dumps(policy)),
            ("grpc.per_rpc_retry_buffer_size", most_bytes),  # a request beyond it is not tried again
            ("grpc.enable_http_proxy", 0),  # a proxy for the internet is none for a model server
        ]
        if parts.scheme == "grpcs":
            self._channel = grpc.secure_channel(parts.netloc, grpc.ssl_channel_credentials(), options)
        else:
            self._channel = grpc.insecure_channel(parts.netloc, options)
        self._service = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def describe(self) -> bytes:
        """Return the description of the model, JSON."""
        outputs = self._ask("describe", "query", [b""], ["description"])
        texts = outputs["description"].ravel().tolist() if "description" in outputs else []
        if len(texts) != 1 or not isinstance(texts[0], bytes):
            raise ServingError(self.url, "the description of the model", f"{texts!r:.80}")
        return texts[0]

    def find(self, contents: Sequence[bytes]) -> dict[str, np.ndarray]:
        """Send image files to `serving_default`; its outputs come back as arrays, unchecked."""
        outputs = self._ask("serving_default", "image_bytes", contents, list(OUTPUTS))
        if "error" in outputs and outputs["error"].dtype == np.object_:
            texts = [str(value, "utf-8", "replace") for value in outputs["error"].ravel()]
            outputs["error"] = np.array(texts, object).reshape(outputs["error"].shape)
        return outputs

    def _ask(self, signature: str, key: str, values: Sequence[bytes], outputs: Sequence[str]) -> dict[str, np.ndarray]:
        request = predict_pb2.PredictRequest(output_filter=outputs)
        request.model_spec.name = self._name
        request.model_spec.signature_name = signature
        if self._version:
            request.model_spec.version.value = int(self._version)
        request.inputs[key].CopyFrom(tf.make_tensor_proto(list(values), tf.string, [len(values)]))
        try:
            reply = self._service.Predict(request, timeout=self._deadline)
        except grpc.RpcError as error:
            raise self._explain(error) from None
        try:
            return {name: tf.make_ndarray(value) for name, value in reply.outputs.items()}
        except (TypeError, ValueError) as error:
            raise ServingError(self.url, "outputs that are tensors", f"{error}") from None

    def _explain(self, error: grpc.RpcError) -> ServingError:
        details = f"{error.code().name}: {error.details()}"
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return ServingError(self.url, "a model server", details)
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return ServingError(self.url, f"an answer within {self._deadline:g} s (--deadline)", "none")
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            limit = f"messages within both sides' limits, here {self._most_bytes / MEBIBYTE:g} MiB (--batch-size)"
            return ServingError(self.url, limit, details)
        return ServingError(self.url, "an answer", details)
