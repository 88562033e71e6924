"""The desk for modules, plugins and jobs: what is asked of them becomes a fact, or a question to a host.

It is long because it is one list: every verb of the three with what is done for it.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from actors import clerk, manifest, tally
from actors.catalogue import Catalogue
from actors.clerk import Table, Verbs
from actors.home import milliseconds
from actors.modules import Asked, Modules, Stored
from actors.pool import Host, Pool
from actors.rights import Rights
from events import codec, decision, hosting, job, module, plugin, service, spec
from events.asks import module as asks
from events.asks import threads
from events.decision import DECISION
from events.errors import Conflict, HindbrainError, NotFound, Unavailable, Validation
from events.message import Message
from events.module import MODULE
from events.plugin import PLUGIN
from events.ports import Ask, Call, Doors, Log, Outcome

DECIDED: dict[type, decision.Type] = {
    module.Pause: "pause",
    module.Resume: "resume",
    module.Restart: "restart",
}
"""What a person has done to a module is a decision about it, stored before it is done."""
RESIDENT = "{} is part of the node, which heals it by itself: it can be paused, neither scaled nor restarted"
Submit = Callable[[spec.Submit, Call, Callable[[bytes], None]], None]
"""Has something submitted; the last gets the reply."""


class Pools:
    """Answers the verbs of modules, plugins and jobs; what needs the hosts is done by the actor `modules`."""

    def __init__(
        self,
        journal: Log,
        node: str,
        catalogue: Catalogue,
        modules: Callable[[Any], None],
        submit: Submit,
        rights: Rights,
        doors: Doors,
    ) -> None:
        self._log, self._node, self._catalogue, self._doors = journal, node, catalogue, doors
        self._modules, self._submit, self._rights = modules, submit, rights

    @property
    def verbs(self) -> Verbs:
        """What is done for each verb."""
        return {
            ("module", "list"): self._list,
            ("module", "status"): self._status,
            ("module", "threads"): self._threads,
            ("module", "start"): self._start,
            ("module", "pause"): lambda ask, call: self._act(ask, call, module.Pause(reason=ask.reason)),
            ("module", "resume"): lambda ask, call: self._act(ask, call, module.Resume(reason=ask.reason)),
            ("module", "restart"): lambda ask, call: self._act(ask, call, module.Restart(reason=ask.reason)),
            ("module", "scale"): lambda ask, call: self._act(
                ask, call, module.Scale(workers=ask.workers, reason=ask.reason)
            ),
            ("module", "submit"): self._task,
            ("job", "submit"): self._job,
            ("job", "types"): self._types,
            ("plugin", "list"): lambda _, call: call.answer(codec.encode(self._plugins())),
            ("plugin", "load"): self._load,
            ("plugin", "unload"): self._unload,
            ("plugin", "tools"): self._tools,
            ("plugin", "call"): self._call,
            ("plugin", "resources"): lambda _, call: call.answer(
                codec.encode(asks.Resources(resources=[each for _, each in self._readable()]))
            ),
            ("plugin", "read"): self._read,
        }

    # ---- modules ---------------------------------------------------------------------------------------

    def _with(self, call: Call, act: Callable[[Modules], None]) -> None:
        self._modules(Asked(act, call))

    def _list(self, _: asks.ListModules, call: Call) -> None:
        def act(modules: Modules) -> None:
            shown = [look(modules, pool) for pool in modules.pools.values()]
            call.answer(codec.encode(asks.Modules(modules=shown)))

        self._with(call, act)

    def _status(self, ask: asks.Which, call: Call) -> None:
        def act(modules: Modules) -> None:
            pool = found(modules, ask.module)
            call.answer(codec.encode(asks.OneModule(module=look(modules, pool))))

        self._with(call, act)

    def _act(self, ask: asks.Act | asks.Scale, call: Call, command: module.AnyCommand) -> None:
        def act(modules: Modules) -> None:
            pool = found(modules, ask.module)
            if isinstance(command, module.Scale | module.Restart) and pool.resident is not None:
                raise Conflict(RESIDENT.format(pool.name))
            if isinstance(command, module.Scale):
                modules.check_total(ask.module, command.workers)
            kind = DECIDED.get(type(command))
            if kind is None or not module.decide(pool.state, command):
                self._answer(call, ask.module, command)
                return
            made = decision.Make(type=kind, module=ask.module, context=ask.reason or f"asked by {call.by}")
            told = Ask(DECISION, decision.entity(milliseconds(), ask.module), made, by=call.by)
            self._log.handle([told], lambda outcomes: decided(outcomes[0]))

        def decided(outcome: Outcome) -> None:
            if outcome.error is not None:
                call.refuse(outcome.error)
            else:
                self._answer(call, ask.module, command)

        self._with(call, act)

    def _answer(self, call: Call, name: str, command: module.AnyCommand) -> None:
        """Have it decided, and answer what became of the module once the hosts' side knows of it."""

        def done(outcomes: Sequence[Outcome]) -> None:
            self._modules(Stored(outcomes))
            reply = outcomes[0].error or _changed(outcomes[0])
            self._modules(Asked(lambda _: clerk.answer(call, lambda: reply), call))

        self._log.handle([Ask(MODULE, name, command, by=call.by, trace=call.trace)], done)

    def _start(self, ask: asks.Start, call: Call) -> None:
        name = job.plugin_name(ask.module)
        profile = manifest.profiled(name, ask.profile)

        def act(modules: Modules) -> None:
            if not modules.plugins.has(name):
                modules.check_total(name, profile.workers)
            modules.plugins.begin(name, ask.profile, loaded)

        def loaded(reason: HindbrainError | str | None) -> None:
            if reason is None:
                self._answer(call, name, module.Start())
            else:
                call.refuse(Validation(f"module {name} cannot be started: {reason}", field="module"))

        self._with(call, act)

    def _threads(self, ask: threads.Ask, call: Call) -> None:
        def counted(answer: Table | HindbrainError) -> None:
            if isinstance(answer, HindbrainError):
                call.refuse(answer)
                return

            def act(modules: Modules) -> None:
                if ask.module is not None:
                    found(modules, ask.module)
                one = tally.tally(answer, modules, lambda pool: ask.module in (None, pool.name))
                call.answer(codec.encode(one))

            self._with(call, act)

        clerk.ask(self._doors, tally.COUNTS, [self._node], counted, min_seq=ask.min_seq)

    def _task(self, ask: asks.SubmitTask, call: Call) -> None:
        if (ask.handler is None) == (ask.function is None):
            raise Validation("give handler or function, one of them", field="handler")
        name = job.plugin_name(ask.module)
        if ask.handler is not None:
            if ask.args or ask.kwargs:
                raise Validation("args and kwargs go with function; a handler gets data", field="args")
            wish = job.Job(type=job.named(name, ask.handler), data={} if ask.data is None else ask.data)
        else:
            if ask.data is not None:
                raise Validation("data goes with handler; a function gets args and kwargs", field="data")
            data = {"function": ask.function, "args": ask.args, "kwargs": ask.kwargs}
            wish = job.Job(type=job.named(name, "call"), data=data)
        given = spec.Submit(job=wish, priority=ask.priority, idempotency_key=ask.idempotency_key)
        self._enqueue(given, call, _queued)

    # ---- jobs ------------------------------------------------------------------------------------------

    def _job(self, ask: asks.SubmitJob, call: Call) -> None:
        fields = {name: getattr(ask, name) for name in ask.__struct_fields__ if name not in ("type", "data")}
        wish = spec.Submit(job=job.Job(type=ask.type, data=ask.data), **fields)
        self._enqueue(wish, call, _queued)

    def _enqueue(self, wish: spec.Submit, call: Call, reply: Callable[[service.Accepted], Message]) -> None:
        def done(answer: bytes) -> None:
            accepted = msgspec.json.decode(answer, type=service.Accepted)
            clerk.answer(call, lambda: reply(accepted))

        self._submit(wish, call, done)

    def _types(self, ask: asks.ListTypes, call: Call) -> None:
        found = [
            handler
            for name, state in sorted(self._catalogue.plugins.items())
            if state.loaded and state.manifest is not None and ask.plugin in (None, name)
            for handler in state.manifest.handlers
            if self._rights.may(call.token, handler.visibility)
        ]
        call.answer(codec.encode(asks.Types(types=found)))

    # ---- plugins ---------------------------------------------------------------------------------------

    def _plugins(self) -> asks.Plugins:
        return asks.Plugins(plugins=[_plugin(n, s) for n, s in sorted(self._catalogue.plugins.items())])

    def _load(self, ask: asks.Load, call: Call) -> None:
        name = job.plugin_name(ask.name)

        def act(modules: Modules) -> None:
            modules.plugins.load(name, ask.source, loaded)

        def loaded(reason: HindbrainError | str | None) -> None:
            if reason is not None:
                text = str(reason)
                call.refuse(Validation(f"plugin {name} cannot be loaded: {text}", field="source"))
                return
            state = self._catalogue.plugins[name]
            call.answer(codec.encode(asks.OnePlugin(plugin=_plugin(name, state), changed=True, seq=0)))

        self._with(call, act)

    def _unload(self, ask: asks.Unload, call: Call) -> None:
        name = job.plugin_name(ask.name)

        def done(outcomes: Sequence[Outcome]) -> None:
            for outcome in outcomes:
                if outcome.error is not None:
                    call.refuse(outcome.error)
                    continue
                state: plugin.State = outcome.snapshot.state
                self._catalogue.learn(name, state)
                self._modules(Asked(lambda modules: modules.plugins.unload(name), call))
                shown = asks.OnePlugin(plugin=_plugin(name, state), changed=True, seq=outcome.snapshot.seq)
                call.answer(codec.encode(shown))

        command = plugin.Unregister(reason=ask.reason, node=self._node)
        self._log.handle([Ask(PLUGIN, name, command, by=call.by, trace=call.trace)], done)

    # ---- tools -----------------------------------------------------------------------------------------

    def _offered(self) -> list[tuple[str, plugin.Tool]]:
        return [
            (name, tool)
            for name, state in sorted(self._catalogue.plugins.items())
            if state.loaded and state.manifest is not None
            for tool in (*state.manifest.tools, *manifest.implied(state.manifest))
        ]

    def _tools(self, ask: asks.ListTools, call: Call) -> None:
        shown = [
            asks.Tool(
                name=tool.name,
                plugin=name,
                description=tool.description,
                visibility=tool.visibility,
                schema=tool.schema,
                job=tool.job,
            )
            for name, tool in self._offered()
            if self._rights.may(ask.token or call.token, tool.visibility)
        ]
        call.answer(codec.encode(asks.Tools(tools=shown)))

    def _call(self, ask: asks.CallTool, call: Call) -> None:
        offered = {tool.name: (name, tool) for name, tool in self._offered()}
        if ask.name not in offered:
            raise NotFound(f"there is no tool {ask.name!r}; there are {', '.join(offered) or 'none'}")
        name, tool = offered[ask.name]
        if not self._rights.may(ask.token or call.token, tool.visibility):
            raise Conflict(
                f"the tool {tool.name!r} is for {tool.visibility} callers: show the administrators' token",
                visibility=tool.visibility,
            )
        if tool.job:
            wish = spec.Submit(job=job.Job(type=tool.job, data=ask.arguments))

            def reply(accepted: service.Accepted) -> Message:
                said = {"status": "queued", "message": tool.message, "jobId": accepted.execution_id}
                return asks.Called(result=said | {"tip": tool.tip})

            # The job is queued with the authority of the plugin, whose tool this is.
            self._enqueue(wish, msgspec.structs.replace(call, token=self._rights.token), reply)
            return
        self._with(call, lambda modules: self._ask_plugin(modules, name, tool, ask, call))

    def _ask_plugin(
        self, modules: Modules, name: str, tool: plugin.Tool, ask: asks.CallTool, call: Call
    ) -> None:
        def done(value: Any, error: str | None) -> None:
            if error is not None:
                call.refuse(Validation(error, field="arguments"))
            else:
                call.answer(codec.encode(asks.Called(result=value)))

        if not modules.plugins.query(found(modules, name), "tool", tool.name, ask.arguments, done):
            raise Unavailable(f"no worker of {name} is up: try again in a moment")

    # ---- resources -------------------------------------------------------------------------------------

    def _readable(self) -> list[tuple[str, plugin.Resource]]:
        return [
            (name, each)
            for name, state in sorted(self._catalogue.plugins.items())
            if state.loaded and state.manifest is not None
            for each in state.manifest.resources
        ]

    def _read(self, ask: asks.ReadResource, call: Call) -> None:
        known = {each.uri: (name, each) for name, each in self._readable()}
        if ask.uri not in known:
            raise NotFound(f"there is no resource {ask.uri!r}; there are {', '.join(known) or 'none'}")
        name, resource = known[ask.uri]

        def done(value: Any, error: str | None) -> None:
            if error is not None:
                call.refuse(Unavailable(f"{name} cannot say what is at {ask.uri}: {error}"))
                return
            text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            call.answer(codec.encode(asks.Content(uri=ask.uri, mime_type=resource.mime_type, text=text)))

        def act(modules: Modules) -> None:
            if not modules.plugins.query(found(modules, name), "resource", ask.uri, None, done):
                raise Unavailable(f"no worker of {name} is up: try again in a moment")

        self._with(call, act)


def found(modules: Modules, name: str) -> Pool:
    """The module of that name; `NotFound` says which there are."""
    pool = modules.pools.get(name)
    if pool is None:
        raise NotFound(f"Module not found: {name}; there are {', '.join(modules.pools) or 'none'}")
    return pool


def look(modules: Modules, pool: Pool) -> asks.Module:
    """A module as its node sees it now."""
    state, ended = pool.state, pool.completed + pool.failed
    running = state.status in ("running", "paused")
    return asks.Module(
        name=pool.name,
        state=state.status or "starting",
        category=pool.profile.category,
        priority=pool.profile.priority,
        workers=state.workers,
        total=pool.total,
        active=pool.active,
        utilisation=round(100 * pool.active / pool.total, 1) if pool.total else 0.0,
        queue_size=pool.queue,
        tasks_completed=pool.completed,
        tasks_failed=pool.failed,
        success_rate=round(pool.completed / ended, 4) if ended else None,
        uptime=round(time.time() - pool.since, 1) if running and pool.since else 0.0,
        last_activity=None if pool.activity_ms is None else codec.stamp(pool.activity_ms),
        errors=list(pool.errors),
        reason=pool.refusal or state.reason,
        restarts=state.restarts,
        profile=pool.profile,
        seq=state.seq,
        pool=[row for host in pool.hosts.values() for row in _rows(modules.home.node, host)],
    )


def _rows(node: str, host: Host) -> list[asks.Worker]:
    told = {each.name: each for each in host.beat.workers} if host.beat is not None else {}
    share = max(1, len(host.names))
    return [_row(node, host, told.get(name) or hosting.WorkerBeat(name=name), share) for name in host.names]


def _row(node: str, host: Host, beat: hosting.WorkerBeat, share: int) -> asks.Worker:
    return asks.Worker(
        name=beat.name,
        host=host.name,
        node=node,
        pid=host.process.pid,
        state=host.state if host.state != "ready" else "busy" if beat.job else "idle",
        job=beat.job,
        type=beat.type,
        busy_seconds=beat.busy_seconds,
        silent_seconds=beat.silent_seconds,
        completed=beat.completed,
        failed=beat.failed,
        memory_bytes=0 if host.beat is None else host.beat.memory_bytes // share,
        cpu_percent=round(host.cpu / share, 1),
    )


def _plugin(name: str, state: plugin.State) -> asks.Plugin:
    manifest = state.manifest or plugin.Manifest(name=name)
    return asks.Plugin(
        name=name,
        version=manifest.version,
        description=manifest.description,
        loaded=state.loaded,
        source=manifest.source,
        jobs=[each.type for each in manifest.handlers],
        tools=[each.name for each in manifest.tools],
        resources=[each.uri for each in manifest.resources],
    )


def _changed(outcome: Outcome) -> asks.Changed:
    state: module.State = outcome.snapshot.state
    return asks.Changed(
        module=outcome.ask.entity,
        state=state.status,
        workers=state.workers,
        changed=bool(outcome.facts),
        seq=outcome.snapshot.seq,
    )


def _queued(accepted: service.Accepted) -> asks.Queued:
    return asks.Queued(
        execution_id=accepted.execution_id,
        task_id=accepted.execution_id,
        status=accepted.status,
        message=accepted.message,
        monitor_url=accepted.monitor_url,
        seq=accepted.seq,
        duplicate=accepted.duplicate,
    )


def read(text: str) -> plugin.Manifest:
    """Read a manifest as the tables keep it."""
    return msgspec.json.decode(text, type=plugin.Manifest)
