"""A plugin of everything that a handler should not do, and of a few things that it should."""

import asyncio
import os
import time
from typing import Any

import msgspec

from actors.plugin import Context, Plugin, Retries

plugin = Plugin("wild", version="1", workers=3, memory_bytes=400 * 1024 * 1024)


class Mark(msgspec.Struct):
    """Where to leave a mark, and how long to take."""

    folder: str
    name: str
    seconds: float = 0.0


@plugin.job(retries=Retries(max=20, backoff_ms=50))
def mark(given: Mark, context: Context) -> int:
    """Leave a mark for each attempt that came to its end."""
    time.sleep(given.seconds)
    with open(f"{given.folder}/{given.name}.{context.attempt}", "x"):  # noqa: PTH123  the mode is the point
        return context.attempt


@plugin.job()
def block(data: dict[str, Any]) -> None:
    """Never come back."""
    while True:
        time.sleep(0.05)


@plugin.job()
def burn(data: dict[str, Any]) -> None:
    """Use a processor for ever."""
    while True:
        pass


@plugin.job()
def leak(data: dict[str, Any]) -> None:
    """Use more and more memory."""
    kept: list[bytearray] = []
    while True:
        kept.append(bytearray(4 * 1024 * 1024))
        time.sleep(0.01)


@plugin.job()
def leave(data: dict[str, Any]) -> None:
    """Try to end the process."""
    raise SystemExit(3)


@plugin.job()
def odd(data: dict[str, Any]) -> Any:
    """Return what is no plain data."""
    return object()


@plugin.job()
def chatter(data: dict[str, Any]) -> int:
    """Print a megabyte."""
    line = "x" * 1023
    for _ in range(1024):
        print(line)  # noqa: T201  that is what it is for
    return 1024


@plugin.job()
def fork(data: dict[str, Any]) -> str:
    """Come back twice."""
    pid = os.fork()
    return "child" if pid == 0 else "parent"


@plugin.job()
async def doze(data: dict[str, Any], context: Context) -> str:
    """Wait without holding anything up."""
    await asyncio.sleep(data.get("seconds", 0.1))
    return "rested"


@plugin.job(retries=Retries(max=3, backoff_ms=20))
def parts(given: Mark, context: Context) -> list[int]:
    """Do two parts once each, and fall over between them on the first attempt."""

    def part(number: int) -> int:
        with open(f"{given.folder}/part{number}", "x"):  # noqa: PTH123  the mode is the point
            return number

    first = context.once("first", part, 1)
    if context.attempt == 1:
        raise RuntimeError("between the parts")
    return [first, context.once("second", part, 2)]


@plugin.job(repeatable=True)
def quick(data: dict[str, Any]) -> dict[str, Any]:
    """Give it back."""
    return data


class Ping(msgspec.Struct):
    """A message from another module."""

    text: str


@plugin.on(Ping)
def on_ping(ping: Ping) -> str:
    """Answer."""
    return f"pong {ping.text}"


@plugin.job()
def tell(data: dict[str, Any], context: Context) -> str:
    """Send a message to a module, and wait for what becomes of it."""
    sent = context.send("wild", Ping("hello")).result(10)
    return str(context.wait_for_job(sent, 10).result(20)["status"])


@plugin.job()
def sabotage(data: dict[str, Any]) -> int:
    """Make the other worker threads of this host raise, wherever they are."""
    import ctypes
    import threading

    others = [each.ident for each in threading.enumerate() if "/" in each.name]
    for ident in others:
        if ident != threading.get_ident():
            error = ctypes.py_object(RuntimeError)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident or 0), error)
    return len(others)
