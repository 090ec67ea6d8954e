"""Ask a model server over its REST interface: http://HOST:8501/v1/models/NAME.

Stage: extra. Source: the REST interface of TensorFlow Serving (row format, bytes as {"b64": ...}).
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import requests
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as ServerTimeout

from centermask_keras.errors import ServingError
from centermask_keras.extra.serving.replies import MEBIBYTE, OUTPUTS

MOST_BYTES = 128 * MEBIBYTE
"""Of one reply: as Python numbers it is ten times larger. 400 masks of 64 x 64 are about 6.5 MiB."""
WAITS = (0.2, 0.4, 0.8)  # seconds before it is asked again
BUSY = (429, 502, 503, 504)
CHUNK = MEBIBYTE


class RestConnection:
    """A model behind a REST interface.

    A connection that is refused or a server that is busy is tried again within the deadline: an image may be looked at
    twice, which changes nothing.

    Args:
        url: `http://HOST:PORT/v1/models/NAME`, with `/versions/N` if it has to be that one; `https` likewise.
        deadline: seconds for an answer, all tries together.
        most_bytes: a larger reply is refused.
    """

    def __init__(self, url: str, *, deadline: float, most_bytes: int = MOST_BYTES):
        self.url = url.rstrip("/")
        self._deadline = deadline
        self._most_bytes = most_bytes
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy for the internet is none for a model server

    def describe(self) -> bytes:
        """Return the description of the model, JSON."""
        rows = self._ask("describe", [{"query": ""}])
        row = rows[0]
        text = row.get("description") if isinstance(row, Mapping) else row  # a single output comes without its name
        if not isinstance(text, str):
            raise ServingError(self.url, "the description of the model", f"{row!r:.80}")
        return text.encode()

    def find(self, contents: Sequence[bytes]) -> dict[str, np.ndarray]:
        """Send image files to `serving_default`; its outputs come back as arrays, unchecked."""
        rows = self._ask("serving_default", [{"image_bytes": _encode(content)} for content in contents])
        if not all(isinstance(row, Mapping) for row in rows):
            raise ServingError(self.url, "named outputs for each image", f"{rows[0]!r:.80}")
        names = set(OUTPUTS).intersection(*rows)
        return {name: _to_array([row[name] for row in rows], name, self.url) for name in names}

    def _ask(self, signature: str, instances: list[Mapping[str, Any]]) -> list[Any]:
        body = json.dumps({"signature_name": signature, "instances": instances})
        end = time.monotonic() + self._deadline
        for wait in (*WAITS, None):
            try:
                status, content = self._post(body, end)
            except (requests.RequestException, HTTPError, ValueError) as error:  # ValueError: a URL that is none
                cause = _cause(error)
                refused = isinstance(cause, NewConnectionError)  # which the library derives from its timeouts
                if isinstance(cause, requests.Timeout | ServerTimeout) and not refused:
                    raise self._too_slow() from None
                if wait is None or not refused:
                    raise ServingError(self.url, "a model server", str(cause).rpartition(">: ")[2]) from None
            else:
                if wait is None or status not in BUSY:
                    return self._parse(status, content, len(instances))
            if time.monotonic() + wait > end:
                raise self._too_slow()
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _post(self, body: str, end: float) -> tuple[int, bytes]:
        """Return status and content of one try."""
        content = bytearray()
        left = max(end - time.monotonic(), 0.001)
        with self._session.post(f"{self.url}:predict", data=body, timeout=left, stream=True) as response:
            while chunk := response.raw.read1(CHUNK, decode_content=True):
                content += chunk
                if len(content) > self._most_bytes:
                    limit = f"a reply of at most {self._most_bytes / MEBIBYTE:g} MiB (fewer images with --batch-size)"
                    raise ServingError(self.url, limit, "a larger one")
                if time.monotonic() > end:
                    raise self._too_slow()
            return response.status_code, bytes(content)

    def _parse(self, status: int, content: bytes, count: int) -> list[Any]:
        try:
            reply = json.loads(content)
        except (ValueError, RecursionError):
            received = f"status {status}, {len(content)} bytes that are none: {content[:60]!r}"
            raise ServingError(self.url, "JSON", received) from None
        if isinstance(reply, Mapping) and "error" in reply:
            raise ServingError(self.url, "an answer", f"status {status}: {reply['error']}")
        rows = reply.get("predictions") if isinstance(reply, Mapping) else None
        if not isinstance(rows, list) or len(rows) != count:
            raise ServingError(self.url, f"predictions for {count} images", f"status {status}: {content[:60]!r}")
        return rows

    def _too_slow(self) -> ServingError:
        return ServingError(self.url, f"an answer within {self._deadline:g} s (--deadline)", "none")


def _encode(content: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(content).decode("ascii")}


def _to_array(values: list[Any], name: str, url: str) -> np.ndarray:
    if name == "error":
        return np.array([str(value) for value in values], object)
    try:
        return np.array(values)
    except ValueError:
        raise ServingError(url, f"{name} of one shape for all images", "several") from None


def _cause(error: Exception) -> Exception:
    """Return the innermost error: the outer ones repeat it, with the names of their classes."""
    inner = getattr(error, "reason", None) or next((a for a in error.args if isinstance(a, Exception)), None)
    return _cause(inner) if isinstance(inner, Exception) else error
