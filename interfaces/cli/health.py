"""Is all well?  Every check has a name, a verdict and a sentence."""

import asyncio
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from interfaces.cli import show
from interfaces.cli.options import connected, json_option, place

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine
    from interfaces.settings import Settings

LAG = 1000
"""Events that the tables may be behind the log."""
FREE_BYTES = 1 << 30
FREE_SHARE = 0.05
VERIFY_SECONDS = 600.0


class Check(NamedTuple):
    """What was looked at; `ok` None only informs."""

    name: str
    ok: bool | None
    text: str


@click.command("doctor")
@click.option("--verify", is_flag=True, help="Read the whole log, and fold all tables again to compare.")
@json_option
@place
def doctor_verb(settings: Any, verify: bool, as_json: bool) -> None:
    r"""Look whether all is well; exit code 1 when it is not.

    \b
    hindbrain doctor
    hindbrain doctor --verify
    """
    from events.errors import Trouble

    given: Settings = settings()
    checks = [_disk(given)]
    try:
        checks += _node(given)
        if verify:
            checks += [_log(given), *_tables(given)]
    except Trouble as error:
        checks.append(Check("node", False, error.message))
    if as_json:
        show.dump([check._asdict() for check in checks])
    else:
        words = {True: "ok", False: "bad", None: "-"}
        show.table(("check", "is", "says"), [(c.name, words[c.ok], c.text) for c in checks])
    sys.exit(1 if any(check.ok is False for check in checks) else 0)


def _disk(settings: "Settings") -> Check:
    place = next(each for each in (settings.data, *settings.data.parents) if each.exists())
    usage = shutil.disk_usage(place)
    ok = usage.free >= FREE_BYTES and usage.free >= FREE_SHARE * usage.total
    return Check("disk", ok, f"{usage.free / 2**30:.1f} of {usage.total / 2**30:.1f} GiB free at {place}")


@connected
async def _node(engine: "ExecutionEngine") -> list[Check]:
    from events.errors import HindbrainError, Unavailable
    from interfaces import audit

    info: dict[str, Any] = (await engine.request("node", "info"))["node"]
    sick = info.get("bus")
    found = [
        Check("node", True, f"{info['node']} {info['version']}, pid {info['pid']}"),
        Check("bus", sick is None, sick or f"nats-server at {info['nats_url']}"),
    ]
    if "executor" in info["roles"]:
        pid = info.get("keeper_pid")
        found.append(Check("keeper", bool(pid), f"pid {pid}" if pid else "not running"))
    try:
        behind = await audit.end(engine.settings) - (await engine.sql("SELECT 1")).seq
        found.append(Check("projector", behind <= LAG, f"{max(0, behind)} events behind"))
        query = "SELECT type, about, text FROM findings WHERE closed_at IS NULL ORDER BY id"
        findings = (await engine.sql(query)).rows
        found += [Check(f"finding: {kind}", False, f"{about}: {text}") for kind, about, text in findings]
    except Unavailable as error:
        found.append(Check("projector", False, error.message))
    except HindbrainError as error:
        found.append(Check("findings", False, error.message))
    versions = await asyncio.to_thread(_languages, info.get("languages", {}))
    return found + versions


def _languages(known: dict[str, str | None]) -> list[Check]:
    found: list[Check] = []
    for name, program in known.items():
        path = None if program is None else shutil.which(program)
        found.append(Check(f"language: {name}", None, "not installed" if path is None else _version(path)))
    return found


def _version(path: str) -> str:
    try:
        done = subprocess.run(
            [path, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=5,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{path}: {error}"
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
    return f"{path}: {lines[0]}" if lines and done.returncode == 0 else path


def _log(settings: "Settings") -> Check:
    from interfaces import audit

    damage = asyncio.run(audit.log_damage(settings))
    text = "no gap, and every chain holds" if damage is None else damage.message
    return Check("log", damage is None, text)


@connected
async def _tables(engine: "ExecutionEngine") -> list[Check]:
    found = await engine.request("query", "verify", VERIFY_SECONDS)
    bad = [
        Check(f"table: {each['table']}", False, f"{each['key']}: {each['text']}")
        for each in found["differences"]
    ]
    return bad or [Check("tables", True, f"they are what the events up to {found['seq']} say")]
