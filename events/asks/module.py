"""What can be asked of modules, plugins, tools and jobs, and what is answered."""

from typing import Any

from events.message import Message
from events.module import Profile
from events.plugin import Handler, Resource
from events.spec import Retries, Strict
from events.verb import Verb

# ---- modules ---------------------------------------------------------------------------------------------


class ListModules(Strict):
    """All modules."""


class Which(Strict):
    """One module."""

    module: str


class Act(Strict):
    """Do it to one module."""

    module: str
    reason: str = ""


class Start(Strict):
    """Have a module of functions, from now on until the node goes down; one that is there stays as it is."""

    module: str
    profile: dict[str, Any] = {}
    """What it is: `category`, `priority`, `workers`, ... as in the settings."""


class Scale(Strict):
    """Have so many workers from now on."""

    module: str
    workers: int
    reason: str = ""


class SubmitTask(Strict):
    """Have a module run something: a handler by its name, or a function that can be imported."""

    module: str
    handler: str | None = None
    """A handler of the module, with or without the plugin's name before it."""
    function: str | None = None
    """`package.module:name`, in place of `handler`."""
    data: Any = None
    """What the handler is given."""
    args: list[Any] = []
    """What the function is given."""
    kwargs: dict[str, Any] = {}
    priority: str | int = "medium"
    idempotency_key: str | None = None


class Worker(Message, omit_defaults=False):
    """A worker as its node sees it now."""

    name: str
    host: str
    node: str
    pid: int
    state: str
    """`idle`, `busy`, `starting` or `leaving`."""
    job: str | None
    type: str | None
    busy_seconds: float
    silent_seconds: float
    completed: int
    failed: int
    memory_bytes: int
    cpu_percent: float


class Module(Message, omit_defaults=False):
    """A module as its node sees it now."""

    name: str
    state: str
    category: str
    priority: str
    workers: int
    """How many it is to have on each node that runs it."""
    total: int
    """How many are up."""
    active: int
    """How many have a job in hand."""
    utilisation: float
    """`active` of `total`, in percent."""
    queue_size: int | None
    tasks_completed: int
    tasks_failed: int
    success_rate: float | None
    """A fraction from 0 to 1; null before anything has ended."""
    uptime: float
    """Seconds since it was started."""
    last_activity: str | None
    errors: list[str]
    """What jobs failed of lately."""
    reason: str
    """Why it stands where it stands."""
    restarts: int
    profile: Profile
    seq: int
    pool: list[Worker]


class Modules(Message):
    """Modules by name."""

    modules: list[Module]


class OneModule(Message):
    """One module."""

    module: Module


class Changed(Message, omit_defaults=False):
    """What became of a module."""

    module: str
    state: str
    workers: int
    changed: bool
    seq: int


# ---- plugins and their tools -----------------------------------------------------------------------------


class ListPlugins(Strict):
    """All plugins that were ever loaded."""


class Load(Strict):
    """Load a plugin, or load it again after it was changed."""

    name: str
    source: str | None = None
    """`package.module:name`; without it, an installed plugin of that name."""


class Unload(Strict):
    """Take no more jobs for a plugin; what is queued for it waits."""

    name: str
    reason: str = ""


class Plugin(Message, omit_defaults=False):
    """A plugin and what it brings."""

    name: str
    version: str
    description: str
    loaded: bool
    source: str
    jobs: list[str]
    tools: list[str]
    resources: list[str]


class Plugins(Message):
    """Plugins by name."""

    plugins: list[Plugin]


class OnePlugin(Message, omit_defaults=False):
    """A plugin was loaded or unloaded."""

    plugin: Plugin
    changed: bool
    seq: int


class ListTools(Strict):
    """The tools that may be seen."""

    token: str | None = None
    """Shows that the caller is an administrator."""


class CallTool(Strict):
    """Call a tool by its name."""

    name: str
    arguments: dict[str, Any] = {}
    token: str | None = None
    """Shows that the caller is an administrator."""


class Tool(Message, omit_defaults=False):
    """A tool."""

    name: str
    plugin: str
    description: str
    visibility: str
    schema: dict[str, Any]
    job: str


class Tools(Message):
    """Tools by name."""

    tools: list[Tool]


class ListResources(Strict):
    """What plugins have to read."""


class Resources(Message):
    """Resources by address."""

    resources: list[Resource]


class ReadResource(Strict):
    """Read one by its address."""

    uri: str


class Content(Message, omit_defaults=False):
    """What is there now: a text, or JSON as one."""

    uri: str
    mime_type: str
    text: str


class Called(Message, omit_defaults=False):
    """What a tool answered."""

    result: Any


# ---- jobs ------------------------------------------------------------------------------------------------


class SubmitJob(Strict):
    """Run a job: the same as `execution.submit` with the form `job`."""

    type: str
    data: Any = {}
    timeout_ms: int | None = None
    description: str | None = None
    labels: list[str] = []
    priority: str | int = "medium"
    idempotency_key: str | None = None
    retries: Retries | None = None
    concurrency_key: str | None = None
    delay_ms: int | None = None
    at: str | None = None


class ListTypes(Strict):
    """The types of jobs that are taken now."""

    plugin: str | None = None


class Types(Message):
    """Types of jobs, with what they take and give."""

    types: list[Handler]


class Queued(Message, omit_defaults=False):
    """A job was stored."""

    execution_id: str
    task_id: str
    """The same id."""
    status: str
    message: str
    monitor_url: str
    seq: int
    duplicate: bool = False


VERBS = (
    Verb("module", "list", ListModules, Modules, "All modules and how they are doing on this node."),
    Verb("module", "status", Which, OneModule, "One module with its workers."),
    Verb("module", "start", Start, Changed, "Bring up a module that runs functions which can be imported."),
    Verb("module", "pause", Act, Changed, "Finish what is in hand and take nothing more."),
    Verb("module", "resume", Act, Changed, "Take work again."),
    Verb("module", "scale", Scale, Changed, "Have another number of workers."),
    Verb("module", "restart", Act, Changed, "Make all workers anew, also after an error."),
    Verb("module", "submit", SubmitTask, Queued, "Have a module run a handler or a function."),
    Verb("job", "submit", SubmitJob, Queued, "Run a job of a plugin."),
    Verb("job", "types", ListTypes, Types, "The types of jobs, with their schemas."),
    Verb("plugin", "list", ListPlugins, Plugins, "All plugins and what they bring."),
    Verb("plugin", "load", Load, OnePlugin, "Load a plugin while the node runs, or another version of it."),
    Verb("plugin", "unload", Unload, OnePlugin, "Take no more jobs for a plugin; its queue waits."),
    Verb("plugin", "tools", ListTools, Tools, "The tools of plugins."),
    Verb("plugin", "call", CallTool, Called, "Call a tool of a plugin."),
    Verb("plugin", "resources", ListResources, Resources, "What plugins have to read."),
    Verb("plugin", "read", ReadResource, Content, "Read a resource of a plugin."),
)
