"""A policy of the scaler in a file: TOML, YAML or JSON, one tree; what is wrong has its line."""

from pathlib import Path
from typing import Any, cast

from events import policy
from events.errors import Validation
from events.policy import Policy
from interfaces import positions
from interfaces.positions import Faulty

SUFFIXES = (".toml", ".yaml", ".yml", ".json")
FILE_MOST = 64 * 1024


def read(path: Path) -> Policy:
    """Read a policy file; `Validation` says `file:line: text`."""
    if path.suffix.lower() not in SUFFIXES:
        raise Validation(f"{path} is no policy file: its name ends in .toml, .yaml, .yml or .json")
    try:
        data = path.read_bytes()
        if len(data) > FILE_MOST:
            raise Validation(f"{path} is larger than {FILE_MOST // 1024} KiB")
        parsed = positions.parse(data.decode("utf-8-sig"), path.suffix.lower())
    except OSError as error:
        raise Validation(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise Validation(f"{path} is not UTF-8") from None
    except Faulty as error:
        raise Validation(f"{path}:{error.line}: {error.text}") from None
    tree: Any = parsed.tree
    if not isinstance(tree, dict):
        raise Validation(f"{path}:1: a policy is a table of names and values")
    try:
        return policy.read(cast("dict[str, Any]", tree))
    except Validation as error:
        field = error.details.get("field", "")
        text = error.message.removeprefix("Validation error: ")
        raise Validation(f"{path}:{parsed.lines.get((field,), 1)}: {text}", field=field) from None
