"""Artifacts that are kept on the bus: in the object store `BRAIN_ARTIFACTS`, where every node reads them."""

from pathlib import Path

from bus import blobs, streams
from bus.blobs import Blobs
from bus.bridge import Bridge
from events.errors import Internal
from events.ports import Place

LOOK_SECONDS = 15.0
MOVE_SECONDS = 300.0
"""How long moving the largest artifact may take."""


class Objects:
    """An object store of the bus; must not be called from its loop."""

    def __init__(self, place: Place) -> None:
        if not isinstance(place.bus, Bridge):
            raise Internal("the bus is not there")
        self._bridge = place.bus
        self._blobs = Blobs(place.bus, bucket=streams.ARTIFACTS)

    def put(self, sha256: str, source: Path) -> None:  # noqa: ARG002 -- it is named by what it holds
        """Keep the content of a file; what is there already stays."""
        self._bridge.call(blobs.put(self._bridge, source, bucket=streams.ARTIFACTS), MOVE_SECONDS)

    def size(self, sha256: str) -> int | None:
        """How many bytes of it there are; None when it is not there."""
        return self._bridge.call(self._blobs.size(sha256), LOOK_SECONDS)

    def fetch(self, sha256: str, target: Path) -> None:
        """Write the content to a file."""
        self._bridge.call(self._blobs.get(sha256, target), MOVE_SECONDS)

    def remove(self, sha256: str) -> None:
        """Keep it no more."""
        self._bridge.call(self._blobs.remove(sha256), LOOK_SECONDS)
