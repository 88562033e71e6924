"""The classic rules: all workers of a category are busy, so there are more; few are, so there are fewer."""

from events.headcount import Headcount, spare, urgency
from events.look import ModuleLook


def scale(count: Headcount) -> None:
    """Go through the categories, the most urgent first."""
    groups: dict[str, list[ModuleLook]] = {}
    for module in count.running:
        groups.setdefault(module.category, []).append(module)

    def rank(name: str) -> tuple[int, int, str]:
        modules = groups[name]
        return min(map(urgency, modules)), -sum(each.queued for each in modules), name

    for name in sorted(groups, key=rank):
        _category(count, name, groups[name])


def _category(count: Headcount, name: str, modules: list[ModuleLook]) -> None:
    policy, standing = count.policy, count.snapshot.standing
    workers, busy = sum(each.workers for each in modules), sum(each.busy for each in modules)
    queued = sum(each.queued for each in modules)
    if busy >= workers and (workers or queued):
        _more(
            count, modules, f"all {workers} workers of {name} are busy and {queued} wait", f"refused {name}"
        )
        return
    if not workers:
        return
    used = busy / workers * 100
    if f"refused {name}" in standing and used > 100 - policy.hysteresis_percent:
        # Otherwise a full house would refuse again whenever one of its workers is free for a moment.
        count.say("refused", modules[0], "as before", f"refused {name}")
        return
    low, key = policy.low_percent, f"scale_down_suggested {name} {workers}"
    if used < (low + policy.hysteresis_percent if key in standing else low):
        text = f"{busy} of {workers} workers of {name} are busy, less than {low:g} %"
        module = min(modules, key=lambda each: (not spare(each), -urgency(each), -spare(each), each.name))
        count.shrink(module, policy.step, modules, text, key)


def _more(count: Headcount, modules: list[ModuleLook], text: str, key: str) -> None:
    """Start workers one by one where most waits, the urgent first; only the total cap refuses."""
    asked = [each for each in modules if each.workers or each.queued]
    gains: dict[str, int] = {each.name: 0 for each in asked}

    def rank(module: ModuleLook) -> tuple[bool, int, int, str]:
        rest = module.queued - gains[module.name]
        return rest <= 0, urgency(module), -rest, module.name

    first = min(asked, key=rank)
    if count.room <= 0:
        count.refuse(first, text, key)
        return
    for _ in range(min(count.policy.step, count.room)):
        free = [each for each in asked if each.max is None or each.workers + gains[each.name] < each.max]
        if free:
            gains[min(free, key=rank).name] += 1
    if not any(gains.values()):
        bounds = ", ".join(f"{each.name} may have {each.max}" for each in asked)
        count.say("refused", first, f"{text}, but {bounds}", key)
    for module in sorted(asked, key=lambda each: (urgency(each), each.name)):
        count.grow(module, gains[module.name], text)
