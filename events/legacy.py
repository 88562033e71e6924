"""Tasks of other systems, as those wrote them down: read as tasks of ours.

A record is an object.  It says what is to be done as `command` (a line for a shell), `argv`, `steps` (lines,
or steps of a playbook), `playbook` or `phases`; how far it is as `status`, in the words of its source; and
what it is called as `title`, `name` or `description`.  All else is kept in `metadata.extra`.
"""

from typing import Any, cast

import msgspec

from events import ir, params
from events.errors import Validation
from events.ir import TaskIR

NAMES = ("title", "name", "subject", "summary")
IDS = ("id", "task_id", "taskId", "uuid", "key")
WORDS = ("status", "state")
READ = (
    *IDS,
    *WORDS,
    *NAMES,
    "description",
    "command",
    "argv",
    "steps",
    "playbook",
    "phases",
    "labels",
    "tags",
)
_TIMES = (("created_at", "createdAt"), ("updated_at", "updatedAt"))


def task(record: dict[str, Any], source: str, workspace: str | None) -> TaskIR:
    """Read one record; `Validation` says what is missing."""
    if "phases" in record and "metadata" in record and "status" in record:
        return _ours(record)
    found = next((str(record[name]) for name in IDS if record.get(name) not in (None, "")), "")
    if not found:
        raise Validation(f"it has no id: give one of {', '.join(IDS)}", field="id")
    word = next((str(record[name]) for name in WORDS if record.get(name)), "pending")
    status = ir.status(word)
    title = next((str(record[name]) for name in NAMES if record.get(name)), "")
    parts = _parts(record)
    over = status in ir.ENDS
    if not parts and not over:
        raise Validation("it does not say what is to be done: give command, argv, steps, playbook or phases")
    phase = {
        "id": "work",
        "name": title,
        "preferred_engine": f"playbook:{_word(title or found)}",
        "status": status if over else "pending",
        "work": {"phases": parts} | _rest(record),
    }
    labels = record.get("labels", record.get("tags", []))
    labels = cast("list[Any]", labels) if isinstance(labels, list) else [labels]
    made = {
        "workspace_id": workspace or "default",
        "status": status if over else "pending",
        "phases": [phase] if parts else [],
        "metadata": {
            "title": title,
            "description": record.get("description"),
            "labels": [str(each) for each in labels],
            "source": source,
            "source_id": found,
            "source_status": word,
            "supports_resume": False,
            "extra": {name: each for name, each in record.items() if name not in READ},
        },
    }
    made |= {name: record.get(name, record.get(other)) for name, other in _TIMES}
    return _made(made)


def _ours(record: dict[str, Any]) -> TaskIR:
    """A task that was written by one of us, to which old rules apply."""
    known = _made({**record, "status": ir.status(str(record["status"]))})
    metadata = msgspec.structs.replace(known.metadata, supports_resume=False)
    return msgspec.structs.replace(known, metadata=metadata)


def _made(fields: dict[str, Any]) -> TaskIR:
    try:
        return msgspec.convert(fields, TaskIR)
    except msgspec.ValidationError as error:
        raise Validation(f"this is no task: {error}") from None


def _parts(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The phases of the playbook that it becomes."""
    if isinstance(book := record.get("playbook"), dict):
        return cast("dict[str, Any]", book).get("phases", [])
    if isinstance(phases := record.get("phases"), list):
        return cast("list[dict[str, Any]]", phases)
    given: Any = record.get("steps")
    if given is None and isinstance(record.get("command"), str):
        given = [record["command"]]
    if given is None and (argv := record.get("argv")):
        program, *args = cast("list[str]", argv)
        given = [{"exec": {"program": program, "args": args}}]
    if not isinstance(given, list) or not given:
        return []
    steps = [_step(each, at) for at, each in enumerate(cast("list[Any]", given), 1)]
    return [{"id": "work", "steps": steps}]


def _step(given: Any, at: int) -> dict[str, Any]:
    if isinstance(given, str):
        # A line of theirs knows nothing of our references.
        return {"name": f"step-{at}", "shell": {"command": params.escaped(given)}}
    if not isinstance(given, dict):
        raise Validation(f"step {at} is neither a line nor a step", field=f"steps[{at - 1}]")
    return {"name": f"step-{at}"} | cast("dict[str, Any]", given)


def _rest(record: dict[str, Any]) -> dict[str, Any]:
    book = record.get("playbook")
    known = cast("dict[str, Any]", book) if isinstance(book, dict) else {}
    return {name: each for name, each in known.items() if name not in ("phases", "name")}


def _word(text: str) -> str:
    return "-".join(text.split())[:200] or "task"
