"""A stand-in for TensorFlow Serving on 127.0.0.1: its protocols, over an exported SavedModel or any other function.

It is not the model server: what it accepts and answers was written from the documented protocols, so that it tests the
client and the signatures, not the server.
"""

import base64
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

Answer = Callable[[str, dict[str, np.ndarray]], dict[str, np.ndarray]]
"""Signature and inputs to outputs; a ValueError is the client's fault, a KeyError an unknown signature."""


class NotReady(Exception):
    """The server is there, the model not yet."""


def answer_with(model) -> Answer:
    """Answer with the signatures of a loaded SavedModel."""

    def answer(signature, inputs):
        function = model.signatures[signature]
        outputs = function(**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    return answer


class GrpcServer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """`with GrpcServer(answer) as url:`"""

    def __init__(self, answer: Answer, *, most_bytes: int = 64 * 2**20, garbage: bool = False):
        self._answer = answer
        self._garbage = garbage
        options = [("grpc.max_receive_message_length", most_bytes), ("grpc.max_send_message_length", -1)]
        self._server = grpc.server(ThreadPoolExecutor(2), options=options)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(self, self._server)
        self._port = self._server.add_insecure_port("127.0.0.1:0")

    def __enter__(self) -> str:
        self._server.start()
        return f"grpc://127.0.0.1:{self._port}/nuclei"

    def __exit__(self, *exception) -> None:
        self._server.stop(0)

    def Predict(self, request, context):
        if request.model_spec.name != "nuclei":
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {request.model_spec.name}")
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        try:
            outputs = self._answer(request.model_spec.signature_name, inputs)
        except NotReady:
            context.abort(grpc.StatusCode.UNAVAILABLE, "loading")
        reply = predict_pb2.PredictResponse()
        for name in set(request.output_filter or outputs) & set(outputs):
            reply.outputs[name].CopyFrom(tf.make_tensor_proto(outputs[name]))
            if self._garbage:
                reply.outputs[name].tensor_shape.dim.add(size=17)
        return reply


class RestServer:
    """`with RestServer(answer) as url:`

    `raw` replaces the body of every reply, `statuses` are those of the first ones, `retry_after` goes with them, and
    `drip` are the seconds between two bytes.
    """

    def __init__(
        self,
        answer: Answer,
        *,
        raw: bytes | None = None,
        statuses: list[int] | None = None,
        retry_after: int | None = None,
        drip: float = 0.0,
    ):
        self.asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                outer.asked += 1
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, reply = 200, raw
                if statuses:
                    status = statuses.pop(0)
                    reply = b'{"error": "busy"}' if status != 200 else raw
                if self.path != "/v1/models/nuclei:predict":
                    status, reply = 404, json.dumps({"error": f"Servable not found for request: {self.path}"}).encode()
                if reply is None:
                    reply = json.dumps(
                        {"predictions": to_rows(answer(body["signature_name"], from_rows(body)))}
                    ).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(reply)))
                if retry_after:
                    self.send_header("Retry-After", str(retry_after))
                self.end_headers()
                for byte in reply if drip else ():
                    time.sleep(drip)
                    self.wfile.write(bytes([byte]))
                if not drip:
                    self.wfile.write(reply)

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1/models/nuclei"

    def __exit__(self, *exception) -> None:
        self._server.shutdown()
        self._server.server_close()


def from_rows(body: dict) -> dict[str, np.ndarray]:
    """Return the inputs of a request in row format."""
    rows = body["instances"]
    decoded = [
        {name: base64.b64decode(v["b64"]) if isinstance(v, dict) else v.encode() for name, v in row.items()}
        for row in rows
    ]
    return {name: np.array([row[name] for row in decoded], object) for name in decoded[0]}


def to_rows(outputs: dict[str, np.ndarray]) -> list:
    """Return outputs in row format: a single one without its name, bytes as text unless named `..._bytes`."""

    def plain(name, value):
        if isinstance(value, bytes):
            return {"b64": base64.b64encode(value).decode()} if name.endswith("_bytes") else value.decode()
        return value

    columns = {name: [plain(name, value) for value in values.tolist()] for name, values in outputs.items()}
    if len(columns) == 1:
        return next(iter(columns.values()))
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
