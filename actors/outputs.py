"""What a step of a plan leaves for the steps after it, in the file that `$HINDBRAIN_OUTPUT` names."""

import re
from pathlib import Path
from typing import Any

import msgspec

from actors.vault import Mask

MOST = 64 * 1024
"""Bytes of such a file; a larger one is left out."""
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


def read(path: Path, mask: Mask) -> tuple[dict[str, Any], str | None]:
    """Read a JSON object, or lines `key=value`; what cannot be read is left out, and the note says why."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST + 1)
    except OSError:
        return {}, None
    if len(data) > MOST:
        return {}, f"its outputs are left out: the file is larger than {MOST} bytes"
    try:
        text = mask.whole(data.decode()).strip()
    except UnicodeDecodeError:
        return {}, "its outputs are left out: the file is not UTF-8"
    if not text.startswith("{"):
        return _lines(text)
    try:
        found = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        return {}, f"its outputs are left out: they begin like a JSON object, and are none: {error}"
    if bad := next((name for name in found if not NAME.fullmatch(name)), None):
        return {}, f"its outputs are left out: bad name {bad[:64]!r}"
    return found, None


def _lines(text: str) -> tuple[dict[str, Any], str | None]:
    found: dict[str, Any] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, equals, value = line.partition("=")
        if not line.strip():
            continue
        if not equals or not NAME.fullmatch(name.strip()):
            return {}, f"its outputs are left out: line {number} is not key=value"
        found[name.strip()] = value.strip()
    return found, None
