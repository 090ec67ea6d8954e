"""Workers meet, or hear who is missing or differs; threads stand for processes."""

import json
import re
import socket
import threading
import time

import pytest

from centermask_keras.errors import CenterMaskError
from centermask_keras.extra.workers.rendezvous import meet, split_address

SECONDS = 2


def meet_all(addresses: dict[int, list[str]], *, late: float = 0.0) -> dict[int, str]:
    """Let workers meet, by number what each takes for the addresses; return what each heard, empty if nothing."""
    heard = {}

    def run(worker: int) -> None:
        time.sleep(late if worker == 0 else 0)
        try:
            meet(addresses[worker], worker, SECONDS)
            heard[worker] = ""
        except CenterMaskError as error:
            heard[worker] = str(error)

    threads = [threading.Thread(target=run, args=(worker,)) for worker in addresses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5 * SECONDS)
        assert not thread.is_alive()
    return heard


@pytest.fixture
def addresses(free_ports) -> list[str]:
    return [f"127.0.0.1:{port}" for port in free_ports(3)]


@pytest.mark.parametrize("late", [0.0, 1.0])
def test_all_meet_and_leave_their_ports(addresses, late):
    assert meet_all({0: addresses, 1: addresses, 2: addresses}, late=late) == {0: "", 1: "", 2: ""}
    for address in addresses:  # TensorFlow takes them over at once
        socket.create_server(split_address(address)).close()


def test_all_that_came_hear_who_did_not(addresses):
    heard = meet_all({0: addresses, 1: addresses})
    assert heard[0] == heard[1]
    assert f"expected all 3 workers, worker 2 ({addresses[2]}) did not come within 2 s" in heard[0]


def test_without_the_first_the_others_name_it(addresses):
    heard = meet_all({1: addresses, 2: addresses})
    assert all(f"worker 0 ({addresses[0]}) did not come" in text for text in heard.values())


def test_other_addresses_are_told_to_both(addresses):
    heard = meet_all({0: addresses[:2], 1: addresses})
    assert heard[0] == heard[1]
    assert f"worker 1: expected the addresses of worker 0 ({addresses[0]}, {addresses[1]}), received" in heard[0]


def test_a_port_in_use_is_named(addresses):
    host, port = split_address(addresses[1])
    with (
        socket.create_server((host, port)),
        pytest.raises(
            CenterMaskError,
            match=rf"worker 1 \({re.escape(addresses[1])}\): expected to listen .* still using port {port}\?",
        ),
    ):
        meet(addresses, 1, SECONDS)


def test_strangers_and_a_worker_that_went_are_not_counted(addresses):
    heard = {}

    def first() -> None:
        with pytest.raises(CenterMaskError) as error:
            meet(addresses[:2], 0, SECONDS)
        heard[0] = str(error.value)

    thread = threading.Thread(target=first)
    thread.start()
    message = json.dumps({"worker": 1, "addresses": addresses[:2]}).encode()
    for text in (b"GET / HTTP/1.1\r\n", b"[]\n", b"\xff\n", b""):
        call(addresses[0], text)
    call(addresses[0], message)  # without its end: it was killed while it spoke
    thread.join(5 * SECONDS)
    assert "worker 1" in heard[0]


def call(address: str, text: bytes) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(split_address(address)) as connection:
                connection.sendall(text)
            return
        except ConnectionRefusedError:
            time.sleep(0.05)


@pytest.mark.parametrize("address", ["host", "host:", ":1", "host:x", "host:0", "host:70000"])
def test_what_is_no_address(address):
    with pytest.raises(ValueError):
        split_address(address)


def test_an_address_of_version_6():
    assert split_address("[::1]:8080") == ("::1", 8080)
