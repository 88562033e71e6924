"""What can be said, for programs: JSON Schemas of requests, replies and events, and an AsyncAPI document.

All of it is made from the types and from the subject map; `python -m interfaces.describe FOLDER` writes it.
"""

import inspect
import json
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import msgspec

from bus import subjects
from events import codec, service
from events.errors import HindbrainError, Problem
from events.message import Message

DIALECT = "https://json-schema.org/draft/2020-12/schema"
BUS = "nats://127.0.0.1:4222"
_LINE = re.compile(r"^    (brain\.\S+?)(?:, (brain\.\S+))? {2,}(.+)$", re.MULTILINE)


class Failure(Message):
    """A refusal, or a request that could not be served."""

    error: Problem


def hook(kind: type[Any]) -> dict[str, Any]:
    """Say what a value is that may be anything."""
    if kind is msgspec.Raw:
        return {"description": "Any JSON value."}
    raise NotImplementedError(kind)


def shapes() -> dict[str, type[Any]]:
    """Every message by its name: `execution.submit.request`, `execution.submit.reply`, `execution.queued`."""
    found: dict[str, type[Any]] = {"error": Failure}
    for verb in service.VERBS:
        found[f"{verb.kind}.{verb.name}.request"] = verb.request
        found[f"{verb.kind}.{verb.name}.reply"] = verb.reply
    for kind in codec.KINDS:
        for event in codec.events_of(kind):
            found[f"{kind}.{event.name()}"] = event
    return found


def schemas() -> dict[str, dict[str, Any]]:
    """One JSON Schema for each message; each stands for itself, with what it refers to inside."""
    return {name: _schema(name, kind) for name, kind in shapes().items()}


def _schema(name: str, kind: type[Any]) -> dict[str, Any]:
    (top,), parts = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}", schema_hook=hook)
    # Two messages of one name are told apart by longer names.
    word = str(top["$ref"]).rpartition("/")[2] if "$ref" in top else kind.__name__
    own = cast("dict[str, Any]", parts.pop(word)) if "$ref" in top else top
    made: dict[str, Any] = {"$schema": DIALECT, **own, "title": name}
    # A reference back to the message itself has to stay where it is.
    if f'"#/$defs/{word}"' in json.dumps([own, parts]):
        parts[word] = own
    return {**made, "$defs": parts} if parts else made


def channels() -> dict[str, str]:
    """Every subject of the map with its meaning, as the map itself tells it."""
    found: dict[str, str] = {}
    for first, second, text in _LINE.findall((inspect.getdoc(subjects) and subjects.__doc__) or ""):
        for pattern in filter(None, (first, second)):
            found[pattern] = text.strip()
    return found


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3 document of the bus."""
    messages = {_word(name): _message(name, schema) for name, schema in schemas().items()}
    requests = {
        f"{verb.kind}.{verb.name}": _word(f"{verb.kind}.{verb.name}.request") for verb in service.VERBS
    }
    made: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for verb in service.VERBS:
        name = f"{verb.kind}.{verb.name}"
        key, reply = _word(name), _word(f"{name}.reply")
        made[key] = _channel(subjects.command(verb.kind, verb.name), verb.text, [requests[name]])
        answers = [reply, "error"]
        made[f"{key}_reply"] = {**_channel(None, f"The answer of {name}.", answers)}
        operations[key] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{key}"},
            "summary": verb.text,
            "reply": {
                "address": {"location": "$message.header#/Nats-Reply", "description": "The reply inbox."},
                "channel": {"$ref": f"#/channels/{key}_reply"},
            },
        }
        address = subjects.inbox(verb.kind, verb.name)
        made[f"{key}_inbox"] = _channel(address, f"{verb.text}  Stored first.", [requests[name]])
    for kind in codec.KINDS:
        for event in codec.events_of(kind):
            key = _word(f"{kind}.{event.name()}")
            tail = ".{module}.{priority}" if (kind, event.name()) == ("execution", subjects.QUEUED) else ""
            address = f"{subjects.ROOT}.fact.{kind}.{{id}}.{{n}}.{event.name()}{tail}"
            made[f"fact_{key}"] = _channel(address, inspect.getdoc(event) or "", [key])
            operations[f"hear_{key}"] = {
                "action": "receive",
                "channel": {"$ref": f"#/channels/fact_{key}"},
                "summary": _first(inspect.getdoc(event) or ""),
            }
    told = ("brain.out.", "brain.progress.", "brain.tel.", "brain.dead.")
    for pattern, text in channels().items():
        if pattern.startswith(told):
            key = _word(re.sub(r"[<>|]", "", pattern.removeprefix("brain.")))
            address = re.sub(r"<([^>]+)>", lambda match: "{" + _word(match[1]) + "}", pattern)
            made[key] = _channel(address, text, [])
            operations[f"hear_{key}"] = {
                "action": "receive",
                "channel": {"$ref": f"#/channels/{key}"},
                "summary": text,
            }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Hindbrain",
            "version": metadata.version("hindbrain"),
            "description": "Runs things in the background and never forgets what happened.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"local": {"host": BUS.removeprefix("nats://"), "protocol": "nats"}},
        "channels": made,
        "operations": operations,
        "components": {"messages": messages},
    }


def _message(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "title": name,
        "summary": _first(schema.get("description", "")),
        "contentType": "application/json",
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-07",
            "schema": _draft7(name, schema),
        },
    }


def _draft7(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Say a schema in the older words that AsyncAPI tools read; nothing of ours needs the newer ones.

    A reference inside such a document counts from the top of the document.
    """
    text = json.dumps({key: value for key, value in schema.items() if key != "$schema"})
    here = f"#/components/messages/{_word(name)}/payload/schema/definitions/"
    return json.loads(text.replace('"#/$defs/', f'"{here}').replace('"$defs"', '"definitions"'))


def _channel(address: str | None, text: str, messages: list[str]) -> dict[str, Any]:
    made: dict[str, Any] = {"address": address, "description": text}
    if messages:
        made["messages"] = {name: {"$ref": f"#/components/messages/{name}"} for name in messages}
    parameters = re.findall(r"{(\w+)}", address or "")
    if parameters:
        made["parameters"] = {name: {"description": f"The {name} of the subject."} for name in parameters}
    return made


def _word(text: str) -> str:
    return re.sub(r"\W+", "_", text).strip("_")


def _first(text: str) -> str:
    return text.strip().split("\n", 1)[0]


def errors() -> list[dict[str, Any]]:
    """Every way to say no: code, HTTP status and the sentence that is said when there is no other."""
    found: dict[str, dict[str, Any]] = {}
    kinds: list[type[HindbrainError]] = [HindbrainError]
    for kind in kinds:
        kinds += kind.__subclasses__()
        if "code" in vars(kind):
            found.setdefault(
                kind.code, {"code": kind.code, "status": kind.status, "message": _first(kind.__doc__ or "")}
            )
    return list(found.values())


def write(folder: Path) -> list[Path]:
    """Write everything into a folder, and take away schemas of what is no more; answers what was written."""
    place = folder / "schemas"
    place.mkdir(parents=True, exist_ok=True)
    contents: dict[Path, Any] = {place / f"{name}.json": schema for name, schema in schemas().items()}
    for old in set(place.glob("*.json")) - contents.keys():
        old.unlink()
    contents[folder / "asyncapi.json"] = asyncapi()
    contents[folder / "subjects.json"] = channels()
    contents[folder / "errors.json"] = errors()
    for path, content in contents.items():
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return sorted(contents)


if __name__ == "__main__":
    sys.stdout.write(f"{len(write(Path(sys.argv[1])))} files\n")
