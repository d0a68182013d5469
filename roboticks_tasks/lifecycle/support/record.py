"""Keep the record of a run: each step's value on disk at once, its events told, its end in result.json."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import ParamSpec, TypeVar

import msgspec

from roboticks_tasks import state
from roboticks_tasks.errors import (
    EXIT_PASSED,
    EXIT_REPORT_NOT_WRITTEN,
    BoardError,
    Cancelled,
    ConfigError,
    RoboticksError,
    TargetError,
    Verdict,
)
from roboticks_tasks.events import RunFinished, RunStarted, Sink, StepFinished, StepStarted
from roboticks_tasks.lifecycle.support import junit
from roboticks_tasks.lifecycle.support.group import TESTS_PID, stop_group
from roboticks_tasks.lifecycle.support.verdict import judge, killed_step, step_result
from roboticks_tasks.models import RunResult
from roboticks_tasks.profiles import Profile

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

FIELDS = {
    "ensure_board": "board",
    "ensure_backend": "backend",
    "ensure_binary": "binary",
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
        self._profile = profile
        self._artifacts = artifacts
        self._sink = sink
        self._begin = time.monotonic()

    @classmethod
    def begin(cls, profile: Profile, artifacts: Path, *, sink: Sink) -> Record:
        """Start a new run in `artifacts`, and stop the tests of one that was killed there."""
        stop_group(artifacts / TESTS_PID)
        run = state.create(artifacts, profile)
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
            if name != "teardown":  # whatever is wrong with the disk, teardown has its turn
                self._save(msgspec.structs.replace(self.run, running=name), durable=False)
            value = function(*args, **kwargs)
            step = step_result(name, time.monotonic() - begin)
            self._save(state.with_step(self.run, step, **{FIELDS[name]: value}))
        except BaseException as error:
            step = step_result(name, time.monotonic() - begin, error)
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
            self.run = state.with_step(self.run, step_result(name, max(0.0, outside), error))

    def _save(self, run: state.RunState, *, durable: bool = True) -> None:
        self.run = run
        state.save(self._artifacts, run, durable=durable)

    def finish(self, *, signal_number: int | None = None) -> RunResult:
        """Judge the run, write result.json and tell everyone; a signal that ended the run stays part of it."""
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
        )
        result = write_result(self._artifacts, result)
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


def refuse(profile: str, artifacts: Path, error: RoboticksError | Cancelled) -> None:
    """Leave why there was no run as the folder's result: CI must not read the green of an earlier run there."""
    if str(artifacts.absolute()) in str(error):
        return  # the run that has the board writes into this very folder, or nobody can
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    result = RunResult(
        run_id="refused",
        profile=profile,
        verdict=Verdict.CANCELLED if isinstance(error, Cancelled) else error.verdict,
        exit_code=error.exit_code,
        reason=f"cancelled by {error}, before it had a board" if isinstance(error, Cancelled) else str(error),
        started_at=now,
        duration=0,
    )
    with suppress(OSError):  # the refusal itself is told by the exception
        artifacts.mkdir(parents=True, exist_ok=True)
        (artifacts / "results.xml").unlink(missing_ok=True)
    write_result(artifacts, result)


def write_result(artifacts: Path, result: RunResult) -> RunResult:
    """Write result.json, then the verdict into results.xml; return the result, worse if one could not be written."""
    content = msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n"
    try:
        state.write_atomically(artifacts / "result.json", content)
        _write_verdict(artifacts / "results.xml", result)
    except (RoboticksError, OSError) as error:
        log.error("the run's result could not be written: %s", error)
        if result.exit_code == EXIT_PASSED:
            return msgspec.structs.replace(result, exit_code=EXIT_REPORT_NOT_WRITTEN, reason=str(error))
    return result


def _write_verdict(path: Path, result: RunResult) -> None:
    """Put the verdict into the JUnit file; where no test ran, one case says which step ended the run, and why."""
    broken = next((step for step in result.steps if step.outcome != "ok"), None)
    if not path.exists():
        kind = {Verdict.PASSED: None, Verdict.FAILED: "failure"}.get(Verdict(result.verdict), "error")
        name = broken.name if broken else result.verdict
        junit.write_single(path, name=name, seconds=result.duration, kind=kind, message=result.reason)
    values = {"verdict": result.verdict, "run": result.run_id, "profile": result.profile, "dsn": result.dsn}
    junit.stamp(path, {f"roboticks_tasks.{name}": value for name, value in values.items() if value})


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
