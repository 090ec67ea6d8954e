"""The client over REST and gRPC: it reads replies rightly, and every failure is one clear error."""

import socket
import time

import numpy as np
import pytest
from extra.serving.stand_in import GrpcServer, NotReady, RestServer

from centermask_keras._cv2 import cv2
from centermask_keras.config import load_config
from centermask_keras.errors import CenterMaskError, ImageError, ServingError
from centermask_keras.extra.serving.client import ServedPredictor, connect
from centermask_keras.inference.objects import Category
from centermask_keras.inference.runtimes.description import Description
from centermask_keras.inference_config import to_inference_config
from centermask_keras.shipped import find_model

CONFIG = find_model("nuclei") / "config.json"
K, M = 3, 8
SERVERS = pytest.mark.parametrize("server", [RestServer, GrpcServer])


def description():
    return Description(to_inference_config(load_config(CONFIG)), [Category(7, "nucleus")]).text()


def reply_for(contents):
    """Answer for images of 30 x 40: two objects, the second one of a low score; an error for what is no PNG."""
    count = len(contents)
    readable = np.array([content.startswith(b"\x89PNG") for content in contents])
    return {
        "boxes": np.tile(np.array([[2.5, 3, 12.5, 23], [20, 5, 30, 15], [0, 0, 0, 0]], "float32"), (count, 1, 1)),
        "scores": np.tile(np.array([0.9, 0.2, 0], "float32"), (count, 1)),
        "classes": np.zeros((count, K), "int32"),
        "valid": np.array([[True, True, False]]) & readable[:, None],
        "masks": np.full((count, K, M, M), 255, "uint8"),
        "image_hw": np.tile(np.array([30, 40], "int32"), (count, 1)),
        "error": np.array([b"" if fine else b"no image" for fine in readable], object),
    }


def answer(signature, inputs):
    if signature == "describe":
        return {"description": np.array([description().encode()] * len(inputs["query"]), object)}
    return reply_for(inputs["image_bytes"].tolist())


def changed(**outputs):
    """Answer with some outputs replaced, or left out if None."""

    def answer_otherwise(signature, inputs):
        found = answer(signature, inputs)
        if signature == "describe":
            return found
        return {name: value for name, value in {**found, **outputs}.items() if value is not None}

    return answer_otherwise


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), np.full((30, 40, 3), 90, "uint8"))
    return path


@SERVERS
def test_objects_come_back_in_original_pixels(server, image):
    with server(answer) as url:
        served = ServedPredictor(connect(url))
        result = served.predict(image)[0]
        everything = served.predict(np.full((30, 40, 3), 90, "uint8"), score_threshold=0)[0]
    assert served.config == to_inference_config(load_config(CONFIG))
    np.testing.assert_array_equal(result.boxes, [[2.5, 3, 12.5, 23]])
    np.testing.assert_allclose(result.scores, [0.9])
    assert (result.class_names, result.category_ids) == (["nucleus"], [7])
    expected = np.zeros((30, 40), bool)
    expected[3:23, 3:12] = True  # pixels whose centres are inside; those on its edge belong to one side or the other
    np.testing.assert_array_equal(result.masks.dense()[0][:, 3:12], expected[:, 3:12])
    assert result.image.shape == (30, 40, 3) and len(everything) == 2


@SERVERS
def test_one_bad_image_leaves_its_batch_alone(server, image, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"\xff\xd8\xff nothing more")
    paths = [image, bad, tmp_path / "none.png", image]
    with server(answer) as url:
        served = ServedPredictor(connect(url), batch_size=4)
        outcomes = list(served.predict_each(paths, score_threshold=0.3))
        with pytest.raises(ImageError, match="bad.jpg: expected a readable image, received: refused by the server"):
            served.predict(paths)
    assert [isinstance(outcome, ImageError) for outcome in outcomes] == [False, True, True, False]
    assert "none.png" in str(outcomes[2])
    np.testing.assert_array_equal(outcomes[0].boxes, outcomes[3].boxes)


@pytest.mark.parametrize("scheme", ["http://127.0.0.1:{}/v1/models/nuclei", "grpc://127.0.0.1:{}/nuclei"])
def test_a_refused_connection_is_one_line(scheme):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = scheme.format(free.getsockname()[1])
    with pytest.raises(ServingError, match="expected a model server, received .*refused") as error:
        ServedPredictor(connect(url, deadline=20))
    assert "\n" not in str(error.value)


@SERVERS
def test_a_server_that_is_too_slow_meets_the_deadline(server):
    def slow(signature, inputs):
        time.sleep(3)
        return answer(signature, inputs)

    with server(slow) as url:
        begin = time.perf_counter()
        with pytest.raises(ServingError, match=r"expected an answer within 0.5 s \(--deadline\), received none"):
            ServedPredictor(connect(url, deadline=0.5))
        assert time.perf_counter() - begin < 2.5  # not tried again


@pytest.mark.parametrize("kilobytes", [1, 2000])
def test_a_grpc_server_that_is_not_ready_is_asked_again(kilobytes):
    asked = []

    def unready(signature, inputs):
        asked.append(signature)
        if len(asked) < 3:
            raise NotReady
        return answer(signature, inputs)

    with GrpcServer(unready) as url:
        found = connect(url).find([bytes(kilobytes * 1000)])
    assert len(asked) == 3 and found["error"][0] == "no image"


def test_a_rest_server_that_drips_meets_the_deadline():
    server = RestServer(answer, raw=b" " * 40, drip=0.2)
    with server as url:
        begin = time.perf_counter()
        with pytest.raises(ServingError, match="expected an answer within 1 s"):
            connect(url, deadline=1).find([b""])
        assert time.perf_counter() - begin < 2.5


def test_a_rest_server_that_asks_for_hours_is_not_waited_for():
    with RestServer(answer, statuses=[503] * 9, retry_after=3600) as url:
        begin = time.perf_counter()
        with pytest.raises(ServingError, match="status 503"):
            connect(url, deadline=30).find([b""])
        assert time.perf_counter() - begin < 10


def test_malformed_grpc_replies_are_refused():
    with GrpcServer(answer, garbage=True) as url, pytest.raises(ServingError, match="outputs that are tensors"):
        connect(url).find([b""])


def test_a_busy_rest_server_is_asked_again(image):
    server = RestServer(answer, statuses=[200, 503, 429, 200])
    with server as url:
        served = ServedPredictor(connect(url))
        assert len(served.predict(image)[0]) == 1
    assert server.asked == 4


def test_a_rest_server_that_stays_busy_is_given_up(image):
    with RestServer(answer, statuses=[503] * 9) as url, pytest.raises(ServingError, match="status 503: busy"):
        ServedPredictor(connect(url))


@SERVERS
def test_an_unknown_model_is_said(server):
    with server(answer) as url, pytest.raises(ServingError, match="Servable not found"):
        ServedPredictor(connect(url.replace("nuclei", "cells")))


@SERVERS
@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"masks": None}, "an output masks"),
        ({"boxes": np.zeros((1, K, 5), "float32")}, r"boxes of floating \[1, 'K', 4\].*\[1, 3, 5\]"),
        ({"scores": np.zeros((1, K + 1), "float32")}, r"scores of floating \[1, 3\]"),
        ({"classes": np.zeros((1, K), "float32") + 0.5}, "classes of integer"),
        ({"masks": np.zeros((1, K, M, M + 1), "uint8")}, "square masks"),
        ({"classes": np.full((1, K), 4, "int32")}, "classes below 1, received 4"),
        ({"classes": np.full((1, K), -1, "int32")}, "classes below 1, received -1"),
    ],
)
def test_a_reply_of_another_model_is_refused(server, outputs, message, image):
    with server(changed(**outputs)) as url:
        served = ServedPredictor(connect(url))
        with pytest.raises(ServingError, match=message):
            served.predict(image)


def test_a_file_of_two_sizes_is_an_error_of_that_file(image):
    with RestServer(changed(image_hw=np.array([[31, 40]], "int32"))) as url:
        served = ServedPredictor(connect(url))
        with pytest.raises(ImageError, match="expected 30 x 40 pixels, as here, received: 31 x 40 pixels"):
            served.predict(image)


@SERVERS
def test_a_model_that_describes_itself_otherwise_is_refused(server):
    def other(signature, inputs):
        return {"description": np.array([b'{"categories": 3}'], object)}

    with server(other) as url, pytest.raises(CenterMaskError, match="expected the description of an exported model"):
        ServedPredictor(connect(url))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"<html>hello</html>", "expected JSON, received status 200, 18 bytes that are none"),
        (b"[" * 100_000, "expected JSON"),
        (b"{}", "expected predictions for 1 images"),
        (b'{"predictions": []}', "expected predictions for 1 images"),
        (b'{"predictions": [{"description": 3}]}', "expected the description"),
        (b"", "expected JSON, received status 200, 0 bytes"),
    ],
)
def test_malformed_rest_replies_are_refused(raw, message):
    with RestServer(answer, raw=raw) as url, pytest.raises(ServingError, match=message):
        ServedPredictor(connect(url))


def test_a_reply_with_masks_of_several_sizes_is_refused(image):
    connection = connect("http://127.0.0.1:1/v1/models/nuclei")
    connection._ask = lambda *_: [{"masks": [[1, 2], [3]]}]
    with pytest.raises(ServingError, match="masks of one shape"):
        connection.find([b""])


def test_replies_beyond_the_limit_are_refused(image):
    from centermask_keras.extra.serving.grpc import GrpcConnection
    from centermask_keras.extra.serving.rest import RestConnection

    for server, kind in ((RestServer, RestConnection), (GrpcServer, GrpcConnection)):
        with server(answer) as url:
            connection = kind(url, deadline=10, most_bytes=600)
            with pytest.raises(ServingError, match="batch-size"):
                connection.find([image.read_bytes()] * 8)


def test_a_request_beyond_the_server_s_limit_is_said():
    with GrpcServer(answer, most_bytes=100_000) as url:
        connection = connect(url)
        with pytest.raises(ServingError, match="limits.*RESOURCE_EXHAUSTED"):
            connection.find([bytes(200_000)])


@pytest.mark.parametrize("version", ["²", "9" * 20, "-1", "x"])
def test_versions_that_are_no_numbers_are_refused(version):
    with pytest.raises(ServingError, match="expected grpc://HOST:PORT/NAME"):
        connect(f"grpc://127.0.0.1:1/nuclei/versions/{version}")


@pytest.mark.parametrize(
    "url", ["nuclei", "ftp://a/b", "grpc://host:1", "grpc:///nuclei", "grpc://host/a/b/c", "", "http://[::1/a"]
)
def test_urls_that_are_none_are_refused(url):
    with pytest.raises(ServingError, match="expected .*grpc://HOST:"):
        connect(url)
