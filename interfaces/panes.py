"""The lists of the full screen in a terminal: what stands in each, and what is said of the chosen one."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from rich.text import Text

from interfaces.cli.show import COLOURS
from interfaces.dashboard import pages, words
from interfaces.dashboard.look import Look, Row


class Pane(NamedTuple):
    """A list: of which kind its rows are, what it asks the tables, and how it shows what they answer."""

    kind: str
    name: str
    columns: tuple[str, ...]
    show: Callable[[Look, pages.Asked], Awaitable[dict[str, Any]]] | None
    """The page of the dashboard whose `found` it lists; None for executions, which every look brings."""
    cells: Callable[[Row, int], list[Text]]
    titles: tuple[str, ...]
    """What a row is called: the first of these that says anything."""
    tell: Callable[[Look, Row], Awaitable[Text]] | None
    """What is said of the chosen row; None for executions, whose output is shown."""
    stays: str = ""
    """Why its rows cannot be paused, if they cannot."""

    def title(self, row: Row) -> str:
        """What a row is called."""
        return _first(row, self.titles)


TITLES = {"plan": ("name", "description", "id"), "playbook": ("description", "playbook_code", "id")}


def _first(row: Row, names: tuple[str, ...]) -> str:
    return next((str(row[name]) for name in names if row[name]), "")


def _status(word: str | None) -> Text:
    return Text((word or words.NONE).replace("_", " "), COLOURS.get(word or "", ""))


def _error(row: Row) -> str:
    error: Row = row["error"] or {}
    return error.get("message") or ""


def _execution(row: Row, now: int) -> list[Text]:
    done = words.fraction(row)
    rest = words.left(row["started_at"], done, now) if row["status"] == "running" else None
    progress = words.plain(row["progress"], 40) if row["status"] == "running" else ""
    held: Row = row["held"] or {}
    since = row["completed_at"] or row["started_at"] or row["created_at"]
    return [
        _status(row["status"]),
        Text(words.plain(row["description"] or row["command"], 48)),
        Text(f"{progress}{f', {rest} left' if rest else ''}"),
        Text(words.plain(row["last_output"] or held.get("reason"), 60), "dim"),
        Text(words.age(since, now)),
    ]


def _plan(row: Row, now: int) -> list[Text]:
    over = row["completed"] + row["failed"] + row["skipped"]
    failed = f", {row['failed']:,} failed" if row["failed"] else ""
    return [
        _status(row["status"]),
        Text(words.plain(_first(row, TITLES["plan"]), 48)),
        Text(f"{over:,}/{words.count(row['total'])}{failed}"),
        Text(row["strategy"] or "", "dim"),
        Text(words.age(row["completed_at"] or row["created_at"], now)),
    ]


async def _plan_steps(look: Look, row: Row) -> Text:
    found = await pages.plan(look, {"id": row["id"]})
    text = Text()
    for each in found["steps"]:
        text.append(_line(each["status"], each["step"], _error(each) or each["reason"]))
    for each in found["going"]:
        text.append(_line(each["status"], each["description"] or each["command"], each["last_output"]))
    return text


def _playbook(row: Row, now: int) -> list[Text]:
    return [
        _status(row["status"]),
        Text(words.plain(_first(row, TITLES["playbook"]), 48)),
        Text(f"{row['completed'] or 0:,}/{words.count(row['total'])}"),
        Text(words.plain(row["step"] or row["phase"], 60), "dim"),
        Text(words.age(row["completed_at"] or row["created_at"], now)),
    ]


async def _playbook_steps(look: Look, row: Row) -> Text:
    found = await pages.playbook(look, {"id": row["id"]})
    text = Text()
    for each in found["questions"]:
        text.append("It asks: ", "yellow").append(f"{words.plain(each['message'])}\n")
    for each in found["phases"]:
        text.append(_line(each["status"], each["name"] or each["phase_id"], each["summary"]))
    for each in found["steps"]:
        text.append(_line(each["status"], f"  {each['step']}", _error(each)))
    return text


def _module(row: Row, now: int) -> list[Text]:
    waits = f", {row['waiting']:,} waiting" if row["waiting"] else ""
    return [
        _status(row["state"] or "declared"),
        Text(row["id"]),
        Text(f"{row['active']:,} at work{waits}"),
        Text(words.plain(row["reason"] or row["category"], 60), "dim"),
        Text(words.age(row["started_at"], now)),
    ]


async def _module_decisions(look: Look, row: Row) -> Text:
    found = await pages.decisions(look, {"module": row["id"]})
    text = Text("" if found["found"] else "Nothing was decided about it yet.")
    for each in found["found"]:
        said = words.plain(each["context"]).replace("\n", " ")
        text.append(f"{words.clock(each['time'], look.time)}  ", "dim")
        text.append(f"{each['type'].replace('_', ' ')}  {said}\n")
    return text


def _decision(row: Row, now: int) -> list[Text]:
    return [
        Text(row["type"].replace("_", " ")),
        Text(row["module"] or ""),
        Text(words.plain(row["context"], 90).replace("\n", " "), "dim"),
        Text(words.age(row["time"], now)),
    ]


async def _decision_data(look: Look, row: Row) -> Text:  # noqa: ARG001  the shape of what all of them tell
    return Text(f"{words.plain(row['context'], 2000)}\n\n{words.plain(words.pretty(row['data']), 20_000)}")


def _line(status: str, name: str | None, why: str | None) -> Text:
    text = _status(status)
    text.pad_right(max(1, 14 - len(text)))
    said = words.plain(why).replace("\n", " ")
    return text.append(words.plain(name, 80), "default").append(f"  {said}\n", "dim")


PANES = (
    Pane(
        "execution",
        "Executions",
        ("How", "What", "Progress", "Last output", "Since"),
        None,
        _execution,
        ("command",),
        None,
        "An execution cannot be paused, only cancelled (c); plans (2), playbooks (3) and modules (4) can be.",
    ),
    Pane(
        "plan",
        "Plans",
        ("How", "What", "Done", "Kind", "Since"),
        pages.plans,
        _plan,
        TITLES["plan"],
        _plan_steps,
    ),
    Pane(
        "playbook",
        "Playbooks",
        ("How", "What", "Done", "At", "Since"),
        pages.playbooks,
        _playbook,
        TITLES["playbook"],
        _playbook_steps,
    ),
    Pane(
        "module",
        "Modules",
        ("How", "What", "Work", "Why", "Since"),
        pages.modules,
        _module,
        ("id",),
        _module_decisions,
    ),
    Pane(
        "decision",
        "Decisions",
        ("How", "About", "Why", "Since"),
        pages.decisions,
        _decision,
        ("context",),
        _decision_data,
        "A decision cannot be paused; the module that it is about can be (4).",
    ),
)
