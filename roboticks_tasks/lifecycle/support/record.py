"""Keep the record of a run: each step's value on disk at once, its events told, its end in result.json."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

import msgspec

from roboticks_tasks import ledger, processes, state
from roboticks_tasks.backend.secrets import redactor_of
from roboticks_tasks.boards.resources import board_names
from roboticks_tasks.errors import (
    BoardError,
    ConfigError,
    RoboticksError,
    TargetError,
    TeardownError,
)
from roboticks_tasks.events import RunFinished, RunStarted, Sink, StepFinished, StepStarted
from roboticks_tasks.lifecycle.support.discretion import public
from roboticks_tasks.lifecycle.support.group import TESTS_PID, stop_group
from roboticks_tasks.lifecycle.support.result import write_result
from roboticks_tasks.lifecycle.support.verdict import judge, killed_step, step_result
from roboticks_tasks.models import ClockReading, Process, RunResult, TeardownReport
from roboticks_tasks.profiles import Profile
from roboticks_tasks.provenance import provenance

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

FIELDS = {
    "ensure_board": "board",
    "ensure_binary": "binary",
    "ensure_backend": "backend",
    "launch_dm": "dm",
    "await_dsn": "dsn",
    "await_session": "session",
    "deploy": "deployment",
    "pytest_session": "tests",
    "teardown": "teardown",
}
"""Each step, in order, and where its value stands in the run's state."""


class Record:
    """A run that is going on, in the folder `artifacts`."""

    def __init__(self, profile: Profile, artifacts: Path, *, sink: Sink, run: state.RunState) -> None:
        self.run = run
        self.checkpoint: Callable[[], None] = lambda: None  # raises when the run is to end; called before each step
        self._profile = profile
        self._artifacts = artifacts
        self._sink = sink
        self._redactor = redactor_of(profile)
        self._begin = time.monotonic()

    @classmethod
    def begin(cls, profile: Profile, artifacts: Path, *, sink: Sink, whole: bool = True) -> Record:
        """Start a new run in `artifacts`, and stop the tests of one that was killed there.

        From here on it is in the ledger of runs that have to be torn down; `whole` as there. ConfigError when the
        folder is that of a run that goes on, on another board.
        """
        _check_free(artifacts)
        stop_group(artifacts / TESTS_PID)
        run = state.create(artifacts, profile, provenance=provenance(os.environ, Path.cwd()))
        ledger.enter(profile, artifacts, run=run, resources=board_names(profile), whole=whole)
        sink(RunStarted(run_id=run.run_id, profile=profile.name))
        return cls(profile, artifacts, sink=sink, run=run)

    @classmethod
    def resume(cls, profile: Profile, artifacts: Path, *, sink: Sink) -> Record:
        """Go on with the run in `artifacts`, from another process; a step that was killed there counts as cancelled."""
        run = state.load(artifacts, profile.name)
        if run.running is not None:
            run = state.with_step(run, killed_step(run.running))
        return cls(profile, artifacts, sink=sink, run=run)

    def step(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call one of the seven functions; its name, time and value become part of the run."""
        name = function.__name__
        self._sink(StepStarted(name=name, timeout=_limit(self._profile, name)))
        begin = time.monotonic()
        try:
            if name == "teardown":  # whatever is wrong with the disk, and whoever wants the run to end: it has its turn
                value = function(*args, **kwargs)
            else:
                self.checkpoint()
                self._save(msgspec.structs.replace(self.run, running=name), durable=False)
                with processes.marked(self.run.run_id):
                    value = function(*args, **kwargs)
            step = step_result(name, time.monotonic() - begin, _incompleteness(value))
            self._save(state.with_step(self.run, step, **{FIELDS[name]: value}))
        except BaseException as error:
            step = public(step_result(name, time.monotonic() - begin, error), self._redactor)
            with suppress(ConfigError):  # the disk may be what broke; the result tells it all the same
                self._save(state.with_step(self.run, step))
            raise
        finally:
            self._sink(StepFinished(name=name, outcome=step.outcome, duration=step.duration, error=step.error))
        return value

    def blame(self, error: BaseException) -> None:
        """Take note of what ended the run outside any step."""
        if all(step.outcome == "ok" for step in self.run.steps):
            outside = time.monotonic() - self._begin - sum(step.duration for step in self.run.steps)
            name = "connect" if isinstance(error, BoardError | TargetError) else "run"
            self.run = public(state.with_step(self.run, step_result(name, max(0.0, outside), error)), self._redactor)

    def note_guard(self, guard: Process | None, *, kept_until: str | None = None) -> None:
        """Take note of the process that tears the run down when this one is gone."""
        with suppress(ConfigError):
            self._save(msgspec.structs.replace(self.run, guard=guard, kept_until=kept_until))

    def note_clock(self, reading: ClockReading | None) -> None:
        """Take note of how far the board's clock is from ours, if that could be read."""
        if reading is not None:
            with suppress(ConfigError):
                self._save(msgspec.structs.replace(self.run, clocks=(*self.run.clocks, reading)), durable=False)

    def note_death(self) -> None:
        """Take note that the run's process is gone, if no step of it says so."""
        if all(step.outcome == "ok" or step.name == "teardown" for step in self.run.steps):
            self.run = state.with_step(self.run, killed_step(None))

    def settle(self) -> None:
        """Strike the run from the ledger when its teardown has confirmed every part; after its result if it has one."""
        if self.run.teardown is not None and self.run.teardown.ok:
            ledger.settle(board_names(self._profile), run_id=self.run.run_id)

    def _save(self, run: state.RunState, *, durable: bool = True) -> None:
        self.run = public(run, self._redactor)
        state.save(self._artifacts, self.run, durable=durable)

    def finish(self, *, signal_number: int | None = None, settle: bool = True) -> RunResult:
        """Judge the run, write result.json and tell everyone; a signal that ended the run stays part of it.

        Without `settle` the run stays in the ledger, for a caller who has more to end.
        """
        if signal_number is not None:
            with suppress(ConfigError):
                self._save(msgspec.structs.replace(self.run, signal=signal_number))
        run = self.run
        judgement = judge(run)
        result = RunResult(
            run_id=run.run_id,
            profile=run.profile,
            verdict=judgement.verdict,
            exit_code=judgement.exit_code,
            reason=judgement.reason,
            started_at=run.started_at,
            duration=round(sum(step.duration for step in run.steps), 3),
            steps=run.steps,
            dsn=run.dsn.value if run.dsn else None,
            session_id=run.session.id if run.session else None,
            compositions=run.deployment.compositions if run.deployment else (),
            tests=run.tests,
            teardown=run.teardown,
            kept_until=run.kept_until,
            board_id=run.board_id,
            provenance=run.provenance,
        )
        result = write_result(self._artifacts, result)
        if settle:  # not before: who is killed in between would leave a run without a verdict that nobody knows
            self.settle()
        self._sink(
            RunFinished(
                run_id=result.run_id,
                verdict=result.verdict,
                exit_code=result.exit_code,
                reason=result.reason,
                duration=result.duration,
            )
        )
        return result


def _check_free(artifacts: Path) -> None:
    try:
        run = state.load(artifacts)
    except ConfigError:
        return
    has_ended = (artifacts / state.RESULT_FILE).exists()
    process = run.guard if run.kept_until else None if has_ended else run.process
    if process is None or process.pid == os.getpid() or not processes.is_alive(process.pid, process.start_time):
        return
    kept = f"is kept until {run.kept_until}" if run.kept_until else "goes on"
    raise ConfigError(
        f"{artifacts.absolute()} is the folder of a run that {kept} (pid {process.pid})", remedy="choose another one"
    )


def _incompleteness(value: object) -> RoboticksError | None:
    """Return what is wrong with a teardown that could not confirm everything, None for any other value."""
    if not isinstance(value, TeardownReport) or value.ok:
        return None
    return TeardownError("; ".join(f"{part.name}: {part.detail}" for part in value.parts if not part.ok))


def _limit(profile: Profile, name: str) -> float | None:
    limits = {
        "ensure_binary": profile.timeouts.binary,
        "launch_dm": profile.timeouts.launch,
        "await_dsn": profile.timeouts.dsn,
        "await_session": profile.timeouts.session,
        "deploy": profile.timeouts.deploy,
        "pytest_session": profile.tests.timeout,
        "teardown": profile.timeouts.teardown,
    }
    return limits.get(name)
