"""Three users share the bus, and none may do more than its part.

`node` may do everything.  `host` runs jobs: it writes the events of executions and takes work.  `client` is
everybody else: it asks, watches and reads, and can write neither the log nor change a stream.  Replies to the
node and to hosts go to inboxes of their own, where a client cannot listen.
"""

from typing import Any, Literal

User = Literal["node", "host", "client"]
USERS: tuple[User, ...] = ("node", "host", "client")
INBOX: dict[User, str] = {"node": "_NODE", "host": "_HOST", "client": "_INBOX"}
"""The inbox prefix of each user; the client's is the one every NATS client has by default."""

_FOLLOWED = ("BRAIN_EVENTS", "BRAIN_OUTPUT", "BRAIN_TELEMETRY", "OBJ_BRAIN_BLOBS")
_READ = (*_FOLLOWED, "BRAIN_DEAD")


def _reading() -> list[str]:
    anywhere = ["$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.STREAM.INFO.*"]
    gets = [
        subject
        for stream in _READ
        for subject in (
            f"$JS.API.STREAM.MSG.GET.{stream}",
            f"$JS.API.DIRECT.GET.{stream}",
            f"$JS.API.DIRECT.GET.{stream}.>",
        )
    ]
    consumers = [
        subject
        for stream in _FOLLOWED
        for subject in (
            f"$JS.API.CONSUMER.CREATE.{stream}",
            f"$JS.API.CONSUMER.CREATE.{stream}.>",
            f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.*",
            f"$JS.API.CONSUMER.INFO.{stream}.*",
            f"$JS.API.CONSUMER.LIST.{stream}",
            f"$JS.API.CONSUMER.NAMES.{stream}",
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.*",
            f"$JS.API.CONSUMER.DELETE.{stream}.*",
            f"$JS.ACK.{stream}.>",
            f"$JS.FC.{stream}.>",
        )
    ]
    return [*anywhere, *gets, *consumers]


_CLIENT_SAYS = ["brain.cmd.>", "brain.inbox.>", "$SRV.>", "$O.BRAIN_BLOBS.>", *_reading()]
_CLIENT_HEARS = ["brain.fact.>", "brain.progress.>", "brain.out.>", "brain.tel.>", "brain.dead.>", "_INBOX.>"]
_HOST_SAYS = [
    *_CLIENT_SAYS,
    "brain.evt.execution.>",
    "brain.out.>",
    "brain.progress.execution.*",
    "brain.tel.execution.*",
]
_HOST_HEARS = [*_CLIENT_HEARS, "_HOST.>"]


def permissions(user: User) -> dict[str, Any] | None:
    """Say what a user may publish and subscribe to, as the server is configured; None is everything."""
    match user:
        case "node":
            return None
        case "host":
            return {"publish": {"allow": _HOST_SAYS}, "subscribe": {"allow": _HOST_HEARS}}
        case "client":
            return {"publish": {"allow": _CLIENT_SAYS}, "subscribe": {"allow": _CLIENT_HEARS}}
