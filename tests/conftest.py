"""What every test runs under."""

import ast
import threading
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

_parse = ast.parse
_lock = threading.RLock()

SETTINGS = "_hypothesis_internal_use_settings"  # where hypothesis keeps what a test was decorated with
# A machine that has much to do is slow at making examples, too; that says nothing of what is tried.
settings.register_profile("usual", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("usual")
settings.register_profile("quick", max_examples=20)


def _parse_alone(*args: Any, **options: Any) -> ast.AST:
    """Parse while no other thread does.

    CPython before 3.11.8 mixes up the depths of two parsers at work (python/cpython#106905), and threads
    parse whenever they log a traceback.
    """
    with _lock:
        return _parse(*args, **options)


ast.parse = _parse_alone  # type: ignore[assignment] -- the same signature, less exactly


def pytest_collection_modifyitems(config: pytest.Config, items: Iterable[pytest.Item]) -> None:
    """Under the profile quick a law is tried with a fifth of the examples it asks for, and at least three.

    `scripts/test` tries them all, and so does CI.
    """
    if config.getoption("--hypothesis-profile") != "quick":
        return
    for test in {item.obj for item in items if isinstance(item, pytest.Function)}:
        asked = getattr(test, SETTINGS, None)
        if isinstance(asked, settings) and asked is not settings.default:
            setattr(test, SETTINGS, settings(asked, max_examples=max(3, asked.max_examples // 5)))
