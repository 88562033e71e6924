"""A real nats-server: found again, ended, brought back."""

import asyncio
import json
import os
import signal
import socket
import stat
import urllib.request
from pathlib import Path

import pytest

from bus import streams
from bus.daemon import born, free_port, handshake, version
from bus.permissions import USERS
from bus.server import MAX_PAYLOAD, External, Server
from events.errors import Unavailable, Validation
from tests.contract.plain import connect
from tests.waiting import until


def kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def test_a_living_server_is_taken_over(own: Server, tmp_path: Path) -> None:
    second = Server(tmp_path)
    second.start()
    second.start()
    assert (second.pid, second.port, second.url("client")) == (own.pid, own.port, own.url("client"))
    assert second.healthy() is None


def test_a_server_whose_record_was_never_written_is_found_all_the_same(own: Server, tmp_path: Path) -> None:
    (tmp_path / "nats" / "server.json").unlink()
    second = Server(tmp_path)
    second.start()
    assert (second.pid, second.port) == (own.pid, own.port)


def test_a_killed_server_comes_back_on_its_port_with_its_users_and_its_store(own: Server) -> None:
    before, url = own.port, own.url("node")
    pid = own.pid

    async def store() -> None:
        client = await connect(own.url("node"))
        await streams.ensure(client.jetstream())
        await client.jetstream().publish("brain.evt.node.a.1.started", b"{}")
        await client.close()

    asyncio.run(store())
    kill(pid)
    until(lambda: "died" in (own.healthy() or ""))
    own.start()
    assert own.healthy() is None
    assert (own.port, own.url("node")) == (before, url)
    assert own.pid != pid

    async def read() -> int:
        client = await connect(url)
        found = (await client.jetstream().stream_info(streams.EVENTS)).state.messages
        await client.close()
        return found

    assert asyncio.run(read()) == 1


def test_a_server_that_is_restarted_or_stopped_leaves_nothing_running(own: Server, tmp_path: Path) -> None:
    before, port = own.pid, own.port
    own.restart()
    assert own.port == port
    assert own.pid != before
    own.stop()
    own.stop()
    assert own.healthy() is not None
    assert handshake(f"nats://127.0.0.1:{port}") is not None
    assert not (tmp_path / "nats" / "server.json").exists()


def test_a_record_of_another_life_is_ignored(own: Server, tmp_path: Path) -> None:
    own.stop()
    (tmp_path / "nats" / "server.json").write_text(
        json.dumps({"pid": os.getpid(), "start_time": "an earlier boot:1", "port": 1, "monitor_port": 2})
    )
    own.start()
    assert own.pid != os.getpid()
    assert own.healthy() is None


def test_a_taken_port_is_refused_by_name(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Validation, match=f"port {port} is in use"):
            Server(tmp_path, port=port).start()


def test_a_given_port_is_taken_at_its_word(tmp_path: Path) -> None:
    port = free_port()
    server = Server(tmp_path, port=port)
    try:
        server.start()
        assert server.port == port
        with pytest.raises(Validation, match="already runs"):
            Server(tmp_path, port=free_port(besides=port)).start()
    finally:
        server.stop()


def test_a_program_that_is_no_nats_server_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="not a nats-server"):
        version(Path("/bin/echo"))
    with pytest.raises(Unavailable, match="cannot be run"):
        Server(tmp_path, port=0, binary=tmp_path / "nothing").start()


def test_secrets_are_private_and_differ_between_folders(own: Server, tmp_path: Path) -> None:
    for name in ("credentials.json", "server.conf"):
        assert stat.S_IMODE((tmp_path / "nats" / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "nats").stat().st_mode) == 0o700
    assert len({own.url(user) for user in USERS}) == len(USERS)
    assert handshake(f"nats://node:guess@127.0.0.1:{own.port}") is not None


def test_the_server_syncs_before_it_confirms_and_listens_to_this_machine_alone(
    server: Server,
) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.monitor_port}/jsz") as answer:
        assert json.load(answer)["config"]["sync_always"] is True
    with urllib.request.urlopen(f"http://127.0.0.1:{server.monitor_port}/varz") as answer:
        said = json.load(answer)
    assert (said["host"], said["http_host"], said["max_payload"]) == ("127.0.0.1", "127.0.0.1", MAX_PAYLOAD)


def test_a_server_without_a_record_is_stopped_too(own: Server, tmp_path: Path) -> None:
    pid = own.pid
    (tmp_path / "nats" / "server.json").unlink()
    Server(tmp_path).stop()
    assert pid is not None
    assert born(pid) is None


def test_a_server_of_others_is_used_and_left_alone(server: Server) -> None:
    external = External(server.url("client"))
    external.start()
    external.restart()
    external.stop()
    assert external.healthy() is None
    assert server.healthy() is None
    with pytest.raises(Unavailable):
        External(f"nats://127.0.0.1:{free_port()}").start()
