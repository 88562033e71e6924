"""A role that one node plays at a time, on a real server."""

import secrets
import threading
import time
from collections.abc import Generator

import pytest

from bus.bridge import Bridge
from bus.server import Server
from bus.tenure import Tenure
from tests.waiting import until

SECONDS = 2


@pytest.fixture
def role() -> str:
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture
def first(server: Server, role: str) -> Generator[tuple[Bridge, Tenure]]:
    """Somebody who holds the role; its bridge is its own, so that it can be cut off."""
    bridge = Bridge(server.url("node"))
    bridge.start()
    tenure = Tenure(bridge, role, "node_a", "boot_a", seconds=SECONDS)
    tenure.start()
    until(lambda: tenure.left > 0)
    yield bridge, tenure
    bridge.stop()


def test_one_holds_it_at_a_time_and_renews_it(
    first: tuple[Bridge, Tenure], bridge: Bridge, role: str
) -> None:
    second = Tenure(bridge, role, "node_b", "boot_b", seconds=SECONDS)
    second.start()
    began, never = time.monotonic(), threading.Event()
    while time.monotonic() < began + SECONDS * 1.5:
        assert not (first[1].left and second.left)
        never.wait(0.05)
    assert first[1].left > 0
    second.stop()


def test_given_back_it_is_somebody_elses_within_a_contest(
    first: tuple[Bridge, Tenure], bridge: Bridge, role: str
) -> None:
    second = Tenure(bridge, role, "node_b", "boot_b", seconds=SECONDS)
    second.start()
    first[1].stop()
    assert first[1].left == 0
    until(lambda: second.left > 0)
    second.stop()


def test_a_holder_that_is_cut_off_stops_before_another_begins(
    first: tuple[Bridge, Tenure], bridge: Bridge, role: str
) -> None:
    second = Tenure(bridge, role, "node_b", "boot_b", seconds=SECONDS)
    second.start()
    first[0].stop()  # as if its node had died: nothing is given back
    until(lambda: first[1].left == 0)
    assert second.left == 0
    until(lambda: second.left > 0)
    second.stop()


def test_it_may_be_stopped_before_it_started_and_twice(bridge: Bridge, role: str) -> None:
    tenure = Tenure(bridge, role, "node_c", "boot_c")
    tenure.stop()
    tenure.stop()
    assert tenure.left == 0
