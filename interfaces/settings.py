"""One tree of settings; every value knows where it came from.

Later ones win: the default, the file `<data>/hindbrain.toml` (or the one named by `--config`), the
environment (`HINDBRAIN_` and the key in capitals, `__` for each dot: `HINDBRAIN_HTTP__PORT`), the command
line.  A key that nobody knows is refused, because a typo must fail loudly.
"""

# It is long because it is one list: every setting there is, with the reading of it.

import difflib
import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import msgspec

from actors import residents
from events.chat import NOUNS
from events.errors import Validation
from events.look import TOTAL_MAX
from events.module import MOST

PREFIX = "HINDBRAIN_"
OURS = {
    *("HINDBRAIN_EXECUTION_ID", "HINDBRAIN_ATTEMPT", "HINDBRAIN_OUTPUT", "HINDBRAIN_CHECKPOINT"),
    *("HINDBRAIN_PLAYBOOK_ID", "HINDBRAIN_PHASE_ID"),
}
"""What a node tells its commands in their environment; no settings."""
SINGLE = ("timer", "planner", "limiter", "scaler", "playbook", "task")
"""Roles that only one node plays at a time; another takes over when it is gone."""
ROLES = ("nats", "gateway", "executor", "worker", "projector", "monitor", *SINGLE, "web")
MASK = "***"
LISTS = ("roles", "chat.show", "chat.users")
"""Settings that may also be given as words with commas or spaces between them."""
TREES = ("plugins", "modules", "categories", "mcp", "remotes")
"""Settings whose own keys are names that people choose."""


class Http(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The HTTP door."""

    host: str = "127.0.0.1"
    """Where it listens; anything but the loopback needs a token."""
    port: int = 8888
    """0 takes a free one."""
    url: str | None = None
    """What people type to get there, when that is not `http://localhost:<port>`."""
    token: str | None = None
    """What a caller has to show (`Authorization: Bearer <token>`)."""


class Nats(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The bus."""

    url: str | None = None
    """A NATS server that runs already; without it the node brings its own."""
    port: int | None = None
    """Where its own server listens: 4222 when that is free, 0 for any free one."""
    binary: Path | None = None
    """Another nats-server program than the one that was installed with us."""


class Inbox(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Commands that are stored first."""

    window_seconds: float = 120.0
    """How long the inbox knows a message id again."""


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the node writes about itself."""

    level: str = "info"
    """debug, info, warning or error."""
    facts: bool = False
    """Whether every fact is written to `<data>/logs/facts.jsonl` too."""


class Webhook(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody who is told of every fact, with a POST of its JSON."""

    url: str | None = None


class Otlp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody who collects traces (OpenTelemetry), and is told of everything that is over."""

    endpoint: str | None = None
    """Where it takes OTLP over HTTP, such as `http://127.0.0.1:4318`; `/v1/traces` is added."""


class Duckdb(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The tables for other DuckDB programs."""

    quack: bool = False
    """Whether they can attach, read-only and on this machine; needs the extra `hindbrain[duckdb]`."""


class Scaler(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What changes the number of workers by itself."""

    every_seconds: float = 10.0
    """How often it looks at all modules and decides."""
    policy: Path | None = None
    """A file with its policy; without one it decides by the classic rules."""


class Artifacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content that is kept under its hash."""

    backend: str = "local"
    """Who keeps it: `local` (a folder of the workspace), `nats` (the bus), or one that was installed."""
    url: str | None = None
    """Where that is, for a backend that has to know."""
    keep_days: float | None = None
    """What nobody needs is removed when nothing was said of it for so long; without it, only on demand."""


class Matrix(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A room of Matrix; needs the extra `hindbrain[matrix]`."""

    homeserver: str | None = None
    """Where the account of the bot is, such as `https://matrix.example.org`."""
    token: str | None = None
    """The access token of that account."""
    room: str | None = None
    """Its id (`!...`) or an alias (`#team:example.org`); the bot has to be invited, or free to join."""


class Hook(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A chat that takes messages over HTTP and cannot change them: it is told of questions and ends."""

    url: str | None = None
    """The address that the chat gives; whoever knows it can post there."""
    field: str = "text"
    """Where the text stands in the JSON of a POST; Discord calls it `content`."""


class Chat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Chats where people see what goes on, for `hindbrain chat`."""

    show: tuple[str, ...] = ("plan", "playbook")
    """What is shown by itself: `execution`, `plan` (batches too), `playbook`."""
    users: tuple[str, ...] = ()
    """Who may give commands, by their whole names (`@anna:example.org`): they can run anything."""
    matrix: Matrix = Matrix()
    webhook: Hook = Hook()


class Mcp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An MCP server: a program that is started for each call, or an address."""

    command: str | None = None
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    url: str | None = None


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that can be set."""

    data: Path
    """The data folder."""
    http: Http = Http()
    nats: Nats = Nats()
    inbox: Inbox = Inbox()
    log: Log = Log()
    webhook: Webhook = Webhook()
    otlp: Otlp = Otlp()
    duckdb: Duckdb = Duckdb()
    scaler: Scaler = Scaler()
    artifacts: Artifacts = Artifacts()
    chat: Chat = Chat()
    roles: tuple[str, ...] = ROLES
    """What this node does."""
    max_concurrent_executions: int
    """How many commands run at once; four for each core unless set."""
    default_timeout_ms: int | None = None
    """The timeout of commands that name none."""
    lease_seconds: float = 30.0
    """After how long without a sign of life a node counts as gone."""
    ageing_seconds: float = 300.0
    """What waits longer than this becomes one level more urgent, up to high; 0 turns that off."""
    plugins: dict[str, str] = {}
    """Plugins by name and where each is found (`package.module:name`); `off` for one that is installed."""
    modules: dict[str, dict[str, Any]] = {}
    """What is to be different in the module of a plugin, and modules without one, by name."""
    categories: dict[str, int] = {}
    """How many workers a category may have, where that is not what it is by itself."""
    mcp: dict[str, Mcp] = {}
    """MCP servers whose tools may be called (`hindbrain call`, and steps of playbooks), by name."""
    remotes: dict[str, str] = {}
    """Other Hindbrains that tasks may be handed to (`remote:<url>`): the token of each, by its address."""
    workers_max: int = TOTAL_MAX
    """How many workers there may be in all modules together."""
    right: str = "trusted"
    """Which tools and jobs may be used by callers who show no token: `public`, `trusted` or `admin`."""
    fault_switch: bool = False
    """Whether actors may be made to fail, for tests of what happens then."""
    origins: dict[str, str] = {}
    """Where each value came from, by its key; what is not here is a default."""

    @property
    def base_url(self) -> str | None:
        """What people type to get to the HTTP door; None when only the door knows its port."""
        if self.http.url:
            return self.http.url.rstrip("/")
        return f"http://localhost:{self.http.port}" if self.http.port else None

    def table(self) -> "list[Setting]":
        """List every value with its origin, secrets masked."""
        return [
            Setting(key, _shown(key, _get(self, key)), self.origins.get(key, "default")) for key in keys()
        ]


class Setting(NamedTuple):
    """One value."""

    key: str
    value: Any
    origin: str


def load(given: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Put all sources together; `given` is the command line (`data`, `http.port`, ..., and `config`, a file).

    `Validation` names the key, where it came from and, for an unknown one, the one that was probably meant.
    """
    environ = os.environ if environ is None else environ
    line = {key: value for key, value in _flat(given or {}) if value is not None}
    config = line.pop("config", None)
    there = _from_environment(environ)
    folder = Path(str(line.get("data") or there.get("data") or usual(environ)))
    found: dict[str, tuple[Any, str]] = {}
    file = Path(str(config)) if config else folder / "hindbrain.toml"
    for key, value in _from_file(file, needed=config is not None):
        found[key] = (value, str(file))
    for key, value in there.items():
        found[key] = (value, _variable(key))
    for key, value in line.items():
        found[key] = (value, "command line")
    if "data" in found and "data" not in line and "data" not in there and config is None:
        raise Validation(f"{file} cannot say where its own folder is: remove 'data'", field="data")
    tree: dict[str, Any] = {}
    for key, (value, origin) in found.items():
        _known(key, origin)
        *path, last = key.split(".")
        branch = tree
        for step in path:
            branch = branch.setdefault(step, {})
        branch[last] = _read(key, value, origin)
    tree["data"] = str(Path(tree.get("data", usual(environ))).expanduser().absolute())
    tree.setdefault("max_concurrent_executions", 4 * (os.cpu_count() or 1))
    made = msgspec.convert(tree, Settings, dec_hook=_hook)
    made = msgspec.structs.replace(made, origins={key: origin for key, (_, origin) in found.items()})
    _check(made)
    return made


def usual(environ: Mapping[str, str] | None = None) -> Path:
    """Say where this platform keeps the data of programs (XDG base directories, Application Support)."""
    environ = os.environ if environ is None else environ
    home = Path(environ.get("HOME") or Path.home())
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "hindbrain"
    shared = environ.get("XDG_DATA_HOME", "")
    # The specification says that a relative path there is invalid and has to be ignored.
    return (Path(shared) if shared.startswith("/") else home / ".local" / "share") / "hindbrain"


def keys() -> tuple[str, ...]:
    """Every key there is, as it is written in `hindbrain settings`."""
    return tuple(_leaves())


def _leaves(kind: type[msgspec.Struct] = Settings, before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        if field.name == "origins":
            continue
        shape: Any = field.type
        if isinstance(shape, type) and issubclass(shape, msgspec.Struct):
            found |= _leaves(shape, f"{before}{field.name}.")
        else:
            found[before + field.name] = shape
    return found


def _get(settings: Settings, key: str) -> Any:
    value: Any = settings
    for step in key.split("."):
        value = getattr(value, step)
    return value


def _shown(key: str, value: Any) -> Any:
    match value:
        case Path():
            return str(value)
        case str() if key.endswith("token") or key == "chat.webhook.url":
            return MASK
        case str() if key.endswith(("url", "endpoint")):
            secret = urlsplit(value).password
            return value.replace(f":{secret}@", f":{MASK}@") if secret else value
        case tuple():
            return list(cast("tuple[Any, ...]", value))
        case dict() if key == "remotes":
            return dict.fromkeys(cast("dict[str, str]", value), MASK)
        case dict() if key == "mcp":
            return {name: _veiled(server) for name, server in cast("dict[str, Mcp]", value).items()}
        case _:
            return value


def _veiled(server: Mcp) -> dict[str, Any]:
    """A server without what it is given in its environment, which may be secret."""
    shown: dict[str, Any] = msgspec.to_builtins(
        msgspec.structs.replace(server, env=dict.fromkeys(server.env, MASK))
    )
    return shown


def _flat(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and before + key not in TREES:
            yield from _flat(cast("Mapping[str, Any]", value), f"{before}{key}.")
        else:
            yield before + key, value


def _from_file(file: Path, needed: bool) -> list[tuple[str, Any]]:
    try:
        text = file.read_text()
    except FileNotFoundError:
        if needed:
            raise Validation(f"there is no file {file}", field="config") from None
        return []
    except OSError as error:
        raise Validation(f"{file} cannot be read: {error.strerror}", field="config") from error
    try:
        return list(_flat(tomllib.loads(text)))
    except tomllib.TOMLDecodeError as error:
        raise Validation(f"{file} is not TOML: {error}", field="config") from error


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    names = (name for name in environ if name.startswith(PREFIX) and name not in OURS)
    return {name[len(PREFIX) :].lower().replace("__", "."): environ[name] for name in sorted(names)}


def _variable(key: str) -> str:
    return PREFIX + key.upper().replace(".", "__")


def _known(key: str, origin: str) -> None:
    every = keys()
    if key in every:
        return
    variable = origin.startswith(PREFIX)
    name = origin if variable else key
    near = difflib.get_close_matches(key, every, 1, 0.5)
    if near:
        meant = f"did you mean {(_variable(near[0]) if variable else near[0])!r}?"
    else:
        meant = "`hindbrain settings` lists all"
    place = "" if variable else f" ({origin})"
    raise Validation(f"unknown setting {name!r}{place}, {meant}", field=key)


def _read(key: str, value: Any, origin: str) -> Any:
    """Bring one value into its type; text from outside may stand for numbers, truths and lists."""
    kind = _leaves()[key]
    if key in LISTS and isinstance(value, str):
        value = [role for role in re.split(r"[,\s]+", value) if role]
    if key in TREES and isinstance(value, str):
        value = _tree(value, origin)
    if value == "" and type(None) in getattr(kind, "__args__", ()):
        return None
    if isinstance(value, Path):
        value = str(value)
    try:
        return msgspec.to_builtins(msgspec.convert(value, kind, strict=False, dec_hook=_hook), enc_hook=str)
    except msgspec.ValidationError as error:
        where = origin if origin.startswith(PREFIX) else f"{key} ({origin})"
        raise Validation(f"setting {where}: {error}", field=key) from error


def _tree(text: str, origin: str) -> Any:
    """Read `name=value,name=value` or JSON, where a tree has to be one word."""
    if text.lstrip().startswith("{"):
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise Validation(f"setting {origin} is no JSON: {error}") from error
    pairs = [pair.partition("=") for pair in re.split(r"[,\s]+", text) if pair]
    return {name: value for name, _, value in pairs}


def _hook(kind: type[Any], value: Any) -> Any:
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    raise msgspec.ValidationError("Expected a path")


def _check(made: Settings) -> None:
    bad = [role for role in made.roles if role not in ROLES]
    limits = {
        "http.port": (made.http.port, 0, 65535),
        "nats.port": (made.nats.port, 0, 65535),
        "max_concurrent_executions": (made.max_concurrent_executions, 1, 100_000),
        "default_timeout_ms": (made.default_timeout_ms, 1, 2**53),
        "artifacts.keep_days": (made.artifacts.keep_days, 0, 36_600),
        "ageing_seconds": (made.ageing_seconds, 0, 2**31),
        "lease_seconds": (made.lease_seconds, 1, 86_400),
        "workers_max": (made.workers_max, 1, MOST),
        "scaler.every_seconds": (made.scaler.every_seconds, 0.1, 86_400),
        "inbox.window_seconds": (made.inbox.window_seconds, 0.1, 86_400),
    }
    for key, (value, low, high) in limits.items():
        if value is not None and not low <= value <= high:
            raise Validation(f"{key} is {value:g}: it must be between {low} and {high}", field=key)
    for key in ("modules", "plugins"):
        for name in getattr(made, key).keys() & residents.ROLES.keys():
            raise Validation(f"{key}.{name}: {name} is a module of the node itself", field=f"{key}.{name}")
    if made.right not in ("public", "trusted", "admin"):
        raise Validation(f"right is {made.right!r}: use public, trusted or admin", field="right")
    if bad:
        near = difflib.get_close_matches(bad[0], ROLES, 1, 0.5)
        meant = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(ROLES)}"
        raise Validation(f"unknown role {bad[0]!r}, {meant}", field="roles")
    if made.log.level.lower() not in ("debug", "info", "warning", "error"):
        raise Validation(
            f"log.level is {made.log.level!r}: use debug, info, warning or error", field="log.level"
        )
    for key, url in (
        ("matrix.homeserver", made.chat.matrix.homeserver),
        ("webhook.url", made.chat.webhook.url),
    ):
        if url and not url.startswith(("http://", "https://")):
            raise Validation(f"chat.{key} must begin with http:// or https://", field=f"chat.{key}")
    if unknown := [kind for kind in made.chat.show if kind not in NOUNS]:
        raise Validation(f"chat.show names {unknown[0]!r}: there are {', '.join(NOUNS)}", field="chat.show")
    if made.otlp.endpoint and not made.otlp.endpoint.startswith(("http://", "https://")):
        raise Validation(
            f"otlp.endpoint is {made.otlp.endpoint!r}: it must begin with http:// or https://",
            field="otlp.endpoint",
        )
    if made.http.host not in ("127.0.0.1", "::1", "localhost") and not made.http.token:
        raise Validation(
            f"http.host is {made.http.host}: whoever is not on this machine needs a token, set http.token",
            field="http.token",
        )
