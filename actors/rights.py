"""Who may use what of the plugins: everybody has one right, and administrators show a token.

It looks at what a request states.  A tool queues its job with the plugin's own authority, so offering a tool
is how a plugin lets others have something done that they may not ask for themselves.
"""

import hmac
import secrets
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import msgspec

from actors.catalogue import Catalogue
from actors.files import private
from events.asks.module import SubmitJob, SubmitTask
from events.errors import Conflict, Validation
from events.job import Job
from events.ports import Call
from events.spec import Submit

RANKS = ("public", "trusted", "admin")


class Rights:
    """What callers may use."""

    def __init__(self, right: str = "trusted", token: str = "") -> None:
        """Prepare; `right` is that of callers who show nothing, `token` what administrators show."""
        self._right, self.token = right, token

    def may(self, shown: str | None, visibility: str) -> bool:
        """Whether one who shows this may use that; `Validation` when it needs a token, and this is none."""
        if RANKS.index(visibility) <= RANKS.index(self._right):
            return True
        if not shown:
            return False
        if not hmac.compare_digest(shown.encode(), self.token.encode()):
            raise Validation("this is not the administrators' token", field="token")
        return True

    def check(self, call: Call, ask: Any, catalogue: Catalogue) -> None:
        """Refuse a request that states a job which is not for its caller, wherever in it that stands.

        What no plugin here has ever said anything about is let through: there is nothing to go by.
        """
        for each in stated(ask):
            state = catalogue.plugins.get(each.plugin)
            handler = None if state is None or state.manifest is None else state.manifest.handler(each.type)
            if handler is not None and not self.may(call.token, handler.visibility):
                raise Conflict(
                    f"the job {each.type!r} is for {handler.visibility} callers: "
                    "show the administrators' token",
                    visibility=handler.visibility,
                )


def stated(ask: Any) -> Generator[Job]:
    """Every job that a request names: one to be run now, or in steps of whatever depth."""
    match ask:
        case Submit(job=job) if type(ask) is Submit:  # the most frequent by far; nothing else in it holds one
            if job is not None:
                yield job
        case Job():
            yield ask
        case SubmitJob(type=kind):
            yield Job(type=kind)
        case SubmitTask(module=module, handler=handler):
            kind = "call" if handler is None else handler
            yield Job(type=kind if ":" in kind else f"{module}:{kind}")
        case msgspec.Struct():
            for name in ask.__struct_fields__:
                yield from stated(getattr(ask, name))
        case list() | tuple():
            for each in cast("list[Any]", ask):
                yield from stated(each)
        case _:
            return


def administrators(data: Path) -> str:
    """What administrators show: made once, readable by the owner of the data folder alone."""
    path = data / "admin.token"
    if not path.exists():
        private(path, secrets.token_urlsafe(24))
    return path.read_text().strip()
