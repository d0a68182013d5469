"""A whole run: the seven functions in order, and a teardown that comes whatever happens. Read this first.

    ensure_binary → launch_dm → await_dsn → await_session → deploy → pytest_session → teardown (always)

The functions take plain values and return plain values; only this file knows that there is a run, with a lease
on the board, a folder on disk, signals, events and a verdict. Each of them can be called alone, from your own script.
"""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from roboticks_tasks import processes, signals
from roboticks_tasks.backend.local import in_use
from roboticks_tasks.boards import lease, locks
from roboticks_tasks.boards.health import note_health
from roboticks_tasks.bounded import last_lines
from roboticks_tasks.errors import Cancelled, ConfigError, RoboticksError, Verdict
from roboticks_tasks.events import Sink, ignore
from roboticks_tasks.lifecycle.backend import ensure_backend
from roboticks_tasks.lifecycle.binary import ensure_binary
from roboticks_tasks.lifecycle.board import ensure_board
from roboticks_tasks.lifecycle.cleanup import teardown
from roboticks_tasks.lifecycle.deployment import deploy
from roboticks_tasks.lifecycle.dsn import await_dsn
from roboticks_tasks.lifecycle.launch import launch_dm
from roboticks_tasks.lifecycle.pytest_run import pytest_session
from roboticks_tasks.lifecycle.salvage import clear_board
from roboticks_tasks.lifecycle.session import await_session
from roboticks_tasks.lifecycle.support.clock import read_clock
from roboticks_tasks.lifecycle.support.guarding import Guard, guarded
from roboticks_tasks.lifecycle.support.heartbeat import beating, leave_watched
from roboticks_tasks.lifecycle.support.record import Record
from roboticks_tasks.lifecycle.support.result import refuse
from roboticks_tasks.lifecycle.support.verdict import judge
from roboticks_tasks.models import RunResult
from roboticks_tasks.profiles import Profile
from roboticks_tasks.publishing import publish
from roboticks_tasks.reporting.ci_log import folded
from roboticks_tasks.signals import Interruption
from roboticks_tasks.state import RESULT_FILE
from roboticks_tasks.targets import Target, open_target

log = logging.getLogger(__name__)

SHORTEST = 3.0
"""Seconds that a teardown has even when the tests took all the time there was to end."""


def main(
    profile: Profile,
    *,
    artifacts: Path,
    args: Sequence[str] = (),
    board: str | None = None,
    wait: float = 0.0,
    keep_on_failure: float | None = None,
    sink: Sink = ignore,
) -> RunResult:
    """Run the whole lifecycle in the folder `artifacts` and return its result; `args` go to the tests' command.

    `board` picks one of the profile's boards, else a free one is taken, and waited for at most `wait` seconds. A guard
    tears the run down when this process is killed. With `keep_on_failure` a run that fails is left as it is for so
    many seconds, to be looked at; the board stays leased, and the guard tears it down then. Only what happens before
    there is a run raises: BoardInUseError, BoardQuarantinedError, and ConfigError for a folder that cannot be written.
    Everything later, a signal and a bug of ours included, is told by the result's verdict and exit code.
    """
    leases: list[int] = []
    try:
        # The lease stands outside everything else: who was refused the board must not tear down the run that has it.
        with signals.handled() as interruption, ExitStack() as held:
            held.enter_context(processes.counted())
            with interruption.raising():  # a signal ends the wait for a board, and what is done for a run before us
                leased = held.enter_context(lease(profile, run=artifacts, board=board, wait=wait, held=leases))
                clear_board(leased)
            record = Record.begin(leased, artifacts, sink=sink)
            record.checkpoint = interruption.check
            guard = held.enter_context(guarded(leased, artifacts, run_id=record.run.run_id, leases=leases))
            record.note_guard(guard.process)
            held.callback(record.settle)  # once the local platform is gone as well: nobody else would know of it
            with ExitStack() as connection:
                intact = _run(leased, record, interruption, connection, artifacts=artifacts, args=args)
                # From here on a signal is only remembered. A local platform stays until it has the results.
                if interruption.received is None:
                    held.enter_context(in_use(record.run.backend, run=artifacts / RESULT_FILE))
                kept = keep_on_failure is not None and _keep(
                    leased,
                    record,
                    interruption,
                    guard,
                    leases,
                    artifacts=artifacts,
                    target=intact,
                    seconds=keep_on_failure,
                )
                if not kept:
                    _tear_down(leased, record, interruption, artifacts, target=intact)
            result = record.finish(signal_number=None if kept else interruption.received, settle=False)
            note_health(leased, record.run)
            result = publish(leased, artifacts, result, interruption=interruption)
    except (RoboticksError, Cancelled) as error:
        refuse(profile.name, artifacts, error)
        raise
    if result.verdict != Verdict.PASSED:
        log.error("Test run failed: %s", result.reason)
        print_dm_logs(artifacts)
    return result


def _run(
    profile: Profile,
    record: Record,
    interruption: Interruption,
    connection: ExitStack,
    *,
    artifacts: Path,
    args: Sequence[str],
) -> Target | None:
    """Bring up and test; return the target if nothing broke on it. What went wrong the record has taken note of."""
    try:
        with interruption.raising():
            record.step(ensure_board, profile, artifacts=artifacts)
            target = connection.enter_context(open_target(profile))
            if _bring_up_and_test(profile, record, target, artifacts=artifacts, args=args):
                return target
    except BaseException as error:
        record.blame(error)
        if not isinstance(error, RoboticksError | Cancelled):
            log.exception("this is a bug, please report it")
    with suppress(Exception):  # a console takes one client: teardown opens its own connection
        connection.close()
    return None


def _bring_up_and_test(
    profile: Profile, record: Record, target: Target, *, artifacts: Path, args: Sequence[str]
) -> bool:
    """Go through the steps; return False when the last sign of life is stuck in a link that has died."""
    binary = record.step(ensure_binary, profile, target=target)
    backend = record.step(ensure_backend, profile, artifacts=artifacts)
    dm = record.step(launch_dm, profile, binary, backend, artifacts=artifacts, target=target)
    record.note_clock(read_clock(target))
    with beating(profile, dm, target) as heard:  # the board stops the device manager when it hears of us no more
        dsn = record.step(await_dsn, profile, dm, target=heard)
        log.info("Registered with DSN: %s", dsn.value)
        session = record.step(await_session, profile, dm, dsn, backend, target=heard)
        log.info("Session active: %s", session.id)
        deployment = record.step(deploy, profile, dm, session, target=heard)
        record.step(
            pytest_session,
            profile,
            session,
            artifacts=artifacts,
            args=args,
            dm=dm,
            target=heard,
            bus=deployment.bus,
            board=record.run.board,
        )
    if heard.is_free:
        record.note_clock(read_clock(target))
    return heard.is_free


def _keep(
    profile: Profile,
    record: Record,
    interruption: Interruption,
    guard: Guard,
    leases: list[int],
    *,
    artifacts: Path,
    target: Target | None,
    seconds: float,
) -> bool:
    """Leave a run as it is if it has failed by itself, and return whether it has; then its guard has the board."""
    if interruption.received is not None or judge(record.run).verdict == Verdict.PASSED:
        return False
    if record.run.dm is not None:
        leave_watched(profile, record.run.dm, target, seconds=seconds)
    if interruption.received is not None:  # that may have taken a while
        return False
    until = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="seconds")
    if not guard.keep(seconds):
        log.warning("the run is torn down although it failed: without a guard nobody would end it later")
        return False
    record.note_guard(guard.process, kept_until=until)
    end = f"roboticks-tasks teardown --profile {profile.name} --artifacts {shlex.quote(str(artifacts.absolute()))}"
    locks.hand_over(leases, f"run {artifacts.absolute()}, which failed and is kept until {until}, or until `{end}`")
    return True


def _tear_down(
    profile: Profile, record: Record, interruption: Interruption, artifacts: Path, *, target: Target | None
) -> None:
    """Tear down; on a target of its own, never on the connection that the run may have broken on.

    Who is cancelled has `timeouts.teardown` from the signal on: GitHub kills after ten seconds.
    """
    run = record.run
    limit = max(SHORTEST, profile.timeouts.teardown - interruption.elapsed)
    timeouts = msgspec.structs.replace(profile.timeouts, teardown=limit)
    try:
        record.step(
            teardown,
            msgspec.structs.replace(profile, timeouts=timeouts),
            artifacts=artifacts,
            dm=run.dm,
            session=run.session,
            backend=run.backend,
            target=target,
            run_id=run.run_id,
        )
    except ConfigError as error:  # the disk is full: what was done is in the result all the same
        log.error("teardown could not be recorded: %s", error)
    except Exception:
        log.exception("teardown could not be recorded")


def print_dm_logs(artifacts: Path, *, most: int = 100) -> None:
    """Log the end of the device manager's log: the explanation belongs next to the failure."""
    path = artifacts / "device-manager.log"
    if not path.is_file():
        return
    lines = last_lines(path, most)
    with folded("device manager log", os.environ):
        log.info("device manager log (%s), the last %d lines:", path, len(lines))
        for line in lines:
            log.info("  %s", line)
