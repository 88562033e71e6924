"""What every test runs under."""

import ast
import threading
from typing import Any

_parse = ast.parse
_lock = threading.RLock()


def _parse_alone(*args: Any, **options: Any) -> ast.AST:
    """Parse while no other thread does.

    CPython before 3.11.8 mixes up the depths of two parsers at work (python/cpython#106905), and threads
    parse whenever they log a traceback.
    """
    with _lock:
        return _parse(*args, **options)


ast.parse = _parse_alone  # type: ignore[assignment]  the same signature, less exactly
