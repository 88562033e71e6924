"""What can be read by address: output, artifacts, what runs as it is now, and what plugins have."""

import base64
import re
from typing import Any

import mcp_types as wire
import msgspec

from events.errors import NotFound
from interfaces.mcp.tools import Call, cut

SHOWN = 20
"""Executions whose output is listed, and artifacts; any other can be read too."""
WHOLE = 256 * 1024
"""Longer output is shown with its beginning and its end, this much together."""
_ADDRESS = re.compile(
    r"brain://(executions/exec|plans/plan|playbooks/play)_([0-9a-z]{26})(?:/(stdout|stderr|bearings))?"
)
_ARTIFACT = re.compile(r"brain://artifacts/(art_[0-9a-f]{64})")

JSON, TEXT = "application/json", "text/plain"
TEMPLATES = tuple(
    wire.ResourceTemplate(
        name=name, uri_template=f"brain://{address}", description=description, mime_type=kind
    )
    for name, address, kind, description in (
        ("stdout", "executions/{id}/stdout", TEXT, "What an execution wrote to its standard output."),
        ("stderr", "executions/{id}/stderr", TEXT, "What an execution wrote to its standard error."),
        ("execution", "executions/{id}", JSON, "An execution with all that is known of it."),
        ("plan", "plans/{id}", JSON, "A plan with its steps."),
        ("playbook", "playbooks/{id}", JSON, "A playbook with its steps."),
        (
            *("bearings", "playbooks/{id}/bearings", JSON),
            "Where a playbook stands: what is done, what failed, what is next.",
        ),
        (
            *("artifact", "artifacts/{id}", None),
            "The content of an artifact, checked against its hash; at most 512 KiB of it.",
        ),
    )
)


async def recent(call: Call) -> list[wire.Resource]:
    """The output of the executions that came last, the last artifacts, and what plugins have."""
    rows = (await call.request("execution", "list", limit=SHOWN))["executions"]
    kept = (await call.request("artifact", "list", limit=SHOWN))["artifacts"]
    brought = (await call.request("plugin", "resources"))["resources"]
    written = [
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
    artifacts = [
        wire.Resource(
            name=row["name"],
            uri=f"brain://artifacts/{row['id']}",
            mime_type=row["media_type"],
            size=row["size"],
        )
        for row in kept
    ]
    others = [
        wire.Resource(
            name=each["name"],
            uri=each["uri"],
            description=each.get("description"),
            mime_type=each.get("mime_type", "text/plain"),
        )
        for each in brought
    ]
    return [*written, *artifacts, *others]


async def resource(call: Call, uri: str) -> wire.TextResourceContents | wire.BlobResourceContents:
    """Read one; `NotFound` for an address that leads nowhere."""
    if not uri.startswith("brain://"):
        content = await call.request("plugin", "read", uri=uri)
        return wire.TextResourceContents(uri=uri, mime_type=content["mime_type"], text=content["text"])
    if match := _ARTIFACT.fullmatch(uri):
        return await _artifact(call, uri, match[1])
    match = _ADDRESS.fullmatch(uri)
    room, number, part = match.groups() if match else ("", "", None)
    entity = f"{room.partition('/')[2]}_{number}"
    match room, part:
        case "executions/exec", "stdout" | "stderr":
            return await _output(call, uri, entity, part)
        case "executions/exec", None:
            found: Any = await call.patiently(lambda: call.engine.get_status(entity))
        case "plans/plan", None:
            found = (await call.request("plan", "get", plan_id=entity))["plan"]
        case "playbooks/play", None:
            found = (await call.request("playbook", "get", playbook_id=entity))["playbook"]
        case "playbooks/play", "bearings":
            found = await call.request("playbook", "bearings", playbook_id=entity)
        case _:
            raise NotFound(f"there is nothing at {uri!r}")
    return wire.TextResourceContents(
        uri=uri, mime_type="application/json", text=msgspec.json.encode(found).decode()
    )


async def _artifact(
    call: Call, uri: str, entity: str
) -> wire.TextResourceContents | wire.BlobResourceContents:
    """Read the content of an artifact: text as such, anything else in base64."""
    reply = await call.request("artifact", "get", artifact_id=entity, content=True)
    kind, size = reply["artifact"]["media_type"], reply["artifact"]["size"]
    content = base64.b64decode(reply["base64"])
    meta: dict[str, Any] | None = {"left_out_bytes": size - len(content)} if size > len(content) else None
    try:
        # A letter may have been cut in two at the end of what is shown.
        text = content.decode() if meta is None else content.decode(errors="ignore")
    except UnicodeDecodeError:
        return wire.BlobResourceContents(uri=uri, mime_type=kind, blob=reply["base64"], _meta=meta)
    if meta is not None and not kind.startswith("text/"):
        return wire.BlobResourceContents(uri=uri, mime_type=kind, blob=reply["base64"], _meta=meta)
    return wire.TextResourceContents(uri=uri, mime_type=kind, text=text, _meta=meta)


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
