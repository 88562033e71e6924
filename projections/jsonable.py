"""Values of DuckDB as values of JSON, so that nothing is lost on the way to a program in any language."""

import base64
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

import msgspec

SAFE = 2**53
"""Integers beyond this are written as strings: most readers of JSON keep numbers as doubles."""


def reader(type_name: str) -> Callable[[Any], Any]:
    """How values of a column of this type are written."""
    return _document if type_name == "JSON" else plain


def _document(value: Any) -> Any:
    if value is None:
        return None
    try:
        return plain(msgspec.json.decode(value))
    except msgspec.DecodeError:
        return value


def plain(value: Any) -> Any:
    """A value in what JSON has.

    Times are RFC 3339 UTC with milliseconds, blobs base64; large integers and numbers JSON lacks are strings.
    """
    match value:
        case None | bool() | str():
            return value
        case int():
            return value if -SAFE <= value <= SAFE else str(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case Decimal():
            return plain(int(value) if value == value.to_integral_value() else float(value))
        case datetime():
            moment = value.astimezone(UTC) if value.tzinfo else value
            return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
        case date() | time():
            return value.isoformat()
        case timedelta() | UUID():
            return str(value)
        case bytes() | bytearray():
            return base64.b64encode(bytes(value)).decode()
        case dict():
            items = cast(dict[Any, Any], value).items()
            return {str(key): plain(each) for key, each in items}
        case list() | tuple() | set():
            return [plain(each) for each in cast(list[Any], value)]
        case _:
            return str(value)
