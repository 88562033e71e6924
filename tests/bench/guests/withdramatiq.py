"""Dramatiq with Redis as broker and as the place of its results, which lie in a database of their own."""

import importlib
import os
from typing import Any

from tests.bench.guests import job

port = int(os.environ["BENCH_STORE"].split(":", 1)[1])
dramatiq: Any = importlib.import_module("dramatiq")
brokers: Any = importlib.import_module("dramatiq.brokers.redis")
results: Any = importlib.import_module("dramatiq.results")
backends: Any = importlib.import_module("dramatiq.results.backends.redis")

backend: Any = backends.RedisBackend(host="127.0.0.1", port=port, db=1)
broker: Any = brokers.RedisBroker(host="127.0.0.1", port=port)
broker.add_middleware(results.Results(backend=backend))
dramatiq.set_broker(broker)
send: Any = dramatiq.actor(job.asked(), store_results=True, max_retries=0).send


def stored() -> int:
    """How many results are stored."""
    return backend.client.dbsize()


def read(handle: Any) -> Any:
    """One result, None when it is not there."""
    try:
        return handle.get_result(backend=backend)
    except results.ResultMissing:
        return None


def check() -> None:
    """Make sure that nothing is confirmed before it is on the disk."""
    assert backend.client.config_get("appendfsync")["appendfsync"] == "always"
