"""Huey, with SQLite or with Redis as the environment says, every commit on the disk first."""

import importlib
import os
from typing import Any

from tests.bench.guests import job

huey: Any = importlib.import_module("huey")
kind, where = os.environ["BENCH_STORE"].split(":", 1)
queue: Any = (
    huey.SqliteHuey("bench", filename=where, fsync=True)
    if kind == "sqlite"
    else huey.RedisHuey("bench", host="127.0.0.1", port=int(where))
)
send: Any = queue.task()(job.asked())


def stored() -> int:
    """How many results are stored and were not read."""
    return queue.storage.result_store_size()


def read(handle: Any) -> Any:
    """One result, None when it is not there; reading it takes it away."""
    return handle.get()


def check() -> None:
    """Make sure that nothing is confirmed before it is on the disk."""
    if kind == "redis":
        assert queue.storage.conn.config_get("appendfsync")["appendfsync"] == "always"
    else:
        assert queue.storage.conn.execute("PRAGMA synchronous").fetchone()[0] == 2
