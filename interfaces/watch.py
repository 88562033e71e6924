"""A full screen in a terminal: what goes on, what a person should look at, and what the chosen one writes.

The tables say what is shown, the facts of the log when they should be asked again.  It is long because one
screen is one thing: its parts, its keys, and what it says.
"""

import asyncio
import contextlib
import re
import time
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import DataTable, Footer, RichLog, Static
from textual.worker import Worker

from events.errors import HindbrainError, Timeout, Unavailable
from interfaces.dashboard import acts, pages, words
from interfaces.dashboard.look import Look, Row
from interfaces.panes import PANES, Pane

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


DONE = {
    "cancel": "{} was asked to stop.",
    "retry": "It runs again as {}.",
    "rerun": "{} runs its failed steps again.",
    "pause": "{} is paused: what runs goes on, and nothing more is started.",
    "resume": "{} goes on.",
}
"""What is said when a verb was done."""
AGAIN = {"execution": "retry", "plan": "rerun"}
"""How what is over is done again."""


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
    #panes { height: 1; padding: 0 1; }
    #top { height: 1fr; }
    #rows { width: 1fr; scrollbar-size-horizontal: 0; }
    #findings { width: 38; padding: 0 1; border-left: solid $surface-lighten-2; display: none; }
    #findings.some { display: block; }
    #bottom { height: 1fr; border-top: solid $surface-lighten-2; }
    #name { height: 1; padding: 0 1; color: $text-muted; }
    #output { padding: 0 1; }
    #partial { height: auto; max-height: 1; padding: 0 1; }
    #said { height: auto; max-height: 2; padding: 0 1; color: $text-accent; display: none; }
    #said.some { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "step(1)", "Next", show=False),
        Binding("k,up", "step(-1)", "Previous", show=False),
        Binding("tab", "turn(1)", "Next list", priority=True),
        Binding("shift+tab", "turn(-1)", "List before", show=False, priority=True),
        *(Binding(str(n), f"pane({n - 1})", each.name, show=False) for n, each in enumerate(PANES, 1)),
        Binding("p", "pause", "Pause/resume"),
        Binding("c", "cancel", "Cancel"),
        Binding("r", "retry", "Retry"),
        Binding("end", "end", "To the end", show=False),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, engine: "ExecutionEngine") -> None:
        super().__init__()
        self.engine = engine
        self.pane: Pane = PANES[0]
        """The list that is shown."""
        self.rows: dict[str, Row] = {}
        """What the table shows, by id."""
        self.chosen = ""
        """The id of the one that more is said about."""
        self._left: dict[str, str] = {}
        """What was chosen in the other lists, by their kinds."""
        self._asked = ""
        """What was asked to be cancelled, and waits for a second `c`."""
        self._told = Text()
        self._writing: Worker[None] | None = None
        self._stale = ""
        self._counts = ""
        self._news = asyncio.Event()
        self._turned = asyncio.Event()
        """Something else was chosen: news need not gather first."""

    def compose(self) -> ComposeResult:
        """The parts of the screen."""
        yield Static(id="head")
        yield Static(id="panes")
        with Horizontal(id="top"):
            yield DataTable[Text](id="rows", cursor_type="row")
            yield Static(id="findings")
        with Vertical(id="bottom"):
            yield Static(id="name")
            yield RichLog(id="output", max_lines=LINES, wrap=True)
            yield Static(id="partial")
        yield Static(id="said")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to listen and to look."""
        self._open(PANES[0])
        self._table.focus()
        self._listen()
        self._follow()

    @property
    def _table(self) -> "DataTable[Text]":
        return cast("DataTable[Text]", self.query_one("#rows"))

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
                await self._look(seq)
                self._stale = ""
                self._headline()
            except HindbrainError as error:
                self._trouble(error)
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            await self._news.wait()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._turned.wait(), GATHER_SECONDS)
            self._news.clear()
            self._turned.clear()
            seq = await self._last(seq)

    async def _look(self, seq: str) -> None:
        look = await Look.open(self.engine, round(time.time() * 1000), min_seq=seq)
        found = await pages.overview(look, {})
        pane = self.pane
        if pane.show is None:
            rows = [*found["running"], *found["waiting"], *found["ended"]]
        else:
            rows = (await pane.show(look, {}))["found"]
        self._show(found)
        if pane is not self.pane:
            return
        self._list(rows, look.now)
        if pane.tell is not None and (row := self.rows.get(self.chosen)) is not None:
            text = await pane.tell(look, row)
            if row["id"] == self.chosen:
                self._tell(text)

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

    def _show(self, found: dict[str, Any]) -> None:
        self._counts = "   ".join(f"{count:,} {status}" for status, count in sorted(found["counts"].items()))
        findings = self.query_one("#findings", Static)
        findings.set_class(bool(found["findings"]), "some")
        text = Text("To look at\n\n", "bold")
        for row in found["findings"]:
            text.append(f"{row['type']} ", "yellow").append(f"{words.plain(row['text'], 200)}\n\n", "default")
        findings.update(text)

    def _list(self, rows: list[Row], now: int) -> None:
        self.rows = {row["id"]: row for row in rows}
        table = self._table
        cells = {row["id"]: self.pane.cells(row, now) for row in rows}
        if list(cells) == [key.value for key in table.rows]:
            for key, line in cells.items():
                for column, cell in zip(list(table.columns), line, strict=True):
                    table.update_cell(key, column, cell)
        else:
            table.clear()
            for key, line in cells.items():
                table.add_row(*line, key=key)
            chosen = self.chosen or self._left.get(self.pane.kind, "")
            if chosen in cells:
                table.move_cursor(row=table.get_row_index(chosen), animate=False)

    # ---- which list --------------------------------------------------------------------------------------

    def _open(self, pane: Pane) -> None:
        """Show a list; what was chosen in it is chosen again."""
        self._left[self.pane.kind] = self.chosen
        self.pane, self.rows, self.chosen, self._asked = pane, {}, "", ""
        table = self._table
        table.clear(columns=True)
        for name in pane.columns:
            table.add_column(name, key=name)
        names = Text()
        for number, each in enumerate(PANES, 1):
            names.append(f" {number} {each.name} ", "reverse" if each is pane else "dim").append(" ")
        self.query_one("#panes", Static).update(names)
        self._blank("")
        self._say("")
        self._again()

    def action_pane(self, number: int) -> None:
        """Show one of the lists."""
        if PANES[number] is not self.pane:
            self._open(PANES[number])

    def action_turn(self, by: int) -> None:
        """Show the next list, or the one before."""
        self.action_pane((PANES.index(self.pane) + by) % len(PANES))

    # ---- the chosen one ----------------------------------------------------------------------------------

    def on_data_table_row_highlighted(self) -> None:
        """Say more of the chosen one; the table may have been filled anew since it was chosen."""
        table = self._table
        if not table.row_count:
            return
        chosen = str(table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value)
        if chosen and chosen != self.chosen and chosen in self.rows:
            self.chosen, self._asked = chosen, ""
            self._say("")
            title = words.plain(self.pane.title(self.rows[chosen]), 300)
            self._blank(chosen if title == chosen else f"{chosen}  {title}")
            if self.pane.tell is None:
                self._writing = self._write(chosen)
            else:
                self._again()

    def _again(self) -> None:
        self._news.set()
        self._turned.set()

    def _blank(self, name: str) -> None:
        """Begin to say something else."""
        if self._writing is not None:
            self._writing.cancel()
        self._told = Text()
        self.query_one("#name", Static).update(Text(name))
        self.query_one("#output", RichLog).clear()
        self.query_one("#partial", Static).update("")

    def _tell(self, text: Text) -> None:
        """Say what there is to say of a row that has no output."""
        text.rstrip()
        if text != self._told:
            self._told = text
            output = self.query_one("#output", RichLog)
            output.clear()
            output.write(text, scroll_end=False)

    @work(group="output", exclusive=True)
    async def _write(self, chosen: str) -> None:
        """Follow the output of one execution until another one is chosen."""
        output, partial = self.query_one("#output", RichLog), self.query_one("#partial", Static)
        row = self.rows[chosen]
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

    # ---- what can be done --------------------------------------------------------------------------------

    def action_pause(self) -> None:
        """Pause the chosen one; what is paused goes on."""
        row = self.rows.get(self.chosen)
        if row is None:
            self._say("Nothing is chosen.")
        elif self.pane.stays:
            self._say(self.pane.stays)
        else:
            paused = "paused" in (row.get("status"), row.get("state"))
            self._do("resume" if paused else "pause", row)

    def action_cancel(self) -> None:
        """Stop the chosen one, once that was said twice."""
        row = self.rows.get(self.chosen)
        if row is None:
            self._say("Nothing is chosen.")
        elif (self.pane.kind, "cancel") not in acts.ACTS:
            self._say(f"A {self.pane.kind} cannot be cancelled.")
        elif row["status"] in pages.OVER:
            self._say("It is over already.")
        elif self._asked != self.chosen:
            self._asked = self.chosen
            self._say(f"Press c again to cancel {words.short(self.chosen)}.")
        else:
            self._asked = ""
            self._do("cancel", row)

    def action_retry(self) -> None:
        """Run the chosen one again; of a plan, what failed in it."""
        row = self.rows.get(self.chosen)
        if row is None:
            self._say("Nothing is chosen.")
        elif (verb := AGAIN.get(self.pane.kind)) is None:
            self._say(f"A {self.pane.kind} cannot be retried; executions (1) and plans (2) can be.")
        elif row["status"] not in pages.OVER:
            self._say("It is not over yet.")
        else:
            self._do(verb, row)

    @work(group="do")
    async def _do(self, verb: str, row: Row) -> None:
        kind, name = self.pane.kind, words.plain(self.pane.title(row), 60)
        try:
            reply = await self.engine.call(kind, verb, {acts.FIELDS[kind]: row["id"]})
        except HindbrainError as error:
            self._say(words.plain(error.message), "bold red")
        else:
            self._say(DONE[verb].format(words.short(reply["execution_id"]) if kind == "execution" else name))

    def _say(self, text: str, style: str = "") -> None:
        """Say what was done, or why not; it stands there until something else is chosen."""
        said = self.query_one("#said", Static)
        said.set_class(bool(text), "some")
        said.update(Text(text, style))
