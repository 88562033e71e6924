"""Ctrl-C while something is watched: the first one asks it to stop, the second one leaves it alone."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import click

REASON = "interrupted at the terminal"


@contextlib.contextmanager
def interrupts(
    stop: Callable[[], Coroutine[Any, Any, Any]], watching: "asyncio.Task[Any]"
) -> Generator[None]:
    """Call `stop` at the first Ctrl-C, and end the watching at the second."""
    loop = asyncio.get_running_loop()
    asked: list[asyncio.Task[Any]] = []

    def interrupted() -> None:
        if asked:
            watching.cancel()
            return
        click.echo("\nAsked it to stop; Ctrl-C again leaves it alone.", err=True)
        asked.append(loop.create_task(stop()))

    loop.add_signal_handler(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
