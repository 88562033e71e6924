"""Connect as a stranger does, with nothing but nats-py."""

from typing import Any

from nats.aio.client import Client


async def connect(url: str, **options: Any) -> Any:
    """Connect with plain nats-py, whose own types are half unknown."""
    client: Any = Client()
    await client.connect(url, **options)
    return client
