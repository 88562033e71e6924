"""What a plugin is made of; of Hindbrain a plugin imports this and nothing else.

    plugin = Plugin("greeter", version="1.0")

    class Greeting(msgspec.Struct):
        '''Whom to greet.'''

        name: str

    @plugin.job()
    def greet(greeting: Greeting, context: Context) -> str:
        '''Say hello.'''
        context.progress("saying hello", 1, 1)
        return f"Hello, {greeting.name}!"

The first parameter's annotation is what a job takes: it is checked before the job is queued.  A handler runs
in a process of its plugin's module, never in the node; async functions are fine too.

It is long because it is the one file that a plugin may know.
"""

import inspect
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Generic, Protocol, TypeVar, cast, get_type_hints

import msgspec

from events.plugin import Visibility
from events.spec import Priority, Retries

__all__ = [
    "Answer",
    "Cancelled",
    "Capabilities",
    "Context",
    "Handler",
    "JobHandler",
    "Plugin",
    "PluginContext",
    "PluginLike",
    "Resource",
    "Retries",
    "Tool",
]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class Cancelled(BaseException):
    """The job was asked to stop; let it pass, after tidying up."""


class Options(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What holds for a type of job unless its submitter says something else."""

    description: str = ""
    retries: Retries | None = None
    timeout_ms: int | None = None
    """How long one attempt may take."""
    priority: Priority = "medium"
    visibility: Visibility = "public"
    repeatable: bool = False
    """It may run twice without harm, so a short one needs no record of its start: quicker by a third."""


class Tool(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that people and agents can call by its name, answered at once.

    With `job` a call enqueues that type of job with what it was given, and answers `message` and `tip` with
    the id.  With `handler` that function is called with what was given and the plugin's context, and its
    answer is the answer.
    """

    name: str
    description: str
    job: str = ""
    handler: Callable[..., Any] | None = None
    schema: Any = None
    """A type that says what it takes, or a JSON Schema; with `job`, that job's when left out."""
    visibility: Visibility = "public"
    message: str = "Job queued"
    tip: str = "Use the status tool to check progress"


class Resource(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that can be read by its address.

    `handler` is called with the plugin's context whenever somebody reads it: its answer is the content, a
    text or what becomes JSON.
    """

    uri: str
    name: str
    handler: Callable[..., Any] | None = None
    description: str = ""
    mime_type: str = "text/plain"


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a plugin brings beside its jobs."""

    tools: Sequence[Tool] = ()
    resources: Sequence[Resource] = ()


class Answer(Generic[T]):
    """Something that is on its way: `await` it in an async handler, or call `result()` in a plain one."""

    def __init__(self, future: "Future[T]") -> None:
        self._future = future

    def result(self, timeout: float | None = None) -> T:
        """Wait for it, at most `timeout` seconds (`TimeoutError`)."""
        return self._future.result(timeout)

    def __await__(self) -> Generator[Any, None, T]:
        import asyncio

        return asyncio.wrap_future(self._future).__await__()


class Jobs(Protocol):
    """How a context reaches the rest of the system; given by the process that runs the plugin."""

    def request(
        self, kind: str, verb: str, body: Mapping[str, Any], timeout: float
    ) -> "Future[dict[str, Any]]":
        """Ask any verb."""
        ...


class PluginContext:
    """What a plugin is given when it registers, and its tools when they are called: generic services only."""

    def __init__(self, plugin: str, jobs: Jobs) -> None:
        self.plugin = plugin
        self._jobs = jobs
        self.handlers: dict[str, Handler] = {}
        """What was registered, by type."""

    def register_job_handler(
        self, kind: str, handler: "Callable[..., Any] | JobHandler", **options: Any
    ) -> None:
        """Have jobs of this type (put under the plugin's name) run by a function or a `JobHandler`."""
        whole = self.typed(kind)
        if not whole.startswith(f"{self.plugin}:"):
            raise ValueError(f"{whole} is not under {self.plugin}: a plugin registers its own types only")
        if whole in self.handlers:
            raise ValueError(f"there are two handlers of {whole}")
        self.handlers[whole] = Handler(whole, handler, msgspec.convert(options, Options))

    def unregister_job_handler(self, kind: str) -> None:
        """Take no more jobs of this type."""
        del self.handlers[self.typed(kind)]

    def typed(self, name: str) -> str:
        """The whole name of a type of job."""
        return name if ":" in name else f"{self.plugin}:{name}"

    def enqueue_job(self, kind: str, data: Any = None, **beside: Any) -> Answer[str]:
        """Submit a job; answers its id.  `beside`: what may stand beside a command (`labels`, ...)."""
        ask = {"job": {"type": self.typed(kind), "data": _plain(data)}, **beside}
        return _taken(self._jobs.request("execution", "submit", ask, 30.0), "execution_id")

    def enqueue_batch(
        self, kind: str, items: Sequence[Any], said: str | None = None, **beside: Any
    ) -> Answer[dict[str, Any]]:
        """Submit one job for each item; answers `batchId`, `message` and `tip`.

        `said` is what is told while one of them runs; `${item.name}` is filled in.
        """
        do = {"job": {"type": self.typed(kind), "data": "${item}"}, "description": said}
        ask = {"do": do, "items": [_plain(item) for item in items], **beside}
        return Answer(self._jobs.request("batch", "submit", ask, 30.0))

    def get_job_status(self, job_id: str) -> Answer[dict[str, Any]]:
        """One job (or any execution) as it is now."""
        return _taken(self._jobs.request("execution", "get", {"execution_id": job_id}, 10.0), "execution")

    def wait_for_job(self, job_id: str, timeout: float = 30.0) -> Answer[dict[str, Any]]:
        """The same once it is over, or after so many seconds."""
        ask = {"execution_id": job_id, "timeout_ms": round(timeout * 1000)}
        return _taken(self._jobs.request("execution", "wait", ask, timeout + 10.0), "execution")

    def send(self, module: str, message: Any) -> Answer[str]:
        """Tell another module something: its `@plugin.on` handler of that message gets it, exactly once."""
        kind = cast("type[Any]", type(message))
        return self.enqueue_job(f"{module}:{message_name(kind)}", message)


class Context(PluginContext):
    """One attempt of one job, as its handler sees it."""

    def __init__(
        self,
        plugin: str,
        jobs: Jobs,
        job_id: str,
        kind: str,
        attempt: int,
        port: "Port",
        remaining: Callable[[], float | None],
    ) -> None:
        super().__init__(plugin, jobs)
        self.job_id, self.type, self.attempt = job_id, kind, attempt
        self._port, self._remaining = port, remaining

    @property
    def cancelled(self) -> bool:
        """Whether it was asked to stop."""
        return self._port.cancelled

    @property
    def remaining(self) -> float | None:
        """Seconds until the time is up; None when it may take as long as it likes."""
        return self._remaining()

    def check(self) -> None:
        """Raise `Cancelled` when it was asked to stop."""
        if self._port.cancelled:
            raise Cancelled

    def progress(
        self,
        message: str | None = None,
        current: float | None = None,
        total: float | None = None,
        unit: str | None = None,
    ) -> None:
        """Say how far it is; as often as you like, what is too much is left out."""
        self._port.progress(message, current, total, unit)

    def log(self, text: str) -> None:
        """Write a line to the output of this job; `print` does the same."""
        self._port.write(text if text.endswith("\n") else text + "\n")

    def once(self, name: str, part: Callable[..., T], *args: Any) -> T:
        """Do a part of the job once: after a crash or a retry the kept result is given, not done again.

        What it returns must be plain data (what JSON can hold).  Async parts are awaited by the caller of
        `once_async`.
        """
        known, value = self._port.recall(name)
        if known:
            return cast("T", value)
        return cast("T", self._port.remember(name, part(*args)))

    async def once_async(self, name: str, part: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Do the same with an async part."""
        import asyncio

        known, value = self._port.recall(name)
        if known:
            return cast("T", value)
        made = await part(*args)
        return cast("T", await asyncio.to_thread(self._port.remember, name, made))


class Port(Protocol):
    """What a context needs of the worker that runs its job."""

    @property
    def cancelled(self) -> bool:
        """Whether the job was asked to stop."""
        ...

    def progress(
        self, message: str | None, current: float | None, total: float | None, unit: str | None
    ) -> None:
        """Tell how far it is."""
        ...

    def write(self, text: str) -> None:
        """Add to its output."""
        ...

    def recall(self, name: str) -> tuple[bool, Any]:
        """Whether a part is done, and what it gave."""
        ...

    def remember(self, name: str, value: Any) -> Any:
        """Keep what a part gave; returns once it is stored."""
        ...


class JobHandler(Protocol):
    """The class form of a handler; `validate_and_parse` and `on_error` may be left out."""

    def process(self, data: Any, job_id: str) -> Any:
        """Do it; may be async."""
        ...


class Handler:
    """One type of job: what runs it, what it takes and gives."""

    def __init__(self, kind: str, handler: "Callable[..., Any] | JobHandler", options: Options) -> None:
        self.type, self.options = kind, options
        process = getattr(handler, "process", None)
        self.parse: Callable[[Any], Any] | None = getattr(handler, "validate_and_parse", None)
        """Turns data into what the handler takes; None or an error refuses it."""
        self.on_error: Callable[..., Any] | None = getattr(handler, "on_error", None)
        self.classic = process is not None
        """It is called with the data and the job's id, not with a context."""
        self.run: Callable[..., Any] = cast("Callable[..., Any]", process or handler)
        self.takes_data, self.takes_context, self.input, self.output = _signature(self.run, self.classic)
        self.description = options.description or inspect.getdoc(self.run) or ""
        self._decode = None if self.input is None else _decoder(self.input)

    def read(self, data: Any) -> Any:
        """Make what the handler takes of what came; `ValueError` says what is wrong with it."""
        if self.parse is not None:
            parsed = self.parse(data)
            if parsed is None:
                raise ValueError(f"{self.type} does not take this data")
            return parsed
        return data if self._decode is None else self._decode(data)


class PluginLike(Protocol):
    """Anything with a name that can register."""

    name: str

    def register(self, context: PluginContext) -> Capabilities | None:
        """Register job handlers, and say what else there is."""
        ...


class Plugin:
    """A name and some functions.

    Keywords beyond these describe the module that runs its jobs:

    `category`, `priority`, `workers` (how many at first), `max_workers`, `isolation` (`shared`: threads of
    one process; `process`: one process each, killed on timeout and cancel), `depends_on`, `cpu_affinity`,
    `recycle_jobs`, `memory_bytes`, `max_silence_seconds`.
    """

    def __init__(self, name: str, *, version: str = "0", description: str = "", **module: Any) -> None:
        self.name, self.version, self.description, self.module = name, version, description, module
        self._jobs: list[tuple[str, Any, dict[str, Any]]] = []
        self._tools: list[Tool] = []
        self._resources: list[Resource] = []

    def job(self, name: str | None = None, **options: Any) -> Callable[[F], F]:
        """Make a function the handler of a type of job; its own name, with dashes, when none is given."""

        def taken(function: F) -> F:
            title = name or cast("Any", function).__name__.replace("_", "-")
            self._jobs.append((title, function, options))
            return function

        return taken

    def on(self, message: type[Any], **options: Any) -> Callable[[F], F]:
        """Make a function the one that gets messages of that class which others `send` to this module."""

        def taken(function: F) -> F:
            self._jobs.append((message_name(message), function, options))
            return function

        return taken

    def tool(self, name: str, description: str, **more: Any) -> None:
        """Offer a tool; see `Tool` for the rest."""
        self._tools.append(Tool(name=name, description=description, **more))

    def resource(self, uri: str, name: str, **more: Any) -> None:
        """Offer a resource; see `Resource` for the rest."""
        self._resources.append(Resource(uri=uri, name=name, **more))

    def register(self, context: PluginContext) -> Capabilities:
        """Register all of it."""
        for name, handler, options in self._jobs:
            context.register_job_handler(name, handler, **options)
        return Capabilities(tools=self._tools, resources=self._resources)


def message_name(message: type[Any]) -> str:
    """The type of job by which a message travels: `on-` and its class name in lower case."""
    return f"on-{message.__name__.lower()}"


def _taken(future: "Future[dict[str, Any]]", field: str) -> Answer[Any]:
    part: Future[Any] = Future()

    def done(whole: "Future[dict[str, Any]]") -> None:
        error = whole.exception()
        if error is not None:
            part.set_exception(error)
        else:
            part.set_result(whole.result()[field])

    future.add_done_callback(done)
    return Answer(part)


def _plain(data: Any) -> Any:
    """Data as JSON holds it."""
    return {} if data is None else msgspec.to_builtins(data)


def _signature(run: Callable[..., Any], classic: bool) -> tuple[bool, bool, Any, Any]:
    """Whether a handler takes data and a context, and the types of what it takes and gives."""
    try:
        hints = get_type_hints(run)
    except NameError as error:
        raise ValueError(f"an annotation of {run} cannot be read: {error}") from error
    output = hints.pop("return", None)
    names = [name for name in inspect.signature(run).parameters if name != "self"]
    if classic:
        return True, False, hints.get(names[0]) if names else None, output
    contexts = [name for name in names if hints.get(name) is Context or name == "context"]
    data = [name for name in names if name not in contexts]
    if len(data) > 1 or len(contexts) > 1:
        raise ValueError(f"{run} must take what the job is given, and a Context, and no more")
    if contexts and data and names[0] != data[0]:
        raise ValueError(f"{run} must take what the job is given first, and the Context second")
    return bool(data), bool(contexts), hints.get(data[0]) if data else None, output


def _decoder(kind: Any) -> Callable[[Any], Any]:
    def decode(data: Any) -> Any:
        return msgspec.convert(data, kind)

    return decode
