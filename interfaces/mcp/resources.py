"""What can be read by address: the output of executions, and executions and plans as they are."""

import re
from typing import Any

import mcp_types as wire
import msgspec

from events.errors import NotFound
from interfaces.mcp.tools import Call, cut

SHOWN = 20
"""Executions whose output is listed; any other can be read too."""
WHOLE = 256 * 1024
"""Longer output is shown with its beginning and its end, this much together."""
_ADDRESS = re.compile(r"brain://(executions|plans)/([a-z]+_[0-9a-z]{26})(?:/(stdout|stderr))?")

TEMPLATES = (
    wire.ResourceTemplate(
        name="stdout",
        uri_template="brain://executions/{id}/stdout",
        description="What an execution wrote to its standard output.",
        mime_type="text/plain",
    ),
    wire.ResourceTemplate(
        name="stderr",
        uri_template="brain://executions/{id}/stderr",
        description="What an execution wrote to its standard error.",
        mime_type="text/plain",
    ),
    wire.ResourceTemplate(
        name="execution",
        uri_template="brain://executions/{id}",
        description="An execution with all that is known of it.",
        mime_type="application/json",
    ),
    wire.ResourceTemplate(
        name="plan",
        uri_template="brain://plans/{id}",
        description="A plan with its steps.",
        mime_type="application/json",
    ),
)


async def recent(call: Call) -> list[wire.Resource]:
    """The output of the executions that came last, where there is any."""
    rows = (await call.request("execution", "list", limit=SHOWN))["executions"]
    return [
        wire.Resource(
            name=f"{row['id']} {stream}",
            title=cut(row["description"] or row["command"], 80),
            uri=f"brain://executions/{row['id']}/{stream}",
            description=row["status"],
            mime_type="text/plain",
            size=row[f"{stream}_bytes"],
        )
        for row in rows
        for stream in ("stdout", "stderr")
        if row[f"{stream}_bytes"]
    ]


async def resource(call: Call, uri: str) -> wire.TextResourceContents:
    """Read one; `NotFound` for an address that leads nowhere."""
    match = _ADDRESS.fullmatch(uri)
    if match is None or (match[1] == "plans" and match[3]):
        raise NotFound(f"there is nothing at {uri!r}")
    room, entity, stream = match.groups()
    if stream is not None:
        return await _output(call, uri, entity, stream)
    if room == "plans":
        found: Any = (await call.request("plan", "get", plan_id=entity))["plan"]
    else:
        found = await call.patiently(lambda: call.engine.get_status(entity))
    return wire.TextResourceContents(
        uri=uri, mime_type="application/json", text=msgspec.json.encode(found).decode()
    )


async def _output(call: Call, uri: str, entity: str, stream: str) -> wire.TextResourceContents:
    async def piece(offset: int, most: int) -> tuple[str, int]:
        which = {"execution_id": entity, "stream": stream, "offset": offset, "max_bytes": most}
        reply = await call.request("execution", "logs", **which)
        return "".join(chunk["text"] for chunk in reply["chunks"]), reply["next_offset"]

    text, there = await piece(0, WHOLE)
    now = await call.patiently(lambda: call.engine.get_status(entity))
    size = max(there, now.stdout_bytes if stream == "stdout" else now.stderr_bytes)
    meta: dict[str, Any] | None = None
    if size > there:
        begin, upto = await piece(0, WHOLE // 2)
        offset = max(upto, size - WHOLE // 2)
        text, _ = await piece(offset, WHOLE // 2)
        if offset > upto:
            begin += f"\n[{offset - upto} bytes are left out here: the tool output reads them]\n"
            meta = {"left_out_bytes": offset - upto}
        text = begin + text
    return wire.TextResourceContents(uri=uri, mime_type="text/plain", text=text, _meta=meta)
