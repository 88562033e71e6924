"""What the verbs share: which node, in which form, and how an end becomes an exit code."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import click

if TYPE_CHECKING:
    from events.service import Execution
    from interfaces.api import ExecutionEngine
    from interfaces.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")
Verb = Callable[..., Any]

WITHIN_SECONDS = 30.0
"""How long a verb may take that looks at much."""
TIMED_OUT, NOT_FOUND, NOT_RUNNABLE, NO_CODE, CANCELLED = 124, 127, 126, 125, 130


def place(verb: Verb) -> Verb:
    """Add the options that say which node is meant; the verb gets them as `settings`, not read yet."""

    def called(data: Path | None, nats: str | None, config: Path | None, **others: Any) -> Any:
        def settings(**more: Any) -> "Settings":
            from interfaces.settings import load

            return load({"data": data, "nats.url": nats, "config": config, **more})

        return verb(settings=settings, **others)

    called.__doc__, called.__name__ = verb.__doc__, verb.__name__
    called.__click_params__ = getattr(verb, "__click_params__", [])  # type: ignore[attr-defined]  # click's own
    for option in (
        click.option("--config", type=click.Path(path_type=Path), help="A file with settings (TOML)."),
        click.option("--nats", metavar="URL", help="The NATS of the node, instead of a data folder."),
        click.option("--data", type=click.Path(path_type=Path), help="The data folder of the node."),
    ):
        called = option(called)
    return called


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def connected(
    work: "Callable[Concatenate[ExecutionEngine, P], Awaitable[T]]",
) -> "Callable[Concatenate[Settings, P], T]":
    """Make a plain function of one that needs an engine: connect, work, let go."""

    async def whole(settings: "Settings", *args: P.args, **kwargs: P.kwargs) -> T:
        from interfaces.api import ExecutionEngine

        # https://opentelemetry.io/docs/specs/otel/context/env-carriers/
        trace = os.environ.get("TRACEPARENT", "")
        async with ExecutionEngine.new(settings).with_trace(trace).with_token(token(settings)) as engine:
            return await work(engine, *args, **kwargs)

    def run(settings: "Settings", *args: P.args, **kwargs: P.kwargs) -> T:
        return asyncio.run(whole(settings, *args, **kwargs))

    return run


def token(settings: "Settings") -> str:
    """What administrators of the node of this folder show, when we may read it."""
    try:
        return "" if settings.nats.url else (settings.data / "admin.token").read_text().strip()
    except OSError:
        return ""


def asked(
    settings: "Settings", kind: str, verb: str, body: dict[str, Any], *, fresh: bool = False
) -> dict[str, Any]:
    """Ask one verb and give its reply; what is None is left out.  `fresh`: it has to know all there is."""

    @connected
    async def ask(engine: "ExecutionEngine") -> dict[str, Any]:
        more = {"min_seq": await engine.last_seq()} if fresh else {}
        return await engine.request(kind, verb, WITHIN_SECONDS, **body, **more)

    return ask(settings)


def values(words: Sequence[str]) -> dict[str, Any]:
    """Read parameters such as `target=dev` and `count=3`: a value is JSON, or else text."""
    import json

    found: dict[str, Any] = {}
    for text in words:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"--param {text}: write NAME=VALUE")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def exit_code(execution: "Execution") -> int:
    """Say as what a command line that ran this execution ends."""
    match execution.status, execution.reason:
        case "completed", _:
            return execution.exit_code or 0
        case "timed_out", _:
            return TIMED_OUT
        case "cancelled", _:
            return CANCELLED
        case "failed", "spawn_failed":
            errno = (execution.error or {}).get("details", {}).get("errno")
            return NOT_RUNNABLE if errno in ("EACCES", "EPERM", "ENOEXEC") else NOT_FOUND
        case "failed", "command_failed" if execution.signal:
            return 128 + signal_number(execution.signal)
        case "failed", "command_failed":
            return NO_CODE if execution.exit_code is None else execution.exit_code
        case _:
            return NO_CODE


def signal_number(name: str) -> int:
    """Turn `SIGKILL` into 9, and `SIGRTMIN+1` or a bare number into theirs."""
    base, _, plus = name.partition("+")
    if base.removeprefix("SIG").isdecimal():
        return int(base.removeprefix("SIG"))
    return signal.Signals[base].value + int(plus or 0)


def seconds(text: str) -> float:
    """Read a duration: `90`, `1.5s`, `5m`, `2h`, `3d`."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = (text[:-1], text[-1]) if text and text[-1] in units else (text, "s")
    try:
        return float(number) * units[unit]
    except ValueError:
        raise click.BadParameter(f"{text!r} is no duration: write 90, 1.5s, 5m, 2h or 3d") from None


def moment(option: str, text: str | None) -> str | None:
    """Read a time; one without a zone is of ours."""
    from datetime import datetime

    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone().isoformat()
    except ValueError:
        raise click.UsageError(
            f"{option} {text}: write it like 2026-01-31T12:00:00Z or '2026-01-31 12:00'"
        ) from None
