"""The tables of playbooks: living along, folded anew, and the rules themselves say the same."""

import random
from typing import Any

from histories import Log
from hypothesis import given
from hypothesis import strategies as st
from test_fold_law import LAW, applied, opened

from events import codec, playbook
from events.errors import Problem
from events.phases import Definition, Input, Phase, Step
from events.played import Memory, Result
from events.spec import Shell, Submit
from projections.check import verify
from projections.queries import Queries
from projections.store import Store

RUN = Submit(shell=Shell(command="true"))
BOOK = Definition(
    name="all",
    phases=(
        Phase(id="one", name="First", steps=(Step(name="a", do=RUN), Step(name="b", do=RUN, when="1 == 2"))),
        Phase(id="two", steps=(Step(name="c", sleep="2s"), Step(name="d", do=RUN, allow_failure=True))),
        Phase(id="three", steps=(Step(name="e", input=Input(message="?", deadline="9s", remind="2s")),)),
    ),
)
ENTITY = "play_a"
kinds = st.sampled_from(
    ["end"] * 6 + ["save"] * 8 + ["tick"] * 3 + ["fail", "answer", "pause", "resume", "back", "cancel", "sum"]
)


class Tale:
    def __init__(self, **more: Any) -> None:
        self.log, self.memories, self.seed = Log(), dict[str, Memory](), random.Random(0)
        initialized = playbook.Initialized(definition=BOOK, digest="d", **more)
        self.ask(playbook.Initialize(initialized=initialized, now_ms=self.log.now))

    @property
    def state(self) -> playbook.State:
        return self.log.states["playbook", ENTITY]

    def ask(self, command: Any) -> None:
        self.log.ask("playbook", ENTITY, command)

    def save(self) -> None:
        state = self.state
        name = playbook.checkpoint_id(state, "step")
        self.memories.setdefault(name, state.memory())
        checkpoint = playbook.CheckpointCreated(
            checkpoint_id=name,
            reason="step",
            at=state.at,
            checksum="c",
            size=1,
            raw_size=2,
            position=state.seq,
        )
        self.ask(playbook.Save(checkpoint=checkpoint, now_ms=self.log.now))

    def act(self, kind: str) -> None:
        state, now = self.state, self.log.now
        going = state.going
        match kind:
            case "end" | "fail" if going is not None and going.does == "execution":
                error = None if kind == "end" else Problem(code="command_failed", message="no")
                result = Result(
                    step=going.step,
                    run=going.run,
                    status="completed" if kind == "end" else "failed",
                    exit_code=0 if kind == "end" else 1,
                    execution_id="exec_a",
                    outputs={"k": 1},
                    artifacts=("art_x",),
                    error=error,
                )
                self.ask(playbook.Advance(ended=result, now_ms=now))
            case "save":
                self.save()
            case "tick":
                self.ask(playbook.Tick(now_ms=now))
            case "answer":
                self.ask(playbook.Answer(value={"ok": 1}, by="me", now_ms=now))
            case "pause":
                self.ask(playbook.Pause(reason="later"))
            case "resume":
                self.ask(playbook.Resume(now_ms=now))
            case "back" if self.memories:
                name = self.seed.choice(sorted(self.memories))
                self.ask(playbook.Resume(checkpoint_id=name, memory=self.memories[name], now_ms=now))
            case "cancel":
                self.ask(playbook.Cancel(now_ms=now))
            case "sum":
                self.ask(playbook.Summarize(phase_id="two", summary="by hand"))
            case _:
                pass


def rows(store: Store, table: str, key: str = "id") -> dict[str, dict[str, Any]]:
    return {row[key]: row for row in Queries(store).rows(f"SELECT * FROM {table}")}


def agrees(store: Store, state: playbook.State) -> None:
    """What the tables say is what the state says."""
    row = rows(store, "playbook_executions")[ENTITY]
    assert (row["status"], row["total"]) == (state.status, state.total)
    assert row["checkpoints"] == len(state.checkpoints)
    said = row["error"]["message"] if row["error"] else None
    assert said == (state.error.message if state.error else None)
    resting = state.going is not None and state.going.does in ("sleep", "input")
    stuck = state.pause is not None and state.pause.step is not None and state.going is None
    assert row["resting"] == (resting or stuck)
    wakes = state.going.until if state.going is not None and state.going.does == "sleep" else None
    assert row["wakes_at"] == (None if wakes is None else codec.stamp(wakes))
    for phase in state.definition.phases:
        found = rows(store, "phases")[f"{ENTITY}/{phase.id}"]
        status = state.ended.get(phase.id) or ("running" if phase.id in state.begun else "pending")
        assert found["status"] == status, phase.id
    steps = rows(store, "playbook_steps", "step")
    for name, cell in state.cells.items():
        if name in steps or cell.status != "pending":
            assert steps[name]["status"] == cell.status, name
            assert (steps[name]["outputs"] or {}) == (cell.result.outputs if cell.result else {})
    said = rows(store, "phase_summaries", "phase_id")
    for name, summary in state.summaries.items():
        assert said[name]["summary"] == summary.summary
    assert len(rows(store, "checkpoints")) == len(state.checkpoints)


@LAW
@given(
    asked=st.lists(st.tuples(kinds, st.integers(0, 1500)), max_size=40),
    cuts=st.lists(st.integers(0, 60), max_size=3),
    saves=st.booleans(),
)
def test_playbooks_follow_their_rules(asked: list[tuple[str, int]], cuts: list[int], saves: bool) -> None:
    tale = Tale(supports_resume=saves)
    for kind, later in asked:
        tale.log.now += later
        tale.act(kind)
    with opened() as store:
        applied(store, tale.log, cuts)
        assert verify(store, tale.log.records) == []
        agrees(store, tale.state)


def test_a_fork_begins_with_what_it_remembers() -> None:
    tale = Tale()
    for kind in ("save", "end", "save"):
        tale.act(kind)
    name, memory = next(reversed(tale.memories.items()))
    initialized = playbook.Initialized(
        definition=BOOK, fork=playbook.Fork(playbook_id=ENTITY, checkpoint_id=name, set={})
    )
    tale.log.ask("playbook", "play_b", playbook.Initialize(initialized=initialized, memory=memory, now_ms=1))
    with opened() as store:
        applied(store, tale.log, [])
        found = {
            row["step"]: row
            for row in Queries(store).rows("SELECT * FROM playbook_steps WHERE playbook_id = 'play_b'")
        }
        assert (found["a"]["status"], found["a"]["outputs"], found["a"]["execution_id"]) == (
            "completed",
            {"k": 1},
            "exec_a",
        )
        left = {name for name, row in found.items() if row["status"] == "pending"}
        assert left == {"b", "c", "d", "e"}
        row = rows(store, "playbook_executions")["play_b"]
        assert (row["fork_of"], row["fork_checkpoint"], row["completed"]) == (ENTITY, name, 1)
