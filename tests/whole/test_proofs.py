"""Short, seeded parts of the long proofs (`scripts/prove`): the same claims, fewer repetitions."""

import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.proofs import (
    actors,
    agent,
    crowd,
    damage,
    inbox,
    kills,
    limits,
    pair,
    past,
    playbooks,
    ticks,
    trees,
)
from tests.proofs.report import Report

pytestmark = [pytest.mark.whole, pytest.mark.asyncio]


@pytest.fixture
def place() -> Generator[Path]:
    """A folder with a short name: a socket's address has little room."""
    folder = Path(tempfile.mkdtemp(prefix="p"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    return Report(request.node.name)


async def test_whatever_is_killed_every_execution_ends_once(report: Report, place: Path) -> None:
    await kills.prove(report, place, seed=7, kills=2, shorts=8, longs=1, lines=3)
    assert report.held, report.failed


async def test_an_agent_has_long_work_done_with_five_calls(report: Report, place: Path) -> None:
    await agent.prove(report, place, seed=7, seconds=20, steps=20)
    assert report.held, report.failed


async def test_an_actor_that_fails_comes_back_and_nothing_is_lost(report: Report, place: Path) -> None:
    await actors.prove(report, place, seed=7, count=10, seconds=1.0, names=("tailer", "executor", "gateway"))
    assert report.held, report.failed


async def test_the_inbox_is_done_once_however_often_it_is_said(report: Report, place: Path) -> None:
    await inbox.prove(report, place, seed=7, count=3)
    assert report.held, report.failed


async def test_many_run_at_once_while_more_wait(report: Report, place: Path) -> None:
    await crowd.prove(report, place, seed=7, slots=20, behind=60, seconds=6.0, tolerated=0.5)
    assert report.held, report.failed


async def test_two_nodes_share_the_work_and_one_outlives_the_other(report: Report, place: Path) -> None:
    await pair.prove(report, place, seed=7, count=20, doomed=4, lease=1)
    assert report.held, report.failed


async def test_a_tree_of_nine_processes_goes_and_nothing_else(report: Report, place: Path) -> None:
    await trees.prove(report, place, seed=7, rounds=1)
    assert report.held, report.failed


async def test_the_past_stays_as_it_was(report: Report, place: Path) -> None:
    await past.prove(report, place, seed=7, moments=12, count=10)
    assert report.held, report.failed


async def test_damage_is_found_and_named(report: Report, place: Path) -> None:
    await damage.prove(report, place, seed=7, count=6)
    assert report.held, report.failed


@pytest.mark.patient
async def test_each_tick_is_one_execution_whoever_is_killed(report: Report, place: Path) -> None:
    await ticks.prove(report, place, seed=7, kills=1, changes=2, delayed=10)
    assert report.held, report.failed


async def test_limits_hold_while_the_limiter_is_stopped(report: Report, place: Path) -> None:
    await limits.prove(report, place, seed=7, count=60, blows=1, behind=100)
    assert report.held, report.failed


async def test_a_long_playbook_ends_as_if_nobody_had_been_killed(report: Report, place: Path) -> None:
    await playbooks.prove(report, place, seed=7, kills=3, steps=12)
    assert report.held, report.failed
