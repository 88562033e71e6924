"""Artifacts for programs: content goes in and comes out whole, and is checked on the way."""

import base64
import hashlib
from asyncio import to_thread
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from events.asks.artifact import INLINE
from events.errors import Damaged

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine


class ArtifactRegistry:
    """The artifacts that an engine reaches; `storage_backend` says who keeps what is registered here."""

    def __init__(self, engine: "ExecutionEngine", storage_backend: str | None = None) -> None:
        self._engine, self._backend = engine, storage_backend

    async def register_artifact(self, artifact: Mapping[str, Any], content: bytes | Path) -> str:
        """Keep some content and answer its id; `artifact` is what `artifact.register` takes beside it."""
        return (await self.register(artifact, content))["artifact_id"]

    async def register(self, artifact: Mapping[str, Any], content: bytes | Path) -> dict[str, Any]:
        """Do the same, with the whole reply.  What is large goes over the object store."""
        size = len(content) if isinstance(content, bytes) else (await to_thread(content.stat)).st_size
        body: dict[str, Any] = {"backend": self._backend, **artifact}
        if size <= INLINE:
            data = content if isinstance(content, bytes) else await to_thread(content.read_bytes)
            body["base64"] = base64.b64encode(data).decode()
        else:
            body["blob"] = await (await self._engine.client()).put(content)
        return await self._engine.request("artifact", "register", 60.0, **body)

    async def load_artifact_content(self, artifact_id: str) -> bytes:
        """All of its content, checked; `Damaged` when it is not what it was."""
        return b"".join([piece async for piece in self.pieces(artifact_id)])

    async def pieces(self, artifact_id: str) -> AsyncIterator[bytes]:
        """Its content piece by piece; `Damaged` after the last one when all of it is not what it was."""
        offset, end, sha = 0, False, hashlib.sha256()
        while not end:
            reply = await self._engine.request(
                "artifact", "get", 60.0, artifact_id=artifact_id, content=True, offset=offset
            )
            piece = base64.b64decode(reply["base64"])
            offset, end = reply["next_offset"], reply["end"]
            sha.update(piece)
            if not piece and not end:
                raise Damaged(f"{artifact_id} is cut off at byte {offset}", artifact_id=artifact_id)
            yield piece
        if artifact_id != f"art_{sha.hexdigest()}":
            raise Damaged(f"{artifact_id} arrived as something else", artifact_id=artifact_id)

    async def list_artifacts(self, filters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Artifacts, newest first, by what `artifact.list` takes."""
        return (await self._engine.request("artifact", "list", **(filters or {})))["artifacts"]
