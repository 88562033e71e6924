"""Secrets, kept outside the log: private files of the node that took the command, until the execution ends.

Events carry only the names and a keyed hash of each value.  The key never leaves the data folder, so the hash
tells that two executions of this node had the same secret, and nothing else.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from events.ids import TOKEN
from events.spec import SECRET_NAME, Spec

MASKED_FROM = 4
"""Values of fewer characters are not masked in output: they would blank out half of it and hide nothing."""


def split(env: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Part an environment into what may be stored as it is, and what looks like a secret by its name."""
    hidden = {name: value for name, value in env.items() if SECRET_NAME.search(name)}
    return {name: value for name, value in env.items() if name not in hidden}, hidden


class Vault:
    """The private files in one folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._key = self._load_key()
        self._names = set(self.kept())
        """Of what there are secrets here, so that nobody has to look for what is not."""

    def _load_key(self) -> bytes:
        path = self._folder / "key"
        try:
            with open(path, "xb", opener=_private) as file:
                file.write(secrets.token_bytes(32))
        except FileExistsError:
            pass
        return path.read_bytes()

    def hashes(self, values: dict[str, str]) -> dict[str, str]:
        """What events may know of some secrets."""
        return {
            name: hmac.new(self._key, value.encode(), hashlib.sha256).hexdigest()[:32]
            for name, value in values.items()
        }

    def put(self, entity: str, values: dict[str, str]) -> bool:
        """Keep the secrets of an execution, durably; False when it has some already, which stay."""
        try:
            with open(self._path(entity), "x", opener=_private) as file:
                json.dump(values, file)
                file.flush()
                os.fsync(file.fileno())
        except FileExistsError:
            return False
        self._names.add(entity)
        return True

    def get(self, entity: str) -> dict[str, str] | None:
        """The secrets of an execution; None when they are not here."""
        try:
            return json.loads(self._path(entity).read_text())
        except FileNotFoundError:
            return None

    def of(self, entity: str, spec: Spec) -> dict[str, str] | None:
        """What an execution needs: from its own file, or as a step from that of its plan or playbook.

        There a value stands under `<step>/<name>`, or under its name when all steps share it.
        """
        if not spec.secrets:
            return {}
        own = self.get(entity)
        above = spec.plan_id or spec.playbook_id
        if own is not None or above is None:
            return own
        shared = self.get(above) or {}
        found = {name: shared.get(f"{spec.step}/{name}", shared.get(name)) for name in spec.secrets}
        whole = {name: value for name, value in found.items() if value is not None}
        return whole if len(whole) == len(found) else None

    def drop(self, entity: str) -> None:
        """Forget them."""
        self._path(entity).unlink(missing_ok=True)
        self._names.discard(entity)

    def __contains__(self, entity: object) -> bool:
        return entity in self._names

    def forget(self, entities: Iterable[str]) -> None:
        """Drop what there is of these."""
        for entity in self._names.intersection(entities):
            self.drop(entity)

    def kept(self) -> list[str]:
        """Of which executions there are secrets."""
        return [path.stem for path in self._folder.glob("*.json")]

    def _path(self, entity: str) -> Path:
        if not TOKEN.fullmatch(entity):
            raise ValueError(f"not an id: {entity!r}")
        return self._folder / f"{entity}.json"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class Mask:
    """Blanks out secrets in a stream of bytes, keeping every offset: each byte of a value becomes `*`.

    A value may be cut by the edge of a chunk, so the last bytes that could be the beginning of one are held
    back until more comes or the stream ends.
    """

    def __init__(self, values: list[str]) -> None:
        self._values = sorted(
            {value.encode() for value in values if len(value) >= MASKED_FROM}, key=len, reverse=True
        )
        self._rest, self._shown = b"", b""

    @property
    def held(self) -> int:
        """How many bytes are held back."""
        return len(self._rest)

    def feed(self, data: bytes, end: bool = False) -> bytes:
        """Take bytes, give back those that are settled."""
        shown = bytearray(self._shown + data)
        data = self._rest + data
        self._blank(data, shown)
        keep = 0 if end else max((self._overlap(data, value) for value in self._values), default=0)
        settled = len(data) - keep
        self._rest, self._shown = data[settled:], bytes(shown[settled:])
        return bytes(shown[:settled])

    def whole(self, text: str) -> str:
        """Blank out secrets in a text of its own."""
        data = text.encode(errors="replace")
        shown = bytearray(data)
        self._blank(data, shown)
        return shown.decode(errors="replace")

    def _blank(self, data: bytes, shown: bytearray) -> None:
        """Find the values in the bytes as they came: they may overlap, or one be the beginning of another."""
        for value in self._values:
            at = data.find(value)
            while at >= 0:
                shown[at : at + len(value)] = b"*" * len(value)
                at = data.find(value, at + 1)

    @staticmethod
    def _overlap(data: bytes, value: bytes) -> int:
        return next((n for n in range(min(len(value) - 1, len(data)), 0, -1) if data.endswith(value[:n])), 0)
