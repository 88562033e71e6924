"""The rules by the wait: as many workers as keep what comes now from waiting longer than the target."""

from events import queueing
from events.headcount import Headcount, urgency
from events.look import ModuleLook


def scale(count: Headcount) -> None:
    """Go through the modules, the most urgent first, of these the one where most waits."""

    def rank(module: ModuleLook) -> tuple[int, int, str]:
        return urgency(module), -module.queued, module.name

    for module in sorted(count.running, key=rank):
        _module(count, module)


def _module(count: Headcount, module: ModuleLook) -> None:
    policy = count.policy
    wait, most = policy.target_wait_ms / 1000, count.snapshot.total_max

    def needed(within: float) -> int:
        rate, each = module.arrivals_per_second, module.service_seconds
        return max(module.min, queueing.needed(rate, each, module.queued, within, most))

    if module.service_seconds > 0:
        wanted, calm = needed(wait), needed(wait * policy.slack)
    else:
        # Nobody knows yet how long one takes, so nothing can be calculated.
        crowded = module.busy >= module.workers and module.queued > 0
        wanted, calm = module.workers + policy.step * crowded, module.workers
    text = (
        f"{module.queued} wait, {module.arrivals_per_second:.3g} a second come to {module.name} and"
        f" {module.service_seconds:.3g} s are spent on each"
    )
    if wanted > module.workers:
        text += f", so a wait under {wait:g} s needs {wanted} workers"
        _wish(count, module, wanted, text)
    elif calm < module.workers:
        key = f"scale_down_suggested {module.name} {module.workers}"
        fewer = min(policy.step, module.workers - calm)
        count.shrink(module, fewer, [module], f"{text}, so {calm} workers would do", key)


def _wish(count: Headcount, module: ModuleLook, wanted: int, text: str) -> None:
    bound = wanted if module.max is None else min(wanted, module.max)
    if bound <= module.workers:
        said = f"{text}, but it may have {module.max}"
        count.say("refused", module, said, f"refused {module.name}")
    elif count.room <= 0:
        count.refuse(module, text, f"refused {module.name}")
    else:
        count.grow(module, min(bound - module.workers, count.room), text)
