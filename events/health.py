"""When something about a module is worth a look of a person: the rules, and the sentence for each."""

from collections.abc import Sequence

from events.look import ModuleLook
from events.message import Message

ENOUGH = 10
"""With fewer ends than this a success rate says nothing."""
GOOD = 0.8
"""A module of whose jobs fewer than this part end well is worth a look."""
FAILURES = 10
"""More failures than this in the window are worth a look."""
WAIT_SECONDS = 60.0
"""Work that waits for longer than this is worth a look."""
DEAF_SECONDS = 15.0
"""Workers that are free while work waits for longer than this hear nothing."""
WINDOW_SECONDS = 300
"""What ended in the last so many seconds is looked at."""
TYPES = ("success_rate", "failures", "queue_age", "deaf")


class Sight(Message):
    """Something that was seen."""

    type: str
    about: str
    text: str


def judge(modules: Sequence[ModuleLook]) -> tuple[Sight, ...]:
    """Everything that is worth a look now."""
    return tuple(each for module in modules for each in _judge(module))


def _judge(module: ModuleLook) -> list[Sight]:
    found = list[Sight]()
    ended, name = module.completed + module.failed, module.name

    def say(kind: str, text: str) -> None:
        found.append(Sight(type=kind, about=name, text=text))

    last = f"; the last one: {module.errors[-1][:300]}" if module.errors else ""
    if ended >= ENOUGH and module.completed < GOOD * ended:
        rate = module.completed / ended
        say(
            "success_rate",
            f"only {rate:.0%} of {ended} jobs of {name} ended well in {WINDOW_SECONDS // 60} minutes{last}",
        )
    if module.failed > FAILURES:
        say("failures", f"{module.failed} jobs of {name} failed in {WINDOW_SECONDS // 60} minutes{last}")
    waits = module.oldest_queued_seconds
    if module.queued and module.state == "running":
        many = "1 job waits" if module.queued == 1 else f"{module.queued} jobs wait"
        if module.workers and not module.busy and waits > DEAF_SECONDS:
            text = f"{many} for {name} since {waits:.0f} s and none of its {module.workers} workers takes it"
            say("deaf", text)
        elif waits > WAIT_SECONDS:
            say("queue_age", f"{many} for {name}, the oldest since {waits:.0f} s: it may need more workers")
    return found
