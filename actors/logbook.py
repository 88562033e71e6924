"""The files about a playbook: what there is to do, and the story so far, for people and for agents.

`playbook_feature_list.json` lists the steps, each with whether it passed; `playbook_progress.log` has a line
for each fact.  Both are made of the log, and made anew whenever somebody takes the playbook over.
"""

import contextlib
import json
import logging
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from events import playbook
from events.bearings import features
from events.codec import Fact
from events.journey import State

log = logging.getLogger(__name__)

GIT_SECONDS = 20.0
IDENTITY = ("-c", "user.name=hindbrain", "-c", "user.email=hindbrain@localhost")


def line(fact: Fact) -> str:
    """A fact as a line of the story."""
    match fact.event:
        case playbook.Initialized(definition=definition):
            text = f"playbook {definition.name} {definition.version}".rstrip() + " begins"
        case playbook.PhaseStarted(phase_id=phase):
            text = f"phase {phase} begins"
        case playbook.PhaseEnded(phase_id=phase, status=status):
            text = f"phase {phase} {status}"
        case playbook.StepStarted(step=step, run=run, until=until):
            text = (
                f"step {step} starts{f', run {run}' if run > 1 else ''}{f', until {until}' if until else ''}"
            )
        case playbook.StepEnded(step=step, status=status, error=error):
            text = f"step {step} {status}{f': {error.message}' if error else ''}"
        case playbook.StepSkipped(step=step):
            text = f"step {step} is skipped: its condition does not hold"
        case playbook.InputRequested(step=step, message=message):
            text = f"step {step} asks: {message}"
        case playbook.InputReminded(step=step, count=count):
            text = f"step {step} still waits for an answer, reminder {count}"
        case playbook.InputAnswered(step=step, answered_by=who):
            text = f"step {step} was answered by {who or 'somebody'}"
        case playbook.InputExpired(step=step):
            text = f"step {step} was not answered in time"
        case playbook.PhaseSummary(phase_id=phase, summary=summary):
            text = f"summary of {phase}: {summary}"
        case playbook.CheckpointCreated(checkpoint_id=name, reason=reason):
            text = f"checkpoint {name} ({reason})"
        case playbook.Paused(reason=reason):
            text = f"paused: {reason or 'on request'}"
        case playbook.Resumed(checkpoint_id=name, memory=memory):
            text = "resumed" if memory is None else f"resumed from checkpoint {name}"
        case playbook.Failed(error=error):
            text = f"failed: {error.message}"
        case _:
            text = fact.name.replace("_", " ")
    return f"{fact.time} #{fact.seq} {' '.join(text.split())}\n"


class Logbook:
    """The two files; what goes wrong with them is logged, and stops nothing."""

    def __init__(self, data: Path, state: State) -> None:
        known = state.initialized
        self._named = known is not None and bool(known.progress_log_path and known.feature_list_path)
        """Whether it has files at all."""
        self._log = data / (known.progress_log_path if known else "")
        self._list = data / (known.feature_list_path if known else "")
        self._told = 0
        self._listed: list[dict[str, Any]] = []

    def take(self, facts: Sequence[Fact]) -> None:
        """Tell of more; when something before it was missed, nothing is told until all is read again."""
        news = [fact for fact in facts if fact.n > self._told]
        if not self._named or not news or news[0].n != self._told + 1:
            return
        try:
            self._log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._told:
                with self._log.open("a") as file:
                    file.writelines(map(line, news))
            else:
                _write(self._log, "".join(map(line, news)))
        except OSError as error:
            log.warning("%s cannot be written: %s", self._log, error)
        self._told = news[-1].n

    def list(self, state: State) -> None:
        """List the steps as they stand."""
        found = features(state)
        if not self._named or found == self._listed:
            return
        self._listed = found
        content = {"playbook_id": state.id, "playbook": state.definition.name, "features": found}
        try:
            self._list.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(self._list, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        except OSError as error:
            log.warning("%s cannot be written: %s", self._list, error)

    def commit(self, state: State) -> None:
        """Make the working directory a git repository with a first commit, unless it has one."""
        folder = Path(state.definition.working_dir or self._list.parent)
        environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}

        def git(*arguments: str) -> bool:
            done = subprocess.run(
                ["git", *IDENTITY, *arguments],
                cwd=folder,
                env=environment,
                capture_output=True,
                timeout=GIT_SECONDS,
                check=False,
                stdin=subprocess.DEVNULL,
            )
            return done.returncode == 0

        try:
            if git("rev-parse", "--verify", "HEAD"):
                return
            made = git("init") and git("add", "--all")
            made = made and git("commit", "--allow-empty", "-m", f"Before playbook {state.definition.name}")
        except (OSError, subprocess.SubprocessError) as error:
            log.warning("%s did not become a git repository: %s", folder, error)
        else:
            if not made:
                log.warning("%s did not become a git repository", folder)


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    with contextlib.suppress(FileNotFoundError):
        part.unlink()
    part.write_text(text)
    part.chmod(0o600)
    part.replace(path)
