"""What is done before a step starts and after it ended: its file put back, and what it left kept."""

from collections.abc import Callable, Sequence
from typing import Any

from actors import staging
from actors.conducted import Collected, Restored
from actors.registering import Collect
from actors.running import Running
from actors.saving import Saver
from events.artifact import Referenced
from events.asks.artifact import Kept
from events.errors import HindbrainError, Trouble
from events.execution import EXECUTION
from events.playbook import Going
from events.ports import Loaded, Log


class Leaving:
    """What steps leave, for the next attempt and for good; `tell` brings the messages above."""

    def __init__(
        self, journal: Log, saver: Saver, archivist: Callable[[Any], None], tell: Callable[[Any], None]
    ) -> None:
        self._log, self._saver, self._archivist, self._tell = journal, saver, archivist, tell

    def put_back(self, run: Running, going: Going, child: str, turn: int) -> bool:
        """Whether it first has to get back what it left before the checkpoint that it was resumed from."""
        sha256 = run.state.blobs.get(going.step)
        if sha256 is None or run.restored == child or going.does != "execution":
            return False
        if run.restoring == child:
            return True
        run.restoring, state = child, run.state

        def looked(loaded: Sequence[Loaded]) -> None:
            # What was asked for already has gone on since: its file is its own.
            if loaded[0].error is not None or loaded[0].snapshot.n:
                put(loaded[0].error)
            else:
                self._saver.restore(state, going.step, sha256, put)

        def put(error: HindbrainError | None) -> None:
            self._tell(Restored(run.id, error, turn))

        self._log.load(EXECUTION, [child], looked)
        return True

    def restored(self, run: Running, error: HindbrainError | None) -> bool:
        """It is there, or never will be; False when it has to be tried again."""
        if isinstance(error, Trouble):
            run.restoring = ""
            return False
        run.restored = run.restoring
        if error is not None and run.state.going is not None:
            run.asked = True
            run.ended(staging.refused(run.state.going, error.problem))
        return True

    def collect(self, run: Running, going: Going, turn: int) -> bool:
        """Whether what the step left has to be kept first."""
        step, result = run.state.step(going.step), run.result
        if not step.artifacts or result is None or result.status != "completed" or run.collected:
            return False
        if not run.collecting:
            run.collecting = True
            self._look_for(run, going, result.execution_id or "", turn)
        return True

    def _look_for(self, run: Running, going: Going, child: str, turn: int) -> None:
        state = run.state
        step = state.step(going.step)

        def done(answer: list[Kept] | HindbrainError) -> None:
            self._tell(Collected(run.id, answer, turn))

        def found(loaded: Sequence[Loaded]) -> None:
            if loaded[0].error is not None:
                done(loaded[0].error)
                return
            place = loaded[0].snapshot.state.spec.working_dir
            folder = self._saver.work(child) if place is None else self._saver.path(place)
            reference = Referenced(by=run.id, phase_id=state.phase_of(going.step).id, step=going.step)
            self._archivist(Collect(folder, step.artifacts, state.definition.workspace, reference, done))

        self._log.load(EXECUTION, [child], found)

    def collected(self, run: Running, answer: list[Kept] | HindbrainError) -> bool:
        """It is kept, or is not there; False when it has to be tried again."""
        run.collecting = False
        if isinstance(answer, Trouble):
            return False
        run.keep(answer)
        return True
