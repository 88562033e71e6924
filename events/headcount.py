"""One look at all workers: what was decided on it so far, and how much room that left."""

from events.decision import Type
from events.look import UNTOUCHED, URGENCY, Decision, ModuleLook, Snapshot
from events.policy import Policy


class Headcount:
    """The rules go through it in order; what one of them took is not there for the next."""

    def __init__(self, snapshot: Snapshot, policy: Policy) -> None:
        self.snapshot, self.policy = snapshot, policy
        self.decisions: list[Decision] = []
        self.room = snapshot.total_max - snapshot.workers
        self._known = {each.name: each for each in snapshot.categories}
        self._maxima: dict[str, int] = {}
        modules = sorted(snapshot.modules, key=lambda each: each.name)
        self.touched = [each for each in modules if each.category != UNTOUCHED]
        self.running = [each for each in self.touched if each.state == "running"]
        """Those whose number of workers may change."""

    def heal(self) -> None:
        """Restart what is in error or stuck, within the budget and with growing pauses."""
        for module in self.touched:
            if module.state == "error":
                last = f" ({module.errors[-1][:200]})" if module.errors else ""
                self._restart(module, "self_heal", f"is in error{last}")
            elif module.state == "running" and module.stuck:
                text = f"has {module.stuck} of {module.busy} busy workers that were silent for too long"
                self._restart(module, "restart", text)

    def _restart(self, module: ModuleLook, kind: Type, text: str) -> None:
        policy, now = self.policy, self.snapshot.time_ms
        window = policy.restart_window_seconds
        recent = [each for each in module.restarted_at if now - each < window * 1000]
        self.running = [each for each in self.running if each.name != module.name]
        if len(recent) >= policy.restarts:
            spent = f"was restarted {len(recent)} times in {window:g} s"
            said = f"{module.name} {text} and {spent}: its work waits until somebody has looked at it"
            self.say("refused", module, said, f"refused {kind} {module.name}")
            return
        pause = policy.restart_pause_seconds * 2 ** (len(recent) - 1) if recent else 0.0
        if not recent or now - max(recent) >= pause * 1000:
            said = f"{module.name} {text}: restart {len(recent) + 1} of {policy.restarts} in {window:g} s"
            self.say(kind, module, said)

    def grow(self, module: ModuleLook, count: int, text: str) -> None:
        """Start so many workers; there has to be room for them."""
        if count > 0:
            self.room -= count
            told = f"{text}: {module.name} gets {counted(count)}, and there is room for {self.room} more"
            self.say("scale_up", module, told, count=count)

    def refuse(self, module: ModuleLook, text: str, key: str) -> None:
        """Say that there is no room."""
        total, most = self.snapshot.workers, self.snapshot.total_max
        self.say("refused", module, f"{text}, but there are {total} workers of at most {most} in all", key)

    def shrink(self, module: ModuleLook, count: int, among: list[ModuleLook], text: str, key: str) -> None:
        """End so many workers or suggest it; nothing while those among whom it is are cooling down."""
        count = min(count, spare(module))
        if count <= 0:
            return
        if not self.policy.shrinks:
            told = f"{text}: {counted(count)} of {module.name} could end"
            self.say("scale_down_suggested", module, told, key, -count)
            return
        changed = max(each.last_scaled_at for each in among)
        if self.snapshot.time_ms - changed >= self.policy.cooldown_seconds * 1000:
            self.say("scale_down", module, f"{text}: {counted(count)} of {module.name} end", count=-count)

    def say(self, kind: Type, module: ModuleLook, reason: str, key: str = "", count: int = 0) -> None:
        """Put down a decision; the maximum of its category moves with the workers, if they move."""
        name = module.category
        before = self._maximum(name)
        base = min(self._known[name].base, before) if name in self._known else before
        after = before if key else max(base, before + count)
        self._maxima[name] = after
        self.decisions.append(
            Decision(
                type=kind,
                module=module.name,
                category=name,
                reason=reason,
                before=module.workers,
                after=module.workers + count,
                max_before=before,
                max_after=after,
                key=key,
            )
        )

    def _maximum(self, name: str) -> int:
        if name not in self._maxima:
            known = self._known.get(name)
            there = sum(each.workers for each in self.touched if each.category == name)
            self._maxima[name] = known.max if known else there
        return self._maxima[name]


def urgency(module: ModuleLook) -> int:
    """1 is the most urgent."""
    return URGENCY[module.priority]


def spare(module: ModuleLook) -> int:
    """How many workers can end: none of those at work, and one that is free stays beside them."""
    return max(0, module.workers - max(module.min, module.busy + (module.busy > 0)))


def counted(count: int) -> str:
    """Say how many workers."""
    return "1 worker" if count == 1 else f"{count} workers"
