"""What people can do on a page: forms that ask a verb, and then show what came of it.

The guard of the HTTP door refuses whatever a page of another origin sends; here only verbs of this list pass.
"""

import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import msgspec
from starlette.requests import Request

from events.errors import NotFound, Problem, TooLarge, Validation, revive

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine

FIELDS = {
    "execution": "execution_id",
    "dead": "execution_id",
    "plan": "plan_id",
    "playbook": "playbook_id",
    "schedule": "schedule_id",
    "module": "module",
}
ACTS = {
    *(("execution", verb) for verb in ("cancel", "retry")),
    *(("plan", verb) for verb in ("cancel", "pause", "resume", "rerun")),
    *(("playbook", verb) for verb in ("cancel", "pause", "resume", "answer")),
    *(("schedule", verb) for verb in ("pause", "resume", "run")),
    *(("module", verb) for verb in ("pause", "resume", "restart")),
    *(("dead", verb) for verb in ("retry", "discard")),
}
FORM_MAX = 1024 * 1024
"""Bytes of a form."""


async def form(request: Request) -> dict[str, str]:
    """Read the fields of a form; of one that is there twice the last counts."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
        raise Validation("this takes a form; programs send JSON to /api/<kind>/<verb>")
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > FORM_MAX:
            raise TooLarge(f"the form is larger than {FORM_MAX} bytes")
    try:
        fields = parse_qs(content.decode(), keep_blank_values=True, max_num_fields=100, strict_parsing=False)
    except ValueError as error:
        raise Validation(f"the form cannot be read: {error}") from error
    return {name: values[-1].replace("\r\n", "\n") for name, values in fields.items()}


async def act(engine: "ExecutionEngine", kind: str, verb: str, given: dict[str, str]) -> tuple[str, int]:
    """Ask a verb about one entity; answers the page that shows what came of it, and the event to wait for."""
    if (kind, verb) not in ACTS:
        raise NotFound(f"a page cannot ask for {kind}.{verb}")
    field = FIELDS[kind]
    which: dict[str, Any] = {field: given.get(field, "")}
    if verb == "answer":
        which |= {"value": _value(given.get("value", "")), "step": given.get("step"), "by": "dashboard"}
    reply = await engine.request(kind, verb, **which)
    for each in reply.get("refused", ()):
        raise revive(msgspec.convert(each["error"], Problem))
    for each in reply.get("retried", ()):
        return f"/executions/{each['execution_id']}", int(reply["seq"])
    entity = reply.get("plan_id") or reply.get("execution_id") or given[field]
    pages = {"exec": "/executions/", "plan": "/plans/", "play": "/playbooks/"}
    room = pages.get(entity.partition("_")[0])
    if kind in ("schedule", "module"):
        return f"/{kind}s", int(reply.get("seq", 0))
    if verb == "discard" or room is None:
        return "/dead", int(reply.get("seq", 0))
    return f"{room}{entity}", int(reply.get("seq", 0))


async def submit(engine: "ExecutionEngine", given: dict[str, str]) -> tuple[str, int]:
    """Have something run; answers its page, and the event to wait for."""
    text = given.get("text", "")
    if not text.strip():
        raise Validation("there is nothing to run: write a command or some code", field="text")
    wish: dict[str, Any] = {"idempotency_key": given.get("key") or f"page-{uuid.uuid4()}"}
    language = given.get("language", "")
    if language in ("", "shell"):
        wish["shell"] = {"command": text}
    else:
        wish |= {"code": text, "language": language}
    if given.get("description", "").strip():
        wish["description"] = given["description"].strip()
    if labels := given.get("labels", "").replace(",", " ").split():
        wish["labels"] = labels
    if given.get("priority"):
        wish["priority"] = given["priority"]
    if seconds := given.get("timeout", "").strip():
        wish["timeout_ms"] = _milliseconds(seconds)
    reply = await engine.submit(wish)
    return f"/executions/{reply.execution_id}", reply.seq


def _value(text: str) -> Any:
    """An answer is JSON, or else text."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


def _milliseconds(seconds: str) -> int:
    try:
        found = round(float(seconds) * 1000)
    except (ValueError, OverflowError):
        found = 0
    if found <= 0:
        raise Validation(f"the timeout is {seconds!r}: write how many seconds it may run", field="timeout")
    return found
