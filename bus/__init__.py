"""How it travels: the only room that has heard of NATS."""

import importlib
import sys

if "aiohttp" not in sys.modules:
    # Where it is installed nats-py loads aiohttp, for web sockets that are not used here: 0.2 s at every
    # start of every process, and 10 MiB for good.  What stands there as None cannot be imported.
    sys.modules["aiohttp"] = None  # type: ignore[assignment] -- no module, on purpose
    try:
        importlib.import_module("nats.aio.transport")
    finally:
        del sys.modules["aiohttp"]
