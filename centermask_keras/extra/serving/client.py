"""A model server as a predictor: files are sent as they are, objects come back in original pixels.

Stage: extra.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import numpy as np

from centermask_keras._cv2 import cv2
from centermask_keras.data.files.images import decode_image
from centermask_keras.errors import ImageError, ServingError
from centermask_keras.extra.serving.replies import check_reply
from centermask_keras.geometry.transform import IDENTITY
from centermask_keras.inference.objects import Result, to_objects
from centermask_keras.inference.predictor import ImageLike, Predictor, check_array
from centermask_keras.inference.runtimes.description import parse_description
from centermask_keras.packages import install_hint

DEADLINE = 60.0  # seconds; the first request after a start without warm-up builds the graph
GRPC_MODULES = ("grpc", "tensorflow_serving")
FORMS = "http://HOST:8501/v1/models/NAME or grpc://HOST:8500/NAME"


class Connection(Protocol):
    """One of the two ways to ask a model server."""

    url: str

    def describe(self) -> bytes:
        """Return the description of the model, JSON."""

    def find(self, contents: Sequence[bytes]) -> dict[str, np.ndarray]:
        """Send image files to `serving_default`; its outputs come back as arrays, unchecked."""


def connect(url: str, *, deadline: float = DEADLINE) -> Connection:
    """Choose REST or gRPC by the scheme of a URL; nothing is sent yet.

    Args:
        url: `http(s)://HOST:8501/v1/models/NAME` or `grpc(s)://HOST:8500/NAME`; `/versions/N` may follow.
        deadline: seconds to wait for an answer.

    Raises:
        ServingError: neither of the two, or a package is missing.
    """
    try:
        scheme = urlsplit(url).scheme
    except ValueError as error:
        raise ServingError(url, FORMS, f"{error}") from None
    if scheme not in ("http", "https", "grpc", "grpcs"):
        raise ServingError(url, FORMS, f"the scheme {scheme!r}")
    try:
        if scheme in ("grpc", "grpcs"):
            from centermask_keras.extra.serving.grpc import GrpcConnection

            return GrpcConnection(url, deadline=deadline)
        from centermask_keras.extra.serving.rest import RestConnection

        return RestConnection(url, deadline=deadline)
    except ModuleNotFoundError as error:
        cure = f"the packages of the client ({install_hint(error, GRPC_MODULES if 'grpc' in scheme else ())})"
        raise ServingError(url, cure, f"no module {error.name}") from None


class ServedPredictor(Predictor):
    """A model behind a model server: decoding and everything after it happen there, but for the pasting of the masks.

    Args:
        connection: the way to it, asked at once for the configuration and the classes of the model.
        batch_size: most images in one request.

    Raises:
        ServingError: no answer, or not one of a model that this package exported.
    """

    def __init__(self, connection: Connection, *, batch_size: int = 1):
        description = parse_description(connection.describe(), connection.url)
        super().__init__(description.config, description.categories)
        self._connection = connection
        self._batch_size = batch_size

    def predict_each(self, images: Sequence[ImageLike], *, score_threshold: float) -> Iterator[Result | ImageError]:
        """Give the result of each image in its turn, or the error of one that cannot be read here or there.

        Raises:
            ServingError: no answer, or not one of such a model.
        """
        for first in range(0, len(images), self._batch_size):
            yield from self._predict_batch(images[first : first + self._batch_size], score_threshold)

    def _predict_batch(self, images: Sequence[ImageLike], score_threshold: float) -> Iterator[Result | ImageError]:
        outcomes = [_read(image) for image in images]
        sent = [contents for contents in outcomes if isinstance(contents, bytes)]
        found = check_reply(self._connection.find(sent), len(sent), self._connection.url) if sent else {}
        row = 0
        for source, contents in zip(images, outcomes, strict=True):
            if isinstance(contents, ImageError):
                yield contents
                continue
            yield self._to_result(source, contents, found, row, score_threshold)
            row += 1

    def _to_result(
        self, source: ImageLike, contents: bytes, found: dict[str, np.ndarray], row: int, score_threshold: float
    ) -> Result | ImageError:
        """Turn row `row` of a reply into objects on the image, which is decoded here once more to be drawn on."""
        name = "array" if isinstance(source, np.ndarray) else source
        if found["error"][row]:
            return ImageError(name, f"refused by the server: {found['error'][row]}")
        try:
            image = decode_image(contents, name)
        except ImageError as error:
            return error
        image_hw = tuple(int(side) for side in found["image_hw"][row])
        if image_hw != image.shape[:2]:  # some damaged files have two sizes
            sizes = (f"{height} x {width} pixels" for height, width in (image.shape[:2], image_hw))
            here, there = sizes
            return ImageError(name, f"{there} at the server", f"{here}, as here")
        self._check_classes(found["classes"][row][found["valid"][row]])
        detections = {
            "boxes": found["boxes"],
            "scores": found["scores"].astype(np.float32),
            "classes": found["classes"].astype(np.int32),
            "valid": found["valid"] & (found["scores"] >= score_threshold),
            "masks": found["masks"].astype(np.float32) / 255.0,
        }
        threshold = self.config.eval.mask_threshold
        objects = to_objects(detections, row, IDENTITY, image.shape[:2], self.categories, threshold)
        return Result(image=image, **vars(objects))

    def _check_classes(self, classes: np.ndarray) -> None:
        wrong = classes[(classes < 0) | (classes >= len(self.categories))]
        if len(wrong):
            raise ServingError(self._connection.url, f"classes below {len(self.categories)}", f"{wrong[0]}")


def _read(image: ImageLike) -> bytes | ImageError:
    """Return the bytes to send: a file as it is, an array as a PNG."""
    if isinstance(image, str | Path):
        try:
            return Path(image).read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
            return ImageError(image, str(getattr(error, "strerror", None) or error).lower())
    return cv2.imencode(".png", check_array(image)[..., ::-1])[1].tobytes()
