"""A plugin for Hindbrain that greets."""

from importlib.metadata import version

import msgspec

from actors.plugin import Context, Plugin

VERSION = version("hindbrain-greeter")
plugin = Plugin("greeter", version=VERSION, description="Greets.", workers=1)


class Greeting(msgspec.Struct, forbid_unknown_fields=True):
    """Whom to greet, and how."""

    name: str
    words: str = "Hello"


class Greeted(msgspec.Struct):
    """What was said, and by which version."""

    text: str
    version: str


@plugin.job()
def greet(greeting: Greeting, context: Context) -> Greeted:
    """Say hello."""
    context.progress(f"Greeting {greeting.name}", 1, 1)
    return Greeted(f"{greeting.words}, {greeting.name}!", VERSION)


plugin.tool("greet", "Greet somebody", job="greet", message="Greeting queued")
