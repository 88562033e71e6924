"""Where a node can be found: it writes down its address in its data folder."""

import json
import os
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from events.errors import Unavailable
from interfaces.settings import Settings


class NoNode(Unavailable):
    """No node runs there: start one with `hindbrain up`."""


def address(settings: Settings) -> str:
    """Say where to connect: the NATS URL of the settings, else that of the node of the data folder."""
    return settings.nats.url or str(running(settings)["nats_url"])


def running(settings: Settings) -> dict[str, Any]:
    """Read what the node of the data folder wrote about itself; `NoNode` when none runs there."""
    info = noted(settings)
    try:
        os.kill(info["pid"], 0)
        if _dead(info["pid"]):
            raise ProcessLookupError(info["pid"])
    except (OSError, KeyError) as error:
        raise NoNode(f"no node runs on {settings.data}: start one with `hindbrain up`") from error
    return info


def noted(settings: Settings) -> dict[str, Any]:
    """Read what the last node of the data folder wrote about itself; it may have been killed since."""
    try:
        return cast("dict[str, Any]", json.loads((settings.data / "node.json").read_bytes()))
    except (OSError, ValueError):
        return {}


def _dead(pid: int) -> bool:
    """Whether it only waits for its parent to take note of its end: such a process still takes signals."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (OSError, IndexError):
        return False


def joining(settings: Settings) -> str:
    """Say with which URL another node joins the bus of this one; it carries the rights of a node."""
    own = urlsplit(str(running(settings)["nats_url"]))
    try:
        kept = json.loads((settings.data / "nats" / "credentials.json").read_bytes())
    except OSError as error:
        raise Unavailable(f"the bus of {settings.data} is not its own: ask where it runs") from error
    return f"nats://node:{kept['passwords']['node']}@{own.hostname}:{own.port}"
