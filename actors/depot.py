"""Where the content of artifacts lies: in a folder, each under its hash.

Other places are entry points of the group `hindbrain.artifacts`: a class, or a function, that takes a
`events.ports.Place` and gives a `events.ports.Depot`.
"""

import os
import secrets
import shutil
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

from events.errors import NotFound, Validation
from events.params import near
from events.ports import Depot, Place

GROUP = "hindbrain.artifacts"
REFUSED = {
    "weaviate": "weaviate keeps vectors, not files: install a package that offers the entry point 'weaviate' "
    f"of the group {GROUP!r}, or use one of",
}


class Local:
    """A folder: `<workspace>/artifacts/<hash>`."""

    def __init__(self, place: Place) -> None:
        self._folder = place.folder

    def put(self, sha256: str, source: Path) -> None:
        """Keep the content of a file; what is there already stays."""
        target = self._folder / sha256
        if self.size(sha256) == source.stat().st_size:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self._folder / f".{sha256}.{secrets.token_hex(4)}"
        try:
            with source.open("rb") as given, open(part, "xb", opener=_private) as kept:
                shutil.copyfileobj(given, kept)
                kept.flush()
                os.fsync(kept.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def path(self, sha256: str) -> Path:
        """Where it lies."""
        return self._folder / sha256

    def size(self, sha256: str) -> int | None:
        """How many bytes of it there are; None when it is not there."""
        try:
            return (self._folder / sha256).stat().st_size
        except FileNotFoundError:
            return None

    def fetch(self, sha256: str, target: Path) -> None:
        """Write the content to a file."""
        try:
            with (self._folder / sha256).open("rb") as kept, open(target, "xb", opener=_private) as file:
                shutil.copyfileobj(kept, file)
        except FileNotFoundError:
            raise NotFound(f"{self._folder / sha256} is not there") from None

    def remove(self, sha256: str) -> None:
        """Keep it no more."""
        (self._folder / sha256).unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def names() -> list[str]:
    """Which backends are installed."""
    return sorted(each.name for each in entry_points(group=GROUP))


def maker(name: str) -> Callable[[Place], Depot]:
    """Find a backend by its name; `Validation` says which there are."""
    found = list(entry_points(group=GROUP, name=name))
    if not found:
        if name in REFUSED:
            raise Validation(f"{REFUSED[name]} {', '.join(names())}", field="backend")
        raise Validation(f"unknown backend {name!r}, {near(name, names())}", field="backend")
    make: Callable[[Place], Depot] = found[0].load()
    return make
