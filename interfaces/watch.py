"""A full screen in a terminal: what goes on, what a person should look at, and what the chosen one writes.

The tables say what is shown, the facts of the log when they should be asked again.
"""

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import DataTable, Footer, RichLog, Static

from events.errors import HindbrainError, Timeout, Unavailable
from interfaces.cli.show import COLOURS
from interfaces.dashboard import pages, words
from interfaces.dashboard.look import Look, Row

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine

GATHER_SECONDS = 0.3
"""The tables are asked no more often than that."""
AGAIN_SECONDS = 1.0
"""After so long it is tried again where nobody answered."""
TAIL = 64 * 1024
"""Bytes of each stream from before it was chosen."""
LINES = 5000
_UNSAFE = re.compile(
    r"\x1b(?!\[[0-9;:]*m)(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])?"
    r"|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]"
)
"""What could steer the terminal: everything but colours."""


def shown(line: str) -> Text:
    """A line of output with its colours and nothing else; what a carriage return took back is left out."""
    kept = line.rstrip("\r").rpartition("\r")[2]
    return Text.from_ansi(_UNSAFE.sub("", kept))


class Watch(App[None]):
    """Everything that goes on, live."""

    TITLE = "Hindbrain"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: 1; padding: 0 1; background: $boost; }
    #head.stale { background: $warning; color: $text; }
    #top { height: 1fr; }
    #executions { width: 1fr; scrollbar-size-horizontal: 0; }
    #findings { width: 38; padding: 0 1; border-left: solid $surface-lighten-2; display: none; }
    #findings.some { display: block; }
    #bottom { height: 1fr; border-top: solid $surface-lighten-2; }
    #name { height: 1; padding: 0 1; color: $text-muted; }
    #output { padding: 0 1; }
    #partial { height: auto; max-height: 1; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "step(1)", "Next", show=False),
        Binding("k,up", "step(-1)", "Previous", show=False),
        Binding("c", "cancel", "Cancel"),
        Binding("r", "retry", "Retry"),
        Binding("end", "end", "To the end", show=False),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, engine: "ExecutionEngine") -> None:
        super().__init__()
        self.engine = engine
        self.rows: dict[str, Row] = {}
        """What the table shows, by id."""
        self.chosen = ""
        """The id of the one whose output is shown."""
        self._asked = ""
        """What was asked to be cancelled, and waits for a second `c`."""
        self._stale = ""
        self._counts = ""
        self._news = asyncio.Event()

    def compose(self) -> ComposeResult:
        """The parts of the screen."""
        yield Static(id="head")
        with Horizontal(id="top"):
            yield DataTable[Text](id="executions", cursor_type="row")
            yield Static(id="findings")
        with Vertical(id="bottom"):
            yield Static(id="name")
            yield RichLog(id="output", max_lines=LINES, wrap=True)
            yield Static(id="partial")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to listen and to look."""
        table = self._table
        for name in ("How", "What", "Progress", "Last output", "Since"):
            table.add_column(name, key=name)
        table.focus()
        self._listen()
        self._follow()

    @property
    def _table(self) -> "DataTable[Text]":
        return cast("DataTable[Text]", self.query_one("#executions"))

    # ---- what goes on ------------------------------------------------------------------------------------

    @work(group="facts")
    async def _listen(self) -> None:
        """Hear of facts; whatever they say, it is time to look again."""
        while True:
            try:
                async with await (await self.engine.client()).facts() as facts:
                    self._news.set()
                    async for _ in facts:
                        self._news.set()
            except (Unavailable, Timeout) as error:
                self._trouble(error)
                await asyncio.sleep(AGAIN_SECONDS)

    @work(group="look")
    async def _follow(self) -> None:
        """Look again whenever there is something new."""
        seq = ""
        while True:
            try:
                look = await Look.open(self.engine, round(time.time() * 1000), min_seq=seq)
                self._show(await pages.overview(look, {}), look.now)
                self._stale = ""
                self._headline()
            except HindbrainError as error:
                self._trouble(error)
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            await self._news.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._news.clear()
            seq = await self._last(seq)

    async def _last(self, before: str) -> str:
        try:
            return str(await self.engine.last_seq())
        except HindbrainError as error:
            self._trouble(error)
            return before

    def _trouble(self, error: HindbrainError) -> None:
        self._stale = self._stale or f"Stale since {time.strftime('%H:%M:%S')}: {error.message}"
        self._headline()

    def _headline(self) -> None:
        head = self.query_one("#head", Static)
        head.set_class(bool(self._stale), "stale")
        head.update(Text(self._stale or f"Hindbrain   {self._counts}"))

    def _show(self, found: dict[str, Any], now: int) -> None:
        self._counts = "   ".join(f"{count:,} {status}" for status, count in sorted(found["counts"].items()))
        rows: list[Row] = [*found["running"], *found["waiting"], *found["ended"]]
        self.rows = {row["id"]: row for row in rows}
        table = self._table
        cells = {row["id"]: _cells(row, now) for row in rows}
        if list(cells) == [key.value for key in table.rows]:
            for key, line in cells.items():
                for column, cell in zip(list(table.columns), line, strict=True):
                    table.update_cell(key, column, cell)
        else:
            table.clear()
            for key, line in cells.items():
                table.add_row(*line, key=key)
            if self.chosen in cells:
                table.move_cursor(row=table.get_row_index(self.chosen), animate=False)
        findings = self.query_one("#findings", Static)
        findings.set_class(bool(found["findings"]), "some")
        text = Text("To look at\n\n", "bold")
        for row in found["findings"]:
            text.append(f"{row['type']} ", "yellow").append(f"{words.plain(row['text'], 200)}\n\n", "default")
        findings.update(text)

    # ---- the chosen one ----------------------------------------------------------------------------------

    def on_data_table_row_highlighted(self) -> None:
        """Show what the chosen one writes; the table may have been filled anew since it was chosen."""
        table = self._table
        if not table.row_count:
            return
        chosen = str(table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value)
        if chosen and chosen != self.chosen and chosen in self.rows:
            self.chosen, self._asked = chosen, ""
            self._write(chosen)

    @work(group="output", exclusive=True)
    async def _write(self, chosen: str) -> None:
        """Follow the output of one execution until another one is chosen."""
        output, partial = self.query_one("#output", RichLog), self.query_one("#partial", Static)
        row = self.rows[chosen]
        self.query_one("#name", Static).update(Text(f"{chosen}  {words.plain(row['command'], 300)}"))
        output.clear()
        partial.update("")
        offsets = {name: max(0, (row[f"{name}_bytes"] or 0) - TAIL) for name in ("stdout", "stderr")}
        rest = dict.fromkeys(offsets, "")
        try:
            async for chunk in self.engine.output(chosen, offsets):
                *lines, rest[chunk.stream] = (rest[chunk.stream] + chunk.text).split("\n")
                for line in lines:
                    output.write(shown(line))
                partial.update(shown(rest["stdout"] or rest["stderr"]))
        except HindbrainError as error:
            output.write(Text(error.message, "red"))

    def action_step(self, by: int) -> None:
        """Choose the next one, or the one before."""
        table = self._table
        table.move_cursor(row=max(0, min(table.row_count - 1, table.cursor_row + by)))

    def action_end(self) -> None:
        """Go to the end of the output, and follow it again."""
        self.query_one("#output", RichLog).scroll_end(animate=False)

    def action_cancel(self) -> None:
        """Stop the chosen one, once that was said twice."""
        row = self.rows.get(self.chosen)
        if row is None or row["status"] in pages.OVER:
            self.notify("It is over already.")
        elif self._asked != self.chosen:
            self._asked = self.chosen
            self.notify(f"Press c again to cancel {words.short(self.chosen)}.")
        else:
            self._asked = ""
            self._do("cancel", self.chosen)

    def action_retry(self) -> None:
        """Run the chosen one again."""
        row = self.rows.get(self.chosen)
        if row is None or row["status"] not in pages.OVER:
            self.notify("It is not over yet.")
        else:
            self._do("retry", self.chosen)

    @work(group="do")
    async def _do(self, verb: str, execution: str) -> None:
        try:
            which: dict[str, Any] = {"execution_id": execution}
            reply = await self.engine.request("execution", verb, **which)
        except HindbrainError as error:
            self.notify(words.plain(error.message), severity="error", markup=False)
        else:
            name = words.short(reply["execution_id"])
            self.notify(f"{name} was asked to stop." if verb == "cancel" else f"It runs again as {name}.")


def _cells(row: Row, now: int) -> list[Text]:
    done = words.fraction(row)
    rest = words.left(row["started_at"], done, now) if row["status"] == "running" else None
    progress = words.plain(row["progress"], 40) if row["status"] == "running" else ""
    held: Row = row["held"] or {}
    since = row["completed_at"] or row["started_at"] or row["created_at"]
    return [
        Text(row["status"], COLOURS.get(row["status"], "")),
        Text(words.plain(row["description"] or row["command"], 48)),
        Text(f"{progress}{f', {rest} left' if rest else ''}"),
        Text(words.plain(row["last_output"] or held.get("reason"), 60), "dim"),
        Text(words.age(since, now)),
    ]
