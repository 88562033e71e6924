"""What a door says, letter by letter, with names in place of what is different each time.

An id is called by its kind and a number in the order of appearance, so a reply that names the wrong one
differs.
"""

import re
from pathlib import Path

GOLDEN = Path(__file__).parents[1] / "golden" / "replies"
ID = re.compile(r"\b(exec|plan|play|sched|ckpt|task|node|art)_[0-9a-hjkmnp-tv-z]{26,64}(?![0-9a-z])")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
AGO = re.compile(r"just now|\d+ (?:second|minute)s? ago")
NUMBER = re.compile(
    r'"(seq|elapsed_seconds|duration_ms|eta_ms|eta_seconds|estimatedTimeRemaining|averageOperationTime|'
    r"uptime|last_activity|timestamp|next|tokens|bearings_seq)"
    r'":\d+(?:\.\d+)?'
)
ETA = re.compile(r'"eta":"[1-9][^"]*"')
TEXT = re.compile(r'"(id|prev|trace|digest|cursor|boot)":"(?:[0-9a-z]{26}|[0-9a-f-]{12,64})"')


class Transcript:
    """A conversation with one door."""

    def __init__(self, **known: str) -> None:
        self._known = {value: f"<{name}>" for name, value in known.items()}
        self._counts: dict[str, int] = {}
        self._said: list[str] = []

    def say(self, title: str, reply: bytes | str) -> None:
        """Add a reply."""
        text = reply if isinstance(reply, str) else reply.decode()
        self._said.append(self.named(f"# {title}\n{text}\n"))

    def know(self, name: str, value: str) -> str:
        """Call a value by a name from now on."""
        self._known[value] = f"<{name}>"
        return value

    def named(self, text: str) -> str:
        """The same text with names in it."""
        for value in sorted(self._known, key=len, reverse=True):
            text = text.replace(value, self._known[value])
        text = ID.sub(lambda found: self._called(found[0], found[1]), text)
        text = ETA.sub('"eta":"<eta>"', AGO.sub("<ago>", TIME.sub("<time>", text)))
        return TEXT.sub(r'"\1":"<\1>"', NUMBER.sub(r'"\1":<\1>', text))

    def same(self, name: str) -> None:
        """Compare all that was said with a golden file."""
        assert "\n".join(self._said) == (GOLDEN / f"{name}.txt").read_text()

    def _called(self, found: str, kind: str) -> str:
        if found not in self._known:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._known[found] = f"<{kind} {self._counts[kind]}>"
        return self._known[found]
