"""A plugin for tests: jobs, tools and a resource for everybody, for the trusted, and for administrators."""

import time
from pathlib import Path

import msgspec

from actors.plugin import Context, Plugin, PluginContext

plugin = Plugin("guarded", version="1.0", workers=1)


class Word(msgspec.Struct, forbid_unknown_fields=True):
    """What to say."""

    word: str


@plugin.job()
def tell(given: Word, context: Context) -> str:
    """Say a word."""
    context.progress(given.word, 1, 1)
    return given.word


@plugin.job(visibility="trusted")
def murmur(given: Word, context: Context) -> str:
    """Say a word to those who are trusted."""
    return given.word


@plugin.job(visibility="admin")
def whisper(given: Word, context: Context) -> str:
    """Say a word to administrators."""
    return given.word


@plugin.job(visibility="admin")
def linger(given: Word, context: Context) -> str:
    """Go one of three steps on whenever a file of that number is in a folder."""
    for step in range(1, 4):
        while not (Path(given.word) / str(step)).exists():
            time.sleep(0.01)
        context.progress(f"step {step}", step, 4)
    return given.word


def relay(given: Word, context: PluginContext) -> dict[str, str]:
    """Have something done that the caller may not ask for by itself."""
    return {"jobId": context.enqueue_job("whisper", given).result(20)}


def count(given: Word, context: PluginContext) -> int:
    """Count letters."""
    return len(given.word)


plugin.tool("say-aloud", "Say a word", job="tell", message="It will be said")
plugin.tool("relay", "Have administrators told a word", handler=relay, schema=Word)
plugin.tool("count-letters", "Count the letters of a word", handler=count, schema=Word, visibility="admin")


def notes(context: PluginContext) -> dict[str, str]:
    """What there is to read."""
    return {"plugin": context.plugin}


plugin.resource("guarded://notes", "Notes", handler=notes, mime_type="application/json")

thief = Plugin("thief", version="1.0", workers=1)
thief.tool("say-aloud", "Say something else", handler=count, schema=Word)

usurper = Plugin("usurper", version="1.0", workers=1)
usurper.tool("execute", "Run something else", handler=count, schema=Word)
