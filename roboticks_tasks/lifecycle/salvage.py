"""salvage: tear down a run whose process is gone; by its guard, by the next run on its board, or by the reaper."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from roboticks_tasks import ledger, processes
from roboticks_tasks.boards import lease
from roboticks_tasks.boards.resources import board_names
from roboticks_tasks.errors import BoardInUseError, ConfigError, RoboticksError
from roboticks_tasks.events import Sink, ignore
from roboticks_tasks.lifecycle.cleanup import teardown
from roboticks_tasks.lifecycle.support.record import Record
from roboticks_tasks.models import Process, TeardownReport
from roboticks_tasks.profiles import Profile
from roboticks_tasks.publishing import publish
from roboticks_tasks.state import RESULT_FILE, STATE_FILE, RunState

log = logging.getLogger(__name__)

DEAD = "dead"
"""What a run is whose processes are gone, and which nobody has torn down."""

REAPED = "torn down"
LEFT_ALONE = "left alone"

SLOWNESS = 7.0
"""Seconds that a guard has beyond its teardown's: its start, and a slow machine."""


def salvage(profile: Profile, artifacts: Path, *, run_id: str, sink: Sink = ignore) -> TeardownReport:
    """Tear down the run `run_id` of the folder `artifacts`, and give it its verdict if it has none.

    `profile` is narrowed to the run's board, whose lease the caller has. Never raises for what it finds.
    """
    artifacts = folder_of(artifacts, run_id)
    try:
        record = Record.resume(profile, artifacts, sink=sink)
    except ConfigError as error:
        log.warning("only what can be found without the run's record is torn down: %s", error)
        report = teardown(profile, artifacts=artifacts, run_id=run_id)
        if report.ok:
            ledger.settle(board_names(profile), run_id=run_id)
        return report
    run = record.run
    try:
        record.step(
            teardown, profile, artifacts=artifacts, dm=run.dm, session=run.session, backend=run.backend, run_id=run_id
        )
    except ConfigError as error:  # the disk is full: what was done is in the result all the same
        log.error("teardown could not be recorded: %s", error)
    if not (artifacts / RESULT_FILE).exists():
        record.note_death()
    record.note_guard(None)  # whoever reads it now finds a run that has ended
    publish(profile, artifacts, record.finish())
    return record.run.teardown or TeardownReport()


def folder_of(artifacts: Path, run_id: str) -> Path:
    """Return where the run `run_id` of the folder `artifacts` writes: below it, when another run has taken it over."""
    try:
        owner = msgspec.json.decode((artifacts / STATE_FILE).read_bytes(), type=_Owner)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return artifacts
    return artifacts if owner.run_id == run_id else artifacts / run_id


class _Owner(msgspec.Struct):
    """What can be read of a run whatever its version."""

    run_id: str


def clear_board(profile: Profile) -> None:
    """Tear down what earlier runs have left on the board that the caller has leased: none of them is alive."""
    wanted = set(board_names(profile))
    for entry in ledger.entries():
        if wanted & set(entry.resources):
            log.warning("an earlier run is torn down first: %s", ledger.describe(entry))
            _try(entry)


def reap() -> list[tuple[ledger.Entry, str]]:
    """Tear down every dead run of this user on this machine, and return each with what became of it, in words.

    Left alone is what lives: a run with a process or a guard, one that is done step by step, and one whose board
    somebody else has by now.
    """
    return [(entry, _reap(entry)) for entry in ledger.entries()]


def state_of(entry: ledger.Entry) -> str:
    """Return in words what has become of a run that is not torn down: `DEAD` for the reaper's."""
    run = _load(entry)
    if entry.is_alive:
        return "running"
    if run is not None and is_alive(run.guard):
        return f"kept until {run.kept_until}" if run.kept_until else "being torn down by its guard"
    if not entry.whole and (run is None or run.running is None):
        return "between its steps"
    return DEAD


def await_guard(profile: Profile, run: RunState) -> None:
    """Have the guard of a kept run tear it down now; wait for the guard of a run whose process is gone.

    One that takes too long is killed, so that the caller can do its work. Returns at once for a run that is alive, and
    when there is no guard.
    """
    if run.guard is None or (run.kept_until is None and is_alive(run.process)):
        return
    processes.stop(run.guard.pid, run.guard.start_time, grace=profile.timeouts.teardown + SLOWNESS)


def is_alive(process: Process | None) -> bool:
    """Tell whether that very process of this machine runs."""
    return process is not None and processes.is_alive(process.pid, process.start_time)


def _reap(entry: ledger.Entry) -> str:
    state = state_of(entry)
    if state != DEAD:
        return f"{LEFT_ALONE}: it is {state}"
    try:
        with lease(entry.profile, run=Path(entry.artifacts), borrow_quarantined=True):
            if (state := state_of(entry)) != DEAD:  # a step of it has ended since
                return f"{LEFT_ALONE}: it is {state}"
            return _try(entry)
    except BoardInUseError as error:
        return f"{LEFT_ALONE}: {error.args[0]}"
    except RoboticksError as error:
        return f"not torn down: {error}"


def _try(entry: ledger.Entry) -> str:
    try:
        report = salvage(entry.profile, Path(entry.artifacts), run_id=entry.run_id)
    except Exception as error:  # whatever an old entry holds, it must not stop what comes after it
        log.exception("%s cannot be torn down", ledger.describe(entry))
        return f"not torn down: {error}"
    problems = "; ".join(f"{part.name}: {part.detail}" for part in report.parts if not part.ok)
    return f"not all of it is gone: {problems}" if problems else REAPED


def _load(entry: ledger.Entry) -> RunState | None:
    from roboticks_tasks import state

    try:
        run = state.load(Path(entry.artifacts))
    except ConfigError:
        return None
    return run if run.run_id == entry.run_id else None
