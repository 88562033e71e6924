"""What people may say to the bot, and what comes of it.

A command begins with `!`.  It is cut into words as a shell would do it, but no shell is there: `!run` starts
the program that it names, with the words behind it.
"""

import hashlib
import json
import shlex
from typing import TYPE_CHECKING, Any

import msgspec

from events import chat
from events.errors import HindbrainError, Validation
from events.ids import PREFIXES
from interfaces.chat.network import Heard
from interfaces.live import standing

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine

MARK = "!"
HELP = {
    "run": "!run PROGRAM ARGUMENTS: run it, without a shell",
    "status": "!status [ID]: what goes on, or how far one is",
    "cancel": "!cancel ID: stop it",
    "answer": "!answer ID VALUE: answer what a playbook asks",
    "help": "!help: this; instead of an ID you can reply to a message about it",
}
SHOWN = 10
LATE_SECONDS = 600.0
"""What was said longer ago is not done any more: who said it does not wait for it now."""
KINDS = {PREFIXES[kind]: kind for kind in ("execution", "plan", "playbook")}


class Reply(msgspec.Struct, frozen=True):
    """What comes of a command."""

    text: str = ""
    follow: str = ""
    """The execution that is to be shown from now on, instead of a text."""


def verb_of(text: str) -> str | None:
    """Say which command this is; None for what people say to each other and to other bots."""
    if not text.startswith(MARK):
        return None
    first = text[len(MARK) :].split(maxsplit=1)
    return first[0] if first and first[0] in HELP else None


async def obey(engine: "ExecutionEngine | None", verb: str, heard: Heard, about: str | None) -> Reply:
    """Do what an allowed user says; `about` is what the message is about that this is a reply to."""
    try:
        if heard.age_seconds > LATE_SECONDS:
            raise Validation(f"that was said {heard.age_seconds / 60:.0f} minutes ago, say it again")
        words = _words(heard.text)[1:]
        if verb == "help":
            return Reply("\n".join(HELP.values()))
        if engine is None:
            return Reply("No node is there now, and nothing was done. Say it again later.")
        if verb == "run":
            return await _run(engine, words, heard)
        if verb == "status" and not words and about is None:
            return Reply(await _background(engine))
        entity, rest = _entity(verb, words, about)
        kind = kind_of(entity)
        if verb == "status":
            return Reply(chat.tells(await standing(engine, kind, entity)))
        if verb == "cancel":
            why: dict[str, Any] = {f"{kind}_id": entity, "reason": f"{heard.user} asked for it in a chat"}
            done = await engine.request(kind, "cancel", **why)
            return Reply(f"{entity} is {done['status']}{'' if done['changed'] else ' already'}.")
        return Reply(await _answer(engine, entity, kind, rest, heard.user))
    except HindbrainError as error:
        return Reply(error.message)


def kind_of(entity: str) -> str:
    """Say what an id names."""
    kind = KINDS.get(entity.partition("_")[0])
    if kind is None:
        raise Validation(f"{entity} is not the id of a command, a plan or a playbook")
    return kind


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text[len(MARK) :])
    except ValueError as error:
        raise Validation(f"this cannot be cut into words: {error}") from None


def _entity(verb: str, words: list[str], about: str | None) -> tuple[str, list[str]]:
    if words and words[0].partition("_")[0] in KINDS:
        return words[0], words[1:]
    if about is None:
        raise Validation(f"which one is meant? {HELP[verb]}")
    return about, words


async def _run(engine: "ExecutionEngine", words: list[str], heard: Heard) -> Reply:
    if not words:
        raise Validation(f"what is to be run? {HELP['run']}")
    program, *arguments = words
    wish: dict[str, Any] = {
        "exec": {"program": program, "args": arguments},
        "description": f"{shlex.join(words)}, for {heard.user} in a chat",
        "labels": ["chat"],
        # Whoever is started again may hear the same once more.
        "idempotency_key": f"chat-{hashlib.sha256(heard.id.encode()).hexdigest()[:40]}",
    }
    return Reply(follow=await engine.execute(wish))


async def _background(engine: "ExecutionEngine") -> str:
    found = await engine.request("query", "status", min_seq=await engine.last_seq())
    lines = [found["message"]]
    for each in found["operations"][:SHOWN]:
        what = each.get("batchId") or each["jobId"]
        lines.append(" ".join(str(part) for part in (what, each["progress"], each["currentTask"]) if part))
    if len(found["operations"]) > SHOWN:
        lines.append(f"and {len(found['operations']) - SHOWN} more")
    return "\n".join(lines)


async def _answer(engine: "ExecutionEngine", entity: str, kind: str, rest: list[str], user: str) -> str:
    if kind != "playbook":
        raise Validation(f"{entity} asks nothing: only playbooks do")
    if not rest:
        raise Validation(f"what is the answer? {HELP['answer']}")
    text = " ".join(rest)
    try:
        value: Any = json.loads(text)
    except ValueError:
        value = text
    done = await engine.request("playbook", "answer", playbook_id=entity, value=value, by=user)
    return f"{entity} is {done['status']}."
