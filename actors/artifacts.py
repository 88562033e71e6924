"""The desk for artifacts and workspaces; what moves content goes on to the archivist."""

from collections.abc import Callable
from typing import Any

from actors.archivist import Asked
from actors.clerk import Clerk, Table, Verbs, check_page
from events import artifact, workspace
from events.artifact import ARTIFACT
from events.asks import artifact as asks
from events.errors import HindbrainError, NotFound, Validation
from events.message import Message
from events.ports import Call, Outcome
from events.workspace import WORKSPACE

LIST_MAX = 1000
COLUMNS = (
    *("id", "status", "name", "size", "media_type", "backend", "node", "workspace_id", "labels"),
    *("metadata", "references", "created_at", "removed_at", "seq"),
)
LISTED = f"""
SELECT {", ".join(f'a."{name}"' for name in COLUMNS)}, e.seq AS born
FROM artifacts a JOIN events e ON e.kind = 'artifact' AND e.entity = a.id AND e.n = 1
WHERE a.status = ?1 AND (?2 IS NULL OR a.workspace_id = ?2) AND (?3 IS NULL OR a.name GLOB ?3)
AND (?4 IS NULL OR a.media_type = ?4) AND (?5 IS NULL OR list_contains(a.labels, ?5))
AND (?6 IS NULL OR a.id IN (
    SELECT r.entity FROM events r WHERE r.kind = 'artifact' AND r.event = 'referenced'
    AND (r.data->>'$.by') = ?6 AND (?7 IS NULL OR (r.data->>'$.phase_id') = ?7) AND NOT EXISTS (
        SELECT 1 FROM events g WHERE g.kind = 'artifact' AND g.entity = r.entity AND g.event = 'released'
        AND (g.data->>'$.by') = ?6 AND g.seq > r.seq)))
AND (?8 IS NULL OR e.seq < ?8) ORDER BY e.seq DESC LIMIT ?9
"""  # noqa: S608 -- only names of our own columns stand in it
WORKSPACES = "SELECT id, path, description, created_at, seq FROM workspaces ORDER BY id"


class Artifacts:
    """Answers the verbs of artifacts and workspaces, in the thread of the gateway."""

    def __init__(self, clerk: Clerk, archivist: Callable[[Any], None]) -> None:
        self._clerk, self._archivist = clerk, archivist

    @property
    def verbs(self) -> Verbs:
        """What is done for each verb."""
        return {
            ("artifact", "register"): self._pass,
            ("artifact", "get"): self._pass,
            ("artifact", "prune"): self._pass,
            ("artifact", "list"): self._list,
            ("artifact", "release"): self._release,
            ("workspace", "create"): self._create,
            ("workspace", "list"): self._workspaces,
        }

    def _pass(self, ask: Any, call: Call) -> None:
        self._archivist(Asked(ask, call))

    def _list(self, ask: asks.List, call: Call) -> None:
        check_page(ask.limit, LIST_MAX)
        if ask.status not in (None, "kept", "removed"):
            raise Validation(f"unknown status {ask.status!r}: use kept or removed", field="status")

        def reply(table: Table) -> Message:
            rows = [dict(zip(COLUMNS, row, strict=False)) for row in table.rows[: ask.limit]]
            more = table.rows[ask.limit - 1][-1] if len(table.rows) > ask.limit else None
            return asks.Page(artifacts=rows, next=more)

        which = [ask.status or "kept", ask.workspace, ask.name, ask.media_type, ask.label]
        params = [*which, ask.reference, ask.phase_id, ask.before, ask.limit + 1]
        self._clerk.question(call, LISTED, params, reply, min_seq=ask.min_seq)

    def _release(self, ask: asks.Release, call: Call) -> None:
        if not artifact.ID.fullmatch(ask.artifact_id):
            raise NotFound(f"Artifact not found: {ask.artifact_id}", artifact_id=ask.artifact_id)

        def reply(outcome: Outcome) -> Message:
            state: artifact.State = outcome.snapshot.state
            return asks.Released(
                artifact_id=state.id,
                changed=bool(outcome.facts),
                references=sorted({each.by for each in state.references.values()}),
                seq=outcome.snapshot.seq,
            )

        def refuse(error: HindbrainError) -> None:
            missing = isinstance(error, NotFound)
            call.refuse(NotFound(f"Artifact not found: {ask.artifact_id}") if missing else error)

        again = Call(call.kind, call.verb, call.body, call.answer, refuse, by=call.by, trace=call.trace)
        self._clerk.command(again, ARTIFACT, ask.artifact_id, artifact.Release(by=ask.reference), reply)

    def _create(self, ask: asks.Create, call: Call) -> None:
        command = workspace.Open(name=ask.name, path=ask.path, description=ask.description, new=True)
        workspace.decide(workspace.State(), command)

        def reply(outcome: Outcome) -> Message:
            state: workspace.State = outcome.snapshot.state
            return asks.Opened(
                workspace_id=state.id,
                path=state.opened.path if state.opened else None,
                changed=bool(outcome.facts),
                seq=outcome.snapshot.seq,
            )

        self._clerk.command(call, WORKSPACE, ask.name, command, reply)

    def _workspaces(self, ask: asks.Workspaces, call: Call) -> None:
        def reply(table: Table) -> Message:
            names = ("id", "path", "description", "created_at", "seq")
            return asks.Listed(workspaces=[dict(zip(names, row, strict=True)) for row in table.rows])

        self._clerk.question(call, WORKSPACES, (), reply, min_seq=ask.min_seq)
