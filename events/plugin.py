"""A plugin: which types of jobs, tools and resources it brings, from when it is loaded until it is not.

Whoever is asked to take a job knows from these facts what the job's input has to be; the plugin's own code
is not needed for that and never runs in a node.
"""

from typing import TYPE_CHECKING, Any, Literal

from events.errors import Conflict, NotFound
from events.message import Command, Event, Message
from events.module import Profile
from events.ports import Decider
from events.spec import Priority, Retries

if TYPE_CHECKING:
    from events.codec import Fact

Visibility = Literal["public", "trusted", "admin"]
"""Who may see and use it: everybody, those who were given the right, administrators."""


class Handler(Message):
    """One type of job."""

    type: str
    """`plugin:name`."""
    description: str = ""
    input: dict[str, Any] | None = None
    """The JSON Schema of what it takes; None: anything."""
    output: dict[str, Any] | None = None
    """The JSON Schema of what it gives."""
    retries: Retries | None = None
    timeout_ms: int | None = None
    priority: Priority = "medium"
    visibility: Visibility = "public"
    repeatable: bool = False
    """It may run twice without harm, so a short one needs no record of its start."""
    checks: bool = False
    """It has a check of its own beyond the schema, which its plugin makes before a job is taken."""


class Tool(Message):
    """Something that can be called by name and answers at once."""

    name: str
    description: str
    schema: dict[str, Any] = {}
    visibility: Visibility = "public"
    job: str = ""
    """The type of job that a call enqueues; without it the plugin answers itself."""
    message: str = ""
    tip: str = ""


class Resource(Message):
    """Something that can be read by its address."""

    uri: str
    name: str
    description: str = ""
    mime_type: str = "text/plain"


class Manifest(Message):
    """All that a plugin says of itself."""

    name: str
    version: str = "0"
    description: str = ""
    source: str = ""
    """Where its code comes from: an entry point, or `package.module:name`."""
    handlers: tuple[Handler, ...] = ()
    tools: tuple[Tool, ...] = ()
    resources: tuple[Resource, ...] = ()
    profile: Profile = Profile()
    """What its module is to be."""

    def handler(self, kind: str) -> Handler | None:
        """The handler of a type of job, if it has one."""
        return next((each for each in self.handlers if each.type == kind), None)


class Registered(Event):
    """It takes jobs from now on."""

    manifest: Manifest
    node: str


class Unregistered(Event):
    """It takes no more; what is queued for it waits."""

    reason: str = ""
    node: str = ""


class Register(Command):
    """It was loaded."""

    manifest: Manifest
    node: str


class Unregister(Command):
    """Unload it."""

    reason: str = ""
    node: str = ""


AnyEvent = Registered | Unregistered
AnyCommand = Register | Unregister
EVENTS = (Registered, Unregistered)


class State(Message):
    """What is known of a plugin."""

    manifest: Manifest | None = None
    loaded: bool = False


def decide(state: State, command: AnyCommand) -> tuple[AnyEvent, ...]:
    """Say what happens; to load the same again changes nothing."""
    match command:
        case Register(manifest=manifest, node=node):
            if state.loaded and manifest == state.manifest:
                return ()
            return (Registered(manifest=manifest, node=node),)
        case Unregister() if state.manifest is None:
            raise NotFound("Plugin not found")
        case Unregister(reason=reason, node=node):
            if not state.loaded:
                raise Conflict("it is not loaded")
            return (Unregistered(reason=reason, node=node),)


def evolve(state: State, fact: "Fact") -> State:
    """Fold one fact into the state."""
    match fact.event:
        case Registered(manifest=manifest):
            return State(manifest=manifest, loaded=True)
        case Unregistered():
            return State(manifest=state.manifest, loaded=False)
        case _:
            return state


PLUGIN = Decider("plugin", State(), decide, evolve)
