"""Workers meet before TensorFlow starts, which waits for a missing one for ever and lets no signal through.

Stage: extra. Plain sockets on the ports that TensorFlow takes over afterwards: the first worker listens, the others
tell it who they are, and all get its verdict.
"""

import contextlib
import json
import socket
import time

from centermask_keras.errors import CenterMaskError

CALL_SECONDS = 3
"""Between two attempts to reach the first worker; also what one message may take."""
MESSAGE_LENGTH = 1 << 20  # characters: what is longer comes from a stranger


def meet(addresses: list[str], worker: int, seconds: float) -> None:
    """Wait until all workers are there, with the same addresses.

    Args:
        addresses: `host:port` of each worker, the first one's first.
        worker: the number of this one.
        seconds: how long to wait.

    Raises:
        CenterMaskError: a worker did not come in time or has other addresses, or the port of this one is in use; of
            the first two all that are there hear.
    """
    with _listen(addresses[worker], worker) as server:
        verdict = _ask_first(addresses, worker, seconds) if worker else _gather(server, addresses, seconds)
    if verdict:
        raise CenterMaskError(verdict)


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of `host:port`; ValueError where it is not of that form."""
    host, _, port = address.rpartition(":")
    if not host or not 0 < int(port) < 1 << 16:
        raise ValueError(address)
    return host.strip("[]"), int(port)


def _listen(address: str, worker: int) -> socket.socket:
    """Take the port: where that fails, TensorFlow would fail too, after the others have begun to wait."""
    port = split_address(address)[1]
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", port))
    except OSError as error:
        raise CenterMaskError(
            f"worker {worker} ({address}): expected to listen on its port, received: {error.strerror}. Is an older "
            f"process still using port {port}?"
        ) from None


def _gather(server: socket.socket, addresses: list[str], seconds: float) -> str:
    """Wait for the others, and tell all that came the verdict: empty if they may begin."""
    deadline, came, verdict = time.monotonic() + seconds, {}, ""
    while not verdict and len(came) < len(addresses) - 1 and time.monotonic() < deadline:
        server.settimeout(min(1.0, seconds))
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # strangers and those that went
            connection, _ = server.accept()
            message = _receive(connection, CALL_SECONDS)
            came[int(message["worker"])] = connection
            verdict = _compare(int(message["worker"]), addresses, message["addresses"])
        came = {worker: connection for worker, connection in came.items() if _is_open(connection)}
    missing = [f"worker {worker} ({addresses[worker]})" for worker in range(1, len(addresses)) if worker not in came]
    if missing and not verdict:
        verdict = _missing_text(addresses, missing, seconds)
    for connection in came.values():
        with contextlib.suppress(OSError), connection:
            connection.sendall(json.dumps(verdict).encode() + b"\n")
    return verdict


def _ask_first(addresses: list[str], worker: int, seconds: float) -> str:
    """Tell the first worker who this one is and return its verdict."""
    deadline = time.monotonic() + seconds
    message = json.dumps({"worker": worker, "addresses": addresses}).encode() + b"\n"
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            with socket.create_connection(split_address(addresses[0]), timeout=CALL_SECONDS) as connection:
                connection.sendall(message)
                return str(_receive(connection, seconds + CALL_SECONDS))  # the first one may have come just now
        time.sleep(min(CALL_SECONDS, seconds) / 10)
    return _missing_text(addresses, [f"worker 0 ({addresses[0]})"], seconds)


def _receive(connection: socket.socket, seconds: float) -> object:
    connection.settimeout(seconds)
    with connection.makefile(encoding="utf-8") as file:
        return json.loads(file.readline(MESSAGE_LENGTH))


def _is_open(connection: socket.socket) -> bool:
    """Say whether the other end is still there: it sends nothing more, but an end of file when it goes."""
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        connection.setblocking(True)


def _compare(worker: int, expected: list[str], received: list[str]) -> str:
    if received == expected:
        return ""
    return (
        f"worker {worker}: expected the addresses of worker 0 ({', '.join(expected)}), received "
        f"{', '.join(map(str, received))}. All workers need the same list"
    )


def _missing_text(addresses: list[str], missing: list[str], seconds: float) -> str:
    return (
        f"expected all {len(addresses)} workers, {', '.join(missing)} did not come within {seconds:g} s. Start them "
        f"within that time, with the same addresses; their ports must be reachable"
    )
