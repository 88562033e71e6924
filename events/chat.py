"""What a chat shows of what goes on: one message about each thing, which changes until that is over.

A chat is told by the progress subjects alone.  It hears more than people want to read, and networks allow few
messages, so a message changes at most once a second and what came in between is left out; but how a thing
ended is always said.  Where messages cannot be changed, only the end is said, and what is asked.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from events.estimate import number
from events.message import Message

SPACING_MS = 1000
"""So long a message stays as it is, counted from when the network had it."""
KEPT = 200
"""Of so many things that are over the message is remembered, in case they begin again."""
TEXT_MOST = 1500
"""Characters of one message: the least that a network takes is 2,000."""
NOUNS = {"execution": "Command", "plan": "Plan", "playbook": "Playbook"}
BATCH = "Batch operation"
DONE, PARTLY, FAILED, CANCELLED, ASKS = "✅", "⚠️", "❌", "🚫", "❓"
QUESTION = "question"
ANSWER = "\nTo answer: "
WAITING = ("queued", "scheduled", "held")


def begins(said: Mapping[str, Any]) -> str:
    """Say that something starts: `Starting batch operation...`."""
    if "batchId" in said:
        return f"Starting {BATCH.lower()}..."
    return f"Starting {NOUNS[said['kind']].lower()} {said['id']}..."


def tells(said: Mapping[str, Any]) -> str:
    """Say how far something is, in the words of a chat; `said` is what a progress subject tells."""
    if said["final"]:
        return _clipped(_ends(said))
    if said["status"] in WAITING:
        return begins(said)
    title = "" if "batchId" in said else f"{NOUNS[said['kind']]} {said['id']}\n"
    current = said.get("message") or said.get("last_output") or "Processing..."
    if said["status"] in ("paused", "waiting_input"):
        current = f"{current} ({said['status'].replace('_', ' ')})"
    return _clipped(f"{title}Progress: {_count(said)}\nCurrent: {current}")


def asks(entity: str, question: Mapping[str, Any]) -> str:
    """Say what a playbook asks, and how to answer."""
    return f"{ASKS} {_clipped(question['message'])}{ANSWER}!answer {entity} VALUE"


def _count(said: Mapping[str, Any]) -> str:
    if said.get("current") is None:
        return str(said.get("text") or said["status"])
    done, total = said["current"], said.get("total")
    return f"{done:g}" if total is None else f"{done:g}/{total:g}"


def _ends(said: Mapping[str, Any]) -> str:
    status = said["status"]
    what = BATCH if "batchId" in said else f"{NOUNS[said['kind']]} {said['id']}"
    words = {"timed_out": "timed out"}.get(status, status)
    mark = {"completed": DONE, "cancelled": CANCELLED}.get(status, FAILED)
    if said["kind"] == "execution":
        return f"{mark} {what} {words}\n{said.get('last_output') or ''}".rstrip()
    done, total = said.get("current") or 0, said.get("total")
    unit = "operations" if "batchId" in said else "steps"
    if status != "completed":
        return f"{mark} {what} {words}: {done} of {total if total is not None else '?'} {unit}"
    failed = said.get("failedOperations") or 0
    well = done - failed
    counted = f"{well} operations" if "batchId" in said else number(well, unit)
    return (
        f"{PARTLY} {what} {words}: {counted}, {failed} failed"
        if failed
        else f"{mark} {what} {words}: {counted}"
    )


def _clipped(text: str) -> str:
    return text if len(text) <= TEXT_MOST else text[: TEXT_MOST - 1] + "…"


class Line(Message):
    """One message of a chat: what stands there, and what should."""

    kind: str
    first: str
    """What it says before anything else."""
    wanted: str
    shown: str = ""
    message: str = ""
    """What the network calls it, once it is there."""
    sent_ms: int = 0
    """When the network had what is shown, in milliseconds since 1970; 0 is never."""
    seq: int = 0
    final: bool = False
    question: str | None = None
    """The key of what is asked now, which is a line of its own."""

    @property
    def text(self) -> str:
        """What is to be sent next."""
        return self.wanted if self.shown or self.final else self.first

    @property
    def urgent(self) -> bool:
        """Whether people wait for it."""
        return self.final or self.kind == QUESTION


class Board:
    """All messages of one chat.  It says what is to be sent when; whoever sends tells it that it was."""

    def __init__(self, kinds: Iterable[str], edits: bool, lines: Mapping[str, Line] | None = None) -> None:
        self._kinds = frozenset(kinds)
        self._edits = edits
        self.lines: dict[str, Line] = dict(lines or {})

    @property
    def open(self) -> list[str]:
        """Everything that is not over yet."""
        return [key for key, line in self.lines.items() if not line.final and line.kind != QUESTION]

    def follow(self, entity: str, kind: str) -> None:
        """Show this one, although things of its kind are not shown by themselves."""
        first = begins({"id": entity, "kind": kind})
        self.lines.setdefault(entity, Line(kind=kind, first=first, wanted=first))

    def hear(self, said: Mapping[str, Any]) -> None:
        """Take what a progress subject tells; what is a part of something else is not shown."""
        key, kind = said["id"], said["kind"]
        line = self.lines.get(key)
        if line is None:
            if kind not in self._kinds or said.get("parent"):
                return
            line = Line(kind=kind, first=begins(said), wanted="")
        elif said["seq"] < line.seq or (line.final and said["seq"] == line.seq):
            return
        line = replace(line, wanted=tells(said), seq=said["seq"], final=said["final"])
        self.lines[key] = self._asking(key, line, said.get("asked"))

    def due(self, now_ms: int) -> str | None:
        """Say which message is to be sent now: what is asked and what is over before the rest."""
        ready = [key for key, line in self._waiting() if not _pause(line, now_ms)]
        return min(ready, key=lambda key: (not self.lines[key].urgent, self.lines[key].sent_ms), default=None)

    def pause_ms(self, now_ms: int) -> int | None:
        """After how long something is due, None when nothing is going to be."""
        return min((_pause(line, now_ms) for _, line in self._waiting()), default=None)

    def sent(self, key: str, text: str, message: str, now_ms: int) -> None:
        """The network has this text now, and calls the message so."""
        line = self.lines.get(key)
        if line is not None:
            self.lines[key] = replace(line, shown=text, message=message, sent_ms=now_ms)
            if line.final:
                self._forget()

    def drop(self, key: str) -> None:
        """Say no more about this one, which nobody knows any more."""
        self.lines.pop(key, None)

    def about(self, message: str) -> str | None:
        """Tell which entity a message of the network is about."""
        found = next((key for key, line in self.lines.items() if line.message == message), None)
        return None if found is None else found.partition("?")[0]

    def _asking(self, key: str, line: Line, question: Mapping[str, Any] | None) -> Line:
        asked = None if question is None or line.final else f"{key}?{question['asked_at']}"
        old = self.lines.get(line.question or "")
        if old is not None and line.question is not None and line.question != asked:
            text = old.first.rpartition(ANSWER)[0]
            self.lines[line.question] = replace(old, wanted=f"{text}\nNo longer asked", final=True)
        if asked is not None and question is not None and asked not in self.lines:
            text = asks(key, question)
            self.lines[asked] = Line(kind=QUESTION, first=text, wanted=text)
        return replace(line, question=asked)

    def _waiting(self) -> Iterator[tuple[str, Line]]:
        return ((key, line) for key, line in self.lines.items() if self._wants(line))

    def _wants(self, line: Line) -> bool:
        if line.kind == QUESTION and not line.shown:
            return not line.final
        return line.text != line.shown and (self._edits or (line.final and not line.shown))

    def _forget(self) -> None:
        over = [key for key, line in self.lines.items() if line.final and not self._wants(line)]
        for key in over[: max(0, len(over) - KEPT)]:
            del self.lines[key]


def _pause(line: Line, now_ms: int) -> int:
    """How long it has to stay as it is; a clock that was set back holds up nothing."""
    since = now_ms - line.sent_ms
    return SPACING_MS - since if 0 <= since < SPACING_MS else 0
