"""Engines: who does the phases of tasks.  Each says a phase as a step of a playbook, and reads it back.

An engine is an entry point of the group `hindbrain.engines`, named by what stands before the first colon of
`mcp:files/read`.  What it says runs as a playbook, so it is remembered, kept and resumed like one.
"""

import hashlib
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Protocol, cast

import msgspec

from events import ir, params
from events.errors import Validation
from events.ir import PhaseIR
from events.params import near

GROUP = "hindbrain.engines"
REMOTE = "remote:"
"""How the address of another Hindbrain begins where a server of tools is named."""


class Engine(Protocol):
    """Does phases; `rest` is what stands behind its name."""

    def step(self, rest: str, phase: PhaseIR) -> dict[str, Any]:
        """Say the phase as a step of a playbook file, without a name; `Validation` where that cannot be."""
        ...

    def read(self, step: dict[str, Any]) -> PhaseIR | None:
        """The phase that such a step was said for; None for a step of another engine."""
        ...


class Playbook:
    """`playbook:<name>`: the playbook in `work`, with `values` as its parameters."""

    def step(self, rest: str, phase: PhaseIR) -> dict[str, Any]:
        """Say it as a playbook that is a step."""
        if not phase.work.get("phases"):
            raise Validation(f"phase {phase.id} has no playbook: give its phases in work", field="work")
        return {"playbook": {**phase.work, "name": rest}, "values": phase.values}

    def read(self, step: dict[str, Any]) -> PhaseIR | None:
        """Read such a step."""
        return _within("playbook", step)


class Plan:
    """`plan:<template>`: the plan in `work`, that of the template unless it is given."""

    def step(self, rest: str, phase: PhaseIR) -> dict[str, Any]:
        """Say it as a plan that is a step."""
        if not phase.work:
            raise Validation(
                f"phase {phase.id} has no plan: give it in work, or keep a template {rest!r}", field="work"
            )
        return {"plan": {**phase.work, "name": rest}, "values": phase.values}

    def read(self, step: dict[str, Any]) -> PhaseIR | None:
        """Read such a step."""
        return _within("plan", step)


class Mcp:
    """`mcp:<server>/<tool>`: a tool of an MCP server that the settings name, with `values` as arguments."""

    def step(self, rest: str, phase: PhaseIR) -> dict[str, Any]:
        """Say it as the call of that tool."""
        server, slash, tool = rest.partition("/")
        if not (server and slash and tool):
            raise Validation(f"mcp:{rest} names no tool: write mcp:SERVER/TOOL", field="preferred_engine")
        call = {"server": server, "tool": tool, "arguments": phase.values}
        return {"mcp": call, "artifacts": list(phase.keep)}

    def read(self, step: dict[str, Any]) -> PhaseIR | None:
        """Read such a step."""
        call = step.get("mcp")
        if call is None or call["server"].startswith(REMOTE):
            return None
        engine = f"mcp:{call['server']}/{call['tool']}"
        return _phase(engine, values=call.get("arguments", {}), keep=step.get("artifacts", ()))


class Job:
    """`job:<plugin>:<type>`: a job of a plugin, with `values` as its data."""

    def step(self, rest: str, phase: PhaseIR) -> dict[str, Any]:
        """Say it as a job."""
        return {"job": {"type": rest, "data": phase.values}, "artifacts": list(phase.keep)}

    def read(self, step: dict[str, Any]) -> PhaseIR | None:
        """Read such a step."""
        job = step.get("job")
        if job is None:
            return None
        return _phase(f"job:{job['type']}", values=job.get("data", {}), keep=step.get("artifacts", ()))


class Remote:
    """`remote:<url>`: another Hindbrain does it, and what it leaves is brought back."""

    def step(self, rest: str, phase: PhaseIR) -> dict[str, Any]:
        """Say it as a call to there."""
        if not rest.startswith(("http://", "https://")):
            text = f"remote:{rest} is no address: write remote:http://HOST:PORT"
            raise Validation(text, field="preferred_engine")
        engine, inner = find(there(phase), "there")
        engine.step(inner, phase)
        what = msgspec.json.encode([phase.id, rest, phase.work, phase.values])
        folder = f"taken/{hashlib.sha256(what).hexdigest()[:16]}"
        arguments = {
            "engine": phase.there,
            "work": params.escaped(phase.work),
            "values": phase.values,
            "keep": params.escaped(phase.keep),
            "name": params.escaped(phase.name),
            "folder": folder,
        }
        call = {"server": f"{REMOTE}{rest}", "tool": "task", "arguments": arguments}
        return {"mcp": call, "artifacts": [f"{folder}/*"]}

    def read(self, step: dict[str, Any]) -> PhaseIR | None:
        """Read such a step."""
        call = step.get("mcp")
        if call is None or not call["server"].startswith(REMOTE):
            return None
        said = call["arguments"]
        return _phase(
            call["server"],
            there=said["engine"],
            work=params.values(said["work"], _nothing),
            values=said["values"],
            keep=params.values(said["keep"], _nothing),
        )


def there(phase: PhaseIR) -> str:
    """The engine that does a phase at another Hindbrain."""
    if phase.there:
        return phase.there
    if phase.work:
        return f"playbook:{phase.id}" if "phases" in phase.work else f"plan:{phase.id}"
    raise Validation(f"phase {phase.id} does not say what is to be done there: give work", field="work")


def _nothing(reference: params.Reference) -> Any:
    raise Validation(f"${{{reference}}} stands where nothing can be filled in", field="work")


def _within(kind: str, step: dict[str, Any]) -> PhaseIR | None:
    inner = step.get(kind)
    if inner is None:
        return None
    work = {key: each for key, each in inner.items() if key != "name"}
    return _phase(f"{kind}:{inner.get('name', '')}", work=work, values=step.get("values", {}))


def _phase(engine: str, **fields: Any) -> PhaseIR:
    keep = tuple(fields.pop("keep", ()))
    return PhaseIR(id="", preferred_engine=engine, keep=keep, **fields)


@cache
def _installed() -> dict[str, Engine]:
    return {each.name: cast("Engine", each.load()()) for each in entry_points(group=GROUP)}


def names() -> list[str]:
    """Which engines are installed."""
    return sorted(_installed())


def find(engine: str, field: str = "preferred_engine") -> tuple[Engine, str]:
    """The engine of a name such as `mcp:files/read`, and what is behind its kind."""
    kind, rest = ir.parted(engine, field)
    known = _installed().get(kind)
    if known is None:
        raise Validation(f"unknown engine {kind!r}, {near(kind, names())}", field=field)
    return known, rest


def step(phase: PhaseIR) -> dict[str, Any]:
    """A phase as a step of a playbook, in the words of its engine."""
    engine, rest = find(phase.preferred_engine)
    return engine.step(rest, phase)


def read(given: dict[str, Any]) -> PhaseIR:
    """A step as a phase: what is done in it, and by whom."""
    for engine in _installed().values():
        found = engine.read(given)
        if found is not None:
            return found
    raise Validation(
        f"step {given.get('name', '')!r} is of no engine that is installed: {', '.join(names())}"
    )


def plan(definition: dict[str, Any]) -> dict[str, Any]:
    """A plan as it is kept, said as in a plan file."""
    written = {key: each for key, each in definition.items() if key not in ("steps", "operations", "name")}
    if operations := definition.get("operations"):
        return written | {key: each for key, each in operations.items() if each is not None}
    return written | {"steps": [_task(each) for each in definition.get("steps", ())]}


def _task(given: dict[str, Any]) -> dict[str, Any]:
    task = {key: each for key, each in given.items() if key not in ("do", "plan", "retries", "timeout_ms")}
    beside = {key: given[key] for key in ("retries", "timeout_ms") if given.get(key) is not None}
    inner = given.get("plan")
    if inner is not None:
        task["plan"] = {**plan(inner), "name": inner.get("name", "")}
    do: dict[str, Any] = given.get("do") or {}
    return task | do | beside


def plain(phase: PhaseIR) -> PhaseIR:
    """A phase whose work has no name of its own: that is the engine's."""
    if "name" not in phase.work:
        return phase
    work = {key: each for key, each in phase.work.items() if key != "name"}
    return msgspec.structs.replace(phase, work=work)
