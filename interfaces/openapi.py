"""What the HTTP door answers, for programs: an OpenAPI 3.1 document, made from the types of the verbs."""

import inspect
from functools import cache
from importlib import metadata
from typing import Any

import msgspec

from events import service
from events.message import Message
from events.service import Execution
from events.verb import Verb
from interfaces.describe import Failure, errors, hook
from interfaces.guard import OPEN

JSON, EVENTS, HTML = "application/json", "text/event-stream", "text/html"


class Shown(Execution, omit_defaults=False):
    """One execution with what it wrote; each stream is cut at 1 MiB, and `truncated` says so."""

    stdout: str
    stderr: str
    truncated: bool
    can_stream: bool
    """It runs."""


class Listed(Message):
    """What runs and what ran, newest first."""

    executions: list[dict[str, Any]]


class Alive(Message):
    """The node answers."""

    status: str


_TEXT: dict[str, Any] = {"type": "string"}
_ID: dict[str, Any] = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
_TICKET: dict[str, Any] = {"name": "ticket", "in": "query", "required": True, "schema": {"type": "string"}}
_RESUME: dict[str, Any] = {
    "name": "Last-Event-ID",
    "in": "header",
    "schema": {"type": "string"},
    "description": "The id of the last message that came: the stream goes on behind it.",
}


@cache
def document() -> bytes:
    """The document as JSON."""
    return msgspec.json.format(msgspec.json.encode(_document()), indent=1)


def _document() -> dict[str, Any]:
    kinds: list[Any] = [Failure, Shown, Listed, Alive]
    for verb in service.VERBS:
        kinds += [verb.request, verb.reply]
    unique = list(dict.fromkeys(kinds))
    references, parts = msgspec.json.schema_components(
        unique, schema_hook=hook, ref_template="#/components/schemas/{name}"
    )
    schema = dict(zip(unique, references, strict=True))
    paths = {path: {"get": each} for path, each in _pages(schema).items()}
    paths["/mcp"] = {
        "post": {
            "operationId": "mcp",
            "summary": "The server for agents: MCP over streamable HTTP.",
            "requestBody": {"required": True, "content": {JSON: {"schema": {"type": "object"}}}},
            "responses": {"200": _answer("JSON-RPC.", {"type": "object"}, JSON, EVENTS)},
        }
    }
    for verb in service.VERBS:
        paths[f"/api/{verb.kind}/{verb.name}"] = {"post": _verb(verb, schema)}
    failure = {
        "description": "It was refused, or could not be served.",
        "content": {JSON: {"schema": schema[Failure]}},
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Hindbrain",
            "version": metadata.version("hindbrain"),
            "summary": "Runs things in the background and never forgets what happened.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"token": []}, {"cookie": []}],
        "paths": paths,
        "components": {
            "schemas": parts,
            "responses": {"Failure": failure},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Needed where http.token is set.",
                },
                "cookie": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "brain",
                    "description": "Set by `hindbrain open`.",
                },
            },
        },
    }


def _pages(schema: dict[Any, Any]) -> dict[str, dict[str, Any]]:
    stream = {"type": "string", "description": "Server-sent events; see the reference of HTTP."}
    pages: dict[str, dict[str, Any]] = {
        "/": _get("what runs and what ran", _answer("A page, or JSON.", schema[Listed], JSON, HTML)),
        "/healthz": _get("whether the node answers", _answer("It does.", schema[Alive])),
        "/readyz": _get("whether bus, log and tables answer", _answer("They do.", schema[Alive])),
        "/metrics": _get("all figures for Prometheus", _answer("Figures.", _TEXT, "text/plain")),
        "/openapi.json": _get("this document", _answer("OpenAPI 3.1.", {"type": "object"})),
        "/events": _get("the facts, as they are stored", _answer("A stream.", stream, EVENTS), _RESUME),
        "/executions/{id}": _get(
            "one execution with its output", _answer("A page, or JSON.", schema[Shown], JSON, HTML), _ID
        ),
        "/executions/{id}/stream": _get(
            "output and progress until the end", _answer("A stream.", stream, EVENTS), _ID, _RESUME
        ),
        "/api/threads/status": _get(
            "how the workers of all modules are doing", _answer("They.", {"type": "object"})
        ),
        "/api/threads/decisions": _get(
            "the last 50 decisions about modules", _answer("They.", {"type": "object"})
        ),
        "/plans/{id}/stream": _get(
            "the progress of a plan until its end", _answer("A stream.", stream, EVENTS), _ID
        ),
    }
    pages["/open"] = _get("lets a browser in that brings a ticket of `hindbrain open`", {}, _TICKET)
    pages["/open"]["responses"]["303"] = {"description": "It may come in: a cookie, and where to go."}
    del pages["/open"]["responses"]["200"]
    for path in OPEN:
        pages[path]["security"] = [{}]
    return pages


def _get(what: str, answer: dict[str, Any], *parameters: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": "get_" + "_".join(what.replace(",", "").split()),
        "summary": f"{what[0].upper()}{what[1:]}.",
        "responses": {"200": answer, "default": {"$ref": "#/components/responses/Failure"}},
    }
    return operation | ({"parameters": list(parameters)} if parameters else {})


def _answer(text: str, schema: Any, *kinds: str) -> dict[str, Any]:
    html = {"schema": {"type": "string"}}
    content = {kind: html if kind == HTML else {"schema": schema} for kind in kinds or (JSON,)}
    return {"description": text, "content": content}


def _verb(verb: Verb, schema: dict[Any, Any]) -> dict[str, Any]:
    return {
        "operationId": f"{verb.kind}_{verb.name}",
        "summary": verb.text,
        "tags": [verb.kind],
        "requestBody": {"content": {JSON: {"schema": schema[verb.request]}}},
        "responses": {
            "200": _answer(inspect.getdoc(verb.reply) or "The answer.", schema[verb.reply]),
            **{
                str(status): {"$ref": "#/components/responses/Failure"}
                for status in sorted({error["status"] for error in errors()})
            },
        },
    }
