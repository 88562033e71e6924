"""A room of Matrix, by matrix-nio.  What it says are notices, so that no other bot answers them."""

import asyncio
import uuid
from collections.abc import Awaitable, Sequence
from typing import Any, TypeGuard, cast
from urllib.parse import quote

from aiohttp import ClientError
from nio import (  # type: ignore[reportMissingTypeStubs]  # its types stand in its source
    AsyncClient,
    AsyncClientConfig,
    ErrorResponse,
    RoomMessageText,
)
from nio.responses import (  # type: ignore[reportMissingTypeStubs]  # its types stand in its source
    JoinResponse,
    RoomGetStateEventResponse,
    RoomSendResponse,
    SyncResponse,
    WhoamiResponse,
)

from events.errors import Validation
from interfaces import settings
from interfaces.chat.network import Away, Denied, Heard

LISTEN_MS = 30_000
"""So long the homeserver holds a question that it has no answer to."""
PAGE = 50
"""So many messages are read at once; of what was written while nobody listened, the latest."""
KNOCK_SECONDS = 15.0
"""After so long it tries again to get into a room that it may not enter."""
TEXT, ENCRYPTION = "m.room.message", "m.room.encryption"
_HUSH: dict[str, Any] = {"types": []}


class Matrix:
    """The room of the settings."""

    name = "matrix"
    edits = True
    hears = True

    def __init__(self, given: settings.Matrix) -> None:
        """Take the settings; `Validation` when one is missing."""
        for field in ("homeserver", "token", "room"):
            if not getattr(given, field):
                raise Validation(f"chat.matrix.{field} is not set", field=f"chat.matrix.{field}")
        # It is for us to wait: whoever is told to come back later may have something else to say by then.
        config = AsyncClientConfig(max_limit_exceeded=0, max_timeouts=0, request_timeout=30)
        self._client = AsyncClient(str(given.homeserver), config=config)
        self._client.access_token = str(given.token)
        self._wanted = str(given.room)
        self._room = ""
        self._entering = asyncio.Lock()

    async def say(self, text: str, key: str) -> str:
        """Post a notice; a homeserver takes the same key once."""
        return await self._send(_notice(text), f"hindbrain.{key}")

    async def edit(self, message: str, text: str) -> None:
        """Change a notice, for all who can show that."""
        content = {
            **_notice(f"* {text}"),
            "m.new_content": _notice(text),
            "m.relates_to": {"rel_type": "m.replace", "event_id": message},
        }
        await self._send(content, f"hindbrain.{uuid.uuid4()}")

    async def heard(self, since: str) -> tuple[Sequence[Heard], str]:
        """Wait for what people write in the room."""
        room = await self._enter()
        which: dict[str, Any] = {
            "presence": _HUSH,
            "account_data": _HUSH,
            "room": {
                "rooms": [room],
                "timeline": {"types": [TEXT], "limit": PAGE},
                "state": _HUSH,
                "ephemeral": _HUSH,
                "account_data": _HUSH,
            },
        }
        wait = LISTEN_MS if since else 0
        reply = await self._ask(self._client.sync(wait, cast("Any", which), since=since or None))
        if not isinstance(reply, SyncResponse):
            raise self._problem(reply)
        joined = reply.rooms.join.get(room)
        events: Any = cast("Any", joined).timeline.events if joined is not None and since else ()
        return [_read(event) for event in events if self._counts(event)], reply.next_batch

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _counts(self, event: object) -> TypeGuard[RoomMessageText]:
        """Whether somebody else wrote it, and not as a change of what was there."""
        if not isinstance(event, RoomMessageText) or event.sender == self._client.user_id:
            return False
        return _relation(event).get("rel_type") != "m.replace"

    async def _enter(self) -> str:
        async with self._entering:
            if self._room:
                return self._room
            who = await self._ask(self._client.whoami())
            if not isinstance(who, WhoamiResponse):
                raise self._problem(who)
            self._client.user_id = who.user_id
            joined = await self._ask(self._client.join(quote(self._wanted, safe="!#:")))
            if not isinstance(joined, JoinResponse):
                raise self._problem(joined)
            locked = await self._ask(self._client.room_get_state_event(joined.room_id, ENCRYPTION))
            if isinstance(locked, RoomGetStateEventResponse):
                # What we would say could be read by more people than those who are in it expect.
                raise Validation(
                    f"{self._wanted} is encrypted: choose a room that is not", field="chat.matrix.room"
                )
            if not isinstance(locked, ErrorResponse) or locked.status_code != "M_NOT_FOUND":
                raise self._problem(locked)
            self._room = joined.room_id
            return self._room

    async def _send(self, content: dict[str, Any], key: str) -> str:
        room = await self._enter()
        reply = await self._ask(self._client.room_send(room, TEXT, content, key))
        if not isinstance(reply, RoomSendResponse):
            raise self._problem(reply)
        return reply.event_id

    async def _ask(self, question: Awaitable[object]) -> object:
        try:
            return await question
        except (ClientError, OSError, TimeoutError) as error:
            raise Away(f"{self._client.homeserver} does not answer ({type(error).__name__})") from error

    def _problem(self, reply: object) -> Exception:
        """Say what to make of a refusal."""
        code = reply.status_code if isinstance(reply, ErrorResponse) else None
        said = reply.message if isinstance(reply, ErrorResponse) else "it answers what nobody understands"
        if code == "M_LIMIT_EXCEEDED" and isinstance(reply, ErrorResponse):
            return Away("the homeserver takes no more now", (reply.retry_after_ms or 5000) / 1000)
        if code in ("M_UNKNOWN_TOKEN", "M_MISSING_TOKEN"):
            return Validation("the homeserver does not know chat.matrix.token", field="chat.matrix.token")
        if code in ("M_FORBIDDEN", "M_NOT_FOUND"):
            self._room = ""
            return Away(f"{self._wanted} cannot be entered: invite the bot ({code}: {said})", KNOCK_SECONDS)
        if code in ("M_TOO_LARGE", "M_BAD_JSON", "M_INVALID_PARAM"):
            return Denied(f"{code}: {said}")
        return Away(f"{self._client.homeserver} is not well ({code or said})")


def _notice(text: str) -> dict[str, Any]:
    # Output of a command must not ring anybody's bell, whatever names stand in it.
    return {"msgtype": "m.notice", "body": text, "m.mentions": {}}


def _relation(event: RoomMessageText) -> dict[str, Any]:
    found: Any = event.source["content"].get("m.relates_to")
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _read(event: RoomMessageText) -> Heard:
    text = event.body
    to: Any = _relation(event).get("m.in_reply_to")
    if to and text.startswith("> "):
        # Clients of before Matrix 1.13 repeat what they reply to, and an empty line.
        text = text.partition("\n\n")[2]
    unsigned: Any = event.source.get("unsigned") or {}
    return Heard(
        event.event_id,
        event.sender,
        text.strip(),
        str(to.get("event_id", "")) if isinstance(to, dict) else "",  # type: ignore[reportUnknownMemberType]  # JSON of anybody
        float(unsigned.get("age") or 0) / 1000,
    )
