"""A Matrix homeserver, Synapse, and people who talk there as any client does."""

import base64
import hashlib
import hmac
import json
import secrets
import socket
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from foreign import clean, kill

from tests.waiting import turned, until

PYTHON = Path(__file__).parents[2] / ".cache" / "homeserver" / "bin" / "python"
SECRET = "only-for-tests"
TEXT = "m.room.message"
GENEROUS = {"per_second": 10_000, "burst_count": 10_000}
PAUSE = 0.2
"""Seconds between two looks into a room: each makes the homeserver read all that was said there."""
LIMITS = ("rc_message", "rc_registration", "rc_joins_per_room", "rc_room_creation")


class Homeserver:
    """One of its own, in a folder, on the loopback."""

    def __init__(self, folder: Path) -> None:
        if not PYTHON.exists():
            pytest.skip("there is no Synapse here: scripts/homeserver installs it")
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{found.getsockname()[1]}"
        self._process: subprocess.Popen[bytes] | None = None
        ours: dict[str, Any] = {
            "server_name": "test.local",
            "listeners": [
                {
                    "port": int(self.url.rpartition(":")[2]),
                    "bind_addresses": ["127.0.0.1"],
                    "type": "http",
                    "resources": [{"names": ["client"]}],
                }
            ],
            "database": {"name": "sqlite3", "args": {"database": str(folder / "homeserver.db")}},
            "media_store_path": str(folder / "media"),
            "pid_file": str(folder / "homeserver.pid"),
            "signing_key_path": str(folder / "signing.key"),
            "log_config": str(folder / "log.yaml"),
            "registration_shared_secret": SECRET,
            "macaroon_secret_key": SECRET,
            "form_secret": SECRET,
            "report_stats": False,
            "trusted_key_servers": [],
            "suppress_key_server_warning": True,
            **dict.fromkeys(LIMITS, GENEROUS),
            "rc_joins": {"local": GENEROUS, "remote": GENEROUS},
            "rc_invites": {"per_room": GENEROUS, "per_user": GENEROUS},
        }
        log = {
            "version": 1,
            "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
            "handlers": {"file": {"class": "logging.FileHandler", "filename": str(folder / "log.txt")}},
            "root": {"level": "WARNING", "handlers": ["file"]},
        }
        # JSON is YAML.
        (folder / "log.yaml").write_text(json.dumps(log))
        (folder / "homeserver.yaml").write_text(json.dumps(ours))
        key = base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        (folder / "signing.key").write_text(f"ed25519 a_test {key}\n")

    def up(self) -> Self:
        """Start it, and wait until it answers."""
        words = [PYTHON, "-m", "synapse.app.homeserver", "--config-path", self._folder / "homeserver.yaml"]
        with (self._folder / "said.txt").open("ab") as said:
            process = subprocess.Popen(words, cwd=self._folder, env=clean(), stdout=said, stderr=said)
        self._process = process

        with httpx.Client(timeout=5) as web:

            def answers() -> bool:
                assert process.poll() is None, (self._folder / "said.txt").read_text()[-2000:]
                try:
                    return web.get(f"{self.url}/health").text == "OK"
                except httpx.TransportError:
                    return False

            until(answers, 90)
        return self

    def down(self) -> None:
        """Stop it; what was written stays."""
        if self._process is not None:
            kill(self._process.pid)
            self._process.wait(30)
            self._process = None

    @asynccontextmanager
    async def person(self, name: str, admin: bool = False) -> AsyncGenerator["Person"]:
        """Register somebody, who is then online."""
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as web:
            where = "/_synapse/admin/v1/register"
            nonce = (await web.get(where)).json()["nonce"]
            # https://element-hq.github.io/synapse/latest/admin_api/register_api.html
            words = [nonce, name, "pass", "admin" if admin else "notadmin"]
            mac = hmac.new(SECRET.encode(), "\0".join(words).encode(), hashlib.sha1).hexdigest()
            wish = {"nonce": nonce, "username": name, "password": "pass", "admin": admin, "mac": mac}
            made = (await web.post(where, json=wish)).json()
            assert "access_token" in made, made
            web.headers["Authorization"] = f"Bearer {made['access_token']}"
            yield Person(web, made["user_id"], made["access_token"])


class Person:
    """Somebody in front of a Matrix client."""

    def __init__(self, web: httpx.AsyncClient, user: str, token: str) -> None:
        self._web, self.user, self.token = web, user, token

    async def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Ask the homeserver; it has to say yes."""
        answer = await self._web.request(method, path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def room(self, *invited: str) -> str:
        """Open a room for these."""
        wish = {"preset": "private_chat", "invite": invited}
        return (await self.ask("POST", "/_matrix/client/v3/createRoom", wish))["room_id"]

    async def join(self, room: str) -> None:
        """Go into a room."""
        await self.ask("POST", f"/_matrix/client/v3/rooms/{room}/join", {})

    async def say(self, room: str, text: str, to: str = "") -> str:
        """Write something, maybe as a reply; answers what the message is called."""
        content: dict[str, Any] = {"msgtype": "m.text", "body": text}
        if to:
            content["m.relates_to"] = {"m.in_reply_to": {"event_id": to}}
        where = f"/_matrix/client/v3/rooms/{room}/send/{TEXT}/{secrets.token_hex(8)}"
        return (await self.ask("PUT", where, content))["event_id"]

    async def read(self, room: str, by: str) -> list[dict[str, Any]]:
        """Everything that somebody said there, the oldest first, changes too."""
        where = f"/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=1000"
        events = (await self.ask("GET", where))["chunk"]
        return [each for each in reversed(events) if each["type"] == TEXT and each["sender"] == by]

    async def sees(self, room: str, by: str) -> dict[str, str]:
        """What stands there now by each message of somebody."""
        found: dict[str, str] = {}
        for each in await self.read(room, by):
            change = changes(each)
            if change is None:
                found[each["event_id"]] = each["content"]["body"]
            else:
                found[change] = each["content"]["m.new_content"]["body"]
        return found

    async def finds(self, room: str, by: str, text: str, seconds: float = 60) -> tuple[str, str]:
        """Wait until a message has this text somewhere; answers what it is called, and all of it."""

        async def look() -> tuple[str, str] | None:
            seen = await self.sees(room, by)
            return next(((key, body) for key, body in seen.items() if text in body), None)

        found = await turned(look, seconds, PAUSE)
        assert found is not None
        return found


def changes(event: dict[str, Any]) -> str | None:
    """Say which message an event changes."""
    relation = event["content"].get("m.relates_to", {})
    return relation["event_id"] if relation.get("rel_type") == "m.replace" else None
