"""How things look on a terminal: tables, colours and a progress bar; plain when nobody looks."""

import contextlib
import os
import shutil
import sys
import unicodedata
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from interfaces.live import Chunk

COLOURS = {
    "completed": "green",
    "running": "cyan",
    "queued": "yellow",
    "scheduled": "yellow",
    "failed": "red",
    "timed_out": "red",
    "cancelled": "magenta",
    "ok": "green",
    "bad": "red",
}


def coloured() -> bool:
    """Say whether standard output wants colours (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def dump(value: Any) -> None:
    """Print one value as JSON on one line."""
    import msgspec

    click.echo(msgspec.json.encode(value))


def chunk(piece: "Chunk", as_json: bool) -> None:
    """Write a piece of output where it belongs, unchanged; or as JSON on one line."""
    if as_json:
        dump({"stream": piece.stream, "offset": piece.offset, "time": piece.time, "text": piece.text})
        return
    out = sys.stderr.buffer if piece.stream == "stderr" else sys.stdout.buffer
    out.write(piece.data)
    out.flush()


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table; the last column gives way when the terminal is narrow."""
    cells = [[cell(value) for value in row] for row in rows]
    widths = [max([_width(name), *(_width(row[at]) for row in cells)]) for at, name in enumerate(head)]
    if sys.stdout.isatty() and widths:
        room = shutil.get_terminal_size().columns - sum(widths[:-1]) - 2 * (len(widths) - 1)
        widths[-1] = max(10, min(widths[-1], room))
    click.echo(_line(head, widths, bold=True))
    for row in cells:
        click.echo(_line(row, widths))


def pairs(values: Sequence[tuple[str, Any]]) -> None:
    """Print names and values below each other."""
    width = max((len(name) for name, _ in values), default=0)
    for name, value in values:
        text = cell(value)
        click.echo(f"{_style(name.ljust(width), bold=True)}  {_style(text, fg=COLOURS.get(text))}")


def length(milliseconds: float | None) -> str | None:
    """A duration in words, or nothing."""
    from events.estimate import duration

    return None if milliseconds is None else duration(milliseconds)


def rehearsal(reply: dict[str, Any]) -> None:
    """Print what would happen, and whether it could be taken back."""
    for line in reply["rehearsed"]:
        click.echo(f"{line['id']}  {cell(line['text'])}")
    click.echo(f"{len(reply['rehearsed'])} in all, and nothing was changed. {reply.get('note', '')}".rstrip())


def many(reply: dict[str, Any], done: str, as_json: bool) -> None:
    """Print what became of many: what was done, what was refused, or what would happen."""
    if as_json:
        dump(reply)
    elif "rehearsed" in reply:
        rehearsal(reply)
    else:
        for each in reply[done]:
            again = None if isinstance(each, str) else f"{each['retry_of']}  again as {each['execution_id']}"
            click.echo(again or each)
        for each in reply["refused"]:
            click.echo(f"{each['execution_id']}  refused: {each['error']['message']}", err=True)
        click.echo(f"{len(reply[done])} {done}, {len(reply['refused'])} refused.")


def cell(value: Any) -> str:
    """One value on one line; control characters are shown, not sent to the terminal."""
    match value:
        case None:
            return "-"
        case float():
            return f"{value:g}"
        case dict() | list():
            import msgspec

            value = msgspec.json.encode(value).decode()
        case _:
            value = str(value)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)


def _line(row: Sequence[str], widths: Sequence[int], bold: bool = False) -> str:
    parts: list[str] = []
    for text, width in zip(row, widths, strict=True):
        short = text if _width(text) <= width else _cut(text, width - 1) + "…"
        gap = " " * (width - _width(short))
        parts.append(_style(short, bold=bold or None, fg=COLOURS.get(text)) + gap)
    return "  ".join(parts).rstrip()


def _cut(text: str, width: int) -> str:
    taken = 0
    for at, letter in enumerate(text):
        taken += _width(letter)
        if taken > width:
            return text[:at]
    return text


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def _style(text: str, **how: Any) -> str:
    return click.style(text, **how) if coloured() and any(how.values()) else text


class Bar:
    """A progress bar on standard error; it appears with the first number."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._progress: Progress | None = None
        self._task: TaskID

    def update(self, step: dict[str, Any]) -> None:
        """Show how far it is."""
        fraction, current = step.get("fraction"), step.get("current")
        if fraction is None and current is None:
            return
        shown = self._progress or self._begin()
        text = step.get("message") or step.get("text") or ""
        done = fraction * 100 if fraction is not None else 0
        total = 100 if fraction is not None else None
        shown.update(self._task, completed=done, total=total, description=cell(text))

    def write(self, stream: Any, data: bytes) -> None:
        """Write output of the command above the bar."""
        if self._progress is not None:
            # Its own line is taken away first and drawn again by the next refresh.
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
        stream.write(data)
        stream.flush()

    def close(self) -> None:
        """Take the bar away."""
        self._stack.close()
        self._progress = None

    def _begin(self) -> "Progress":
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
        shown = Progress(
            *columns,
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._stack.enter_context(shown)
        self._task = shown.add_task("", total=100)
        self._progress = shown
        return shown


class Lines:
    """What a bar says, as lines on standard error."""

    def __init__(self) -> None:
        self._said = ""

    def update(self, step: dict[str, Any]) -> None:
        """Say what is new."""
        text = cell(step.get("message") or "")
        if text != self._said:
            self._said = text
            click.echo(text, err=True)

    def write(self, stream: Any, data: bytes) -> None:
        """Write output."""
        stream.write(data)
        stream.flush()


@contextlib.contextmanager
def bar(wanted: bool, lines: bool = False) -> Generator[Bar | Lines | None]:
    """A bar when standard error is a terminal and somebody wants one; else lines, or nothing."""
    if not wanted or not sys.stderr.isatty():
        yield Lines() if wanted and lines else None
        return
    made = Bar()
    try:
        yield made
    finally:
        made.close()
