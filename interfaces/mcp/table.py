"""All tools, in the order in which an agent needs them."""

from collections.abc import Iterable

from events.errors import Validation
from interfaces.mcp.asking import plan_status, plan_submit, sql
from interfaces.mcp.news import catch_up
from interfaces.mcp.playbooks import (
    playbook_answer,
    playbook_bearings,
    playbook_checkpoints,
    playbook_list,
    playbook_pause,
    playbook_resume,
    playbook_run,
)
from interfaces.mcp.reading import output
from interfaces.mcp.tools import Tool
from interfaces.mcp.working import cancel, execute, list_, result, status, wait


def named(tools: Iterable[Tool]) -> dict[str, Tool]:
    """Put tools under their names; a second of a name fails at once."""
    found: dict[str, Tool] = {}
    for each in tools:
        if each.name in found:
            raise Validation(f"there are two tools of the name {each.name!r}")
        found[each.name] = each
    return found


TOOLS = named(
    (
        *(execute, status, wait, output, result, cancel, list_, catch_up),
        *(plan_submit, plan_status, sql),
        *(playbook_run, playbook_list, playbook_bearings, playbook_answer),
        *(playbook_pause, playbook_resume, playbook_checkpoints),
    )
)
