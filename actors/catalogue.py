"""Which types of jobs there are, and whether what they are given is what they take; no plugin is asked.

It is filled by facts about plugins and read by everybody who takes a job, from any thread.
"""

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from events import plugin, spec
from events.codec import Fact
from events.errors import Conflict, NotFound, Validation
from events.job import Job

if TYPE_CHECKING:
    import jsonschema_rs


class Catalogue:
    """Plugins by name, as the log says."""

    def __init__(self) -> None:
        self._known: dict[str, plugin.State] = {}
        self.asleep: set[str] = set()
        """Modules that have to be told when there is work for them."""
        self._schemas: dict[str, jsonschema_rs.Validator] = {}

    def learn(self, name: str, state: plugin.State) -> None:
        """Take note of a plugin."""
        import jsonschema_rs  # only a node checks jobs: hosts and tables are spared its memory

        manifest = state.manifest
        if manifest is None:
            return
        made = {
            each.type: jsonschema_rs.validator_for(each.input)
            for each in manifest.handlers
            if each.input is not None
        }
        kept = {kind: one for kind, one in self._schemas.items() if kind.partition(":")[0] != name}
        self._schemas = {**kept, **made}
        self._known = {**self._known, name: state}

    def hear(self, facts: Sequence[Fact]) -> None:
        """Take note of what happened."""
        for fact in facts:
            before = self._known.get(fact.entity, plugin.State())
            self.learn(fact.entity, plugin.evolve(before, fact))

    @property
    def plugins(self) -> dict[str, plugin.State]:
        """All that were ever registered."""
        return self._known

    def taken(self, manifest: plugin.Manifest, reserved: frozenset[str]) -> str:
        """Why a plugin cannot be registered beside the others: a name or an address is somebody else's."""
        others = [
            state.manifest
            for name, state in self._known.items()
            if state.loaded and state.manifest is not None and name != manifest.name
        ]
        tools = {tool.name: each.name for each in others for tool in each.tools}
        for tool in manifest.tools:
            if tool.name in reserved or tool.name in tools:
                return f"the tool {tool.name!r} is {tools.get(tool.name, 'Hindbrain')}'s: rename it"
        places = {resource.uri: each.name for each in others for resource in each.resources}
        for resource in manifest.resources:
            if resource.uri in places or resource.uri.startswith("brain://"):
                owner = places.get(resource.uri, "Hindbrain")
                return f"the address {resource.uri!r} is {owner}'s: rename it"
        return ""

    def find(self, job: Job) -> plugin.Handler:
        """The handler of a job; `NotFound` and `Conflict` say what to do."""
        state = self._known.get(job.plugin)
        if state is None or state.manifest is None:
            known = [name for name, each in self._known.items() if each.loaded]
            raise NotFound(
                f"no plugin {job.plugin!r} is loaded, {_near(job.plugin, known)}",
                field="job.type",
                known=known,
            )
        handler = state.manifest.handler(job.type)
        if handler is None:
            types = [each.type for each in state.manifest.handlers]
            raise NotFound(
                f"there is no job {job.type!r}, {_near(job.type, types)}", field="job.type", known=types
            )
        if not state.loaded:
            raise Conflict(f"plugin {job.plugin!r} is unloaded: load it first", field="job.type")
        return handler

    def admit(self, given: spec.Spec, asked: bool) -> spec.Spec:
        """Check a job against what its handler takes, and fill in what the handler says.

        `asked`: its submitter named a priority.
        """
        if given.job is None:
            return given
        handler = self.find(given.job)
        self._check(given.job)
        return msgspec.structs.replace(
            given,
            retries=given.retries if given.retries is not None else _some(handler.retries),
            timeout_ms=given.timeout_ms or handler.timeout_ms,
            priority=given.priority if asked else handler.priority,
        )

    def known(self, given: spec.Spec) -> spec.Spec:
        """Do the same for a step of a plan, which is queued even while nobody here knows its plugin."""
        state = None if given.job is None else self._known.get(given.job.plugin)
        if given.job is None or state is None or state.manifest is None or not state.loaded:
            return given
        return self.admit(given, asked=given.priority != "medium")

    def _check(self, job: Job) -> None:
        validator = self._schemas.get(job.type)
        if validator is None:
            return
        for error in validator.iter_errors(job.data):
            path = "".join(
                f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path
            )
            field = f"job.data{path}"
            raise Validation(f"{job.type} does not take this: {_said(error)} ({field})", field=field)


def _said(error: Any) -> str:
    text = str(error.message)
    return text if len(text) <= 500 else f"{text[:500]} ..."


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1, 0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"there are {', '.join(known)}" if known else "there is none: see `hindbrain plugin load --help`"


def _some(retries: spec.Retries | None) -> spec.Retries | None:
    return retries if retries is not None and retries.max else None
