"""A module: a named pool of workers with a queue of its own, which is started, scaled, paused and healed.

new ---> running <---> paused
| ^          |
v |          |
stopped  error  <-------'
"""

from typing import TYPE_CHECKING, Literal

import msgspec

from events.errors import Conflict, NotFound, Validation
from events.ids import TOKEN
from events.message import Command, Event, Message
from events.ports import Decider
from events.spec import Priority

if TYPE_CHECKING:
    from events.codec import Fact

MOST = 1000

Isolation = Literal["shared", "process"]
Status = Literal["", "running", "paused", "error", "stopped"]


class Profile(Message):
    """What a module is."""

    category: str = "core"
    priority: Priority = "medium"
    """How important it is beside others when workers are few."""
    workers: int = 1
    """How many it begins with."""
    max_workers: int | None = None
    """The most it may have; without it its category says."""
    isolation: Isolation = "shared"
    """`shared`: its workers are threads of one process; `process`: each has a process of its own, which is
    killed when a job has to stop and does not."""
    depends_on: tuple[str, ...] = ()
    """Modules that have to run before this one starts, and stop after it."""
    cpu_affinity: tuple[int, ...] = ()
    """The processors it may use; all of them when empty."""
    recycle_jobs: int | None = None
    """A process is replaced after so many jobs."""
    memory_bytes: int | None = None
    """A process that grows beyond this is replaced."""
    idle_seconds: float | None = None
    """After so long without work its processes end; they are back when there is work."""
    max_silence_seconds: float = 300.0
    """A worker with a job in hand that shows no sign of life for so long is stuck, and replaced."""
    auto_scale_down: bool | None = None
    """Whether workers with little to do are taken away, not only suggested to be; the policy says else."""
    plugin: str = ""
    """The plugin whose jobs it runs; without one it runs functions that can be imported."""


def check(profile: Profile) -> None:
    """Refuse what no module can be."""
    most = MOST if profile.max_workers is None else profile.max_workers
    if not TOKEN.fullmatch(profile.category):
        raise Validation(f"bad category {profile.category!r}: use a-z, 0-9, _ and -", field="category")
    if not 1 <= most <= MOST:
        raise Validation(f"max_workers is {most}: it must be between 1 and {MOST}", field="max_workers")
    if not 0 <= profile.workers <= most:
        raise Validation(f"workers is {profile.workers}: it must be between 0 and {most}", field="workers")
    for name in ("recycle_jobs", "memory_bytes"):
        value = getattr(profile, name)
        if value is not None and value < 1:
            raise Validation(f"{name} is {value}: it must be at least 1", field=name)
    if profile.idle_seconds is not None and profile.idle_seconds <= 0:
        raise Validation("idle_seconds must be more than 0", field="idle_seconds")
    if profile.max_silence_seconds <= 0:
        raise Validation("max_silence_seconds must be more than 0", field="max_silence_seconds")
    for name in profile.depends_on:
        if not TOKEN.fullmatch(name):
            raise Validation(f"bad module name {name!r} in depends_on", field="depends_on")


# ---- what happened ---------------------------------------------------------------------------------------


class Declared(Event):
    """It exists, or is something else than before."""

    profile: Profile


class Started(Event):
    """Its workers take work."""

    reason: str = ""


class Stopped(Event):
    """It has no workers any more; its work waits."""

    reason: str = ""


class Paused(Event):
    """Its workers finish what they have and take nothing more."""

    reason: str = ""


class Resumed(Event):
    """They take work again."""

    reason: str = ""


class Broken(Event):
    """It could not be healed within its budget; its work waits until somebody restarts it."""

    reason: str


class Restarted(Event):
    """All its workers are made anew."""

    reason: str = ""


class Scaled(Event):
    """It is to have so many workers from now on."""

    workers: int
    before: int
    reason: str = ""


class WorkerStarted(Event):
    """A process with workers of it is up."""

    host: str
    node: str
    pid: int
    workers: tuple[str, ...]


class WorkerEnded(Event):
    """A process with workers of it is gone."""

    host: str
    node: str
    reason: str
    expected: bool = True
    """It was told to end, or had reached one of its limits."""


# ---- what can be asked -----------------------------------------------------------------------------------


class Declare(Command):
    """Let it exist, as described."""

    profile: Profile


class Start(Command):
    """It is up."""

    reason: str = ""


class Stop(Command):
    """It goes down."""

    reason: str = ""


class Pause(Command):
    """Take nothing more."""

    reason: str = ""


class Resume(Command):
    """Take work again."""

    reason: str = ""


class Break(Command):
    """It cannot be healed."""

    reason: str


class Restart(Command):
    """Make all workers anew."""

    reason: str = ""


class Scale(Command):
    """Have so many workers."""

    workers: int
    reason: str = ""


class Note(Command):
    """A process of it came or went."""

    event: WorkerStarted | WorkerEnded


AnyEvent = (
    Declared
    | Started
    | Stopped
    | Paused
    | Resumed
    | Broken
    | Restarted
    | Scaled
    | WorkerStarted
    | WorkerEnded
)
AnyCommand = Declare | Start | Stop | Pause | Resume | Break | Restart | Scale | Note
EVENTS = (
    Declared,
    Started,
    Stopped,
    Paused,
    Resumed,
    Broken,
    Restarted,
    Scaled,
    WorkerStarted,
    WorkerEnded,
)


class State(Message):
    """A module as its events tell it."""

    profile: Profile | None = None
    status: Status = ""
    workers: int = 0
    """How many it is to have."""
    restarts: int = 0
    """How often all its workers were made anew; whoever has older ones replaces them."""
    reason: str = ""
    """Why it stands where it stands."""
    seq: int = 0


def decide(state: State, command: AnyCommand) -> tuple[AnyEvent, ...]:
    """Say what happens.  No facts means it already was so; to refuse is to raise."""
    if state.profile is None and not isinstance(command, Declare):
        raise NotFound("Module not found")
    match command:
        case Declare(profile=profile):
            check(profile)
            return () if profile == state.profile else (Declared(profile=profile),)
        case Start(reason=reason):
            return (Started(reason=reason),) if state.status in ("", "stopped") else ()
        case Stop(reason=reason):
            return (Stopped(reason=reason),) if state.status not in ("", "stopped") else ()
        case Pause(reason=reason):
            if state.status == "error":
                raise Conflict("it is in error: restart it first")
            return () if state.status == "paused" else (Paused(reason=reason),)
        case Resume(reason=reason):
            if state.status == "error":
                raise Conflict("it is in error: restart it")
            return (Resumed(reason=reason),) if state.status == "paused" else ()
        case Break(reason=reason):
            return () if state.status == "error" else (Broken(reason=reason),)
        case Restart(reason=reason):
            return (Restarted(reason=reason),)
        case Scale(workers=workers, reason=reason):
            return _scale(state, workers, reason)
        case Note(event=event):
            return (event,)


def _scale(state: State, workers: int, reason: str) -> tuple[AnyEvent, ...]:
    most = MOST
    if state.profile is not None and state.profile.max_workers is not None:
        most = state.profile.max_workers
    if not 0 <= workers <= most:
        raise Validation(f"workers is {workers}: it must be between 0 and {most}", field="workers")
    return () if workers == state.workers else (Scaled(workers=workers, before=state.workers, reason=reason),)


def evolve(state: State, fact: "Fact") -> State:
    """Fold one fact into the state."""
    state = msgspec.structs.replace(state, seq=fact.seq)
    change = msgspec.structs.replace
    match fact.event:
        case Declared(profile=profile):
            first = state.profile is None or state.profile.workers != profile.workers
            return change(state, profile=profile, workers=profile.workers if first else state.workers)
        case Started(reason=reason) | Resumed(reason=reason):
            return change(state, status="running", reason=reason)
        case Stopped(reason=reason):
            return change(state, status="stopped", reason=reason)
        case Paused(reason=reason):
            return change(state, status="paused", reason=reason)
        case Broken(reason=reason):
            return change(state, status="error", reason=reason)
        case Restarted(reason=reason):
            return change(state, status="running", reason=reason, restarts=state.restarts + 1)
        case Scaled(workers=workers):
            return change(state, workers=workers)
        case _:
            return state


MODULE = Decider("module", State(), decide, evolve)
