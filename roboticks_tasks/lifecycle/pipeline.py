"""A whole run: the seven functions in order, and a teardown that comes whatever happens. Read this first.

    ensure_binary → launch_dm → await_dsn → await_session → deploy → pytest_session → teardown (always)

The functions take plain values and return plain values; only this file knows that there is a run, with a lease
on the board, a folder on disk, signals, events and a verdict. Each of them can be called alone, from your own script.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from roboticks_tasks import signals
from roboticks_tasks.boards import lease
from roboticks_tasks.boards.health import note_health
from roboticks_tasks.errors import Cancelled, RoboticksError, Verdict
from roboticks_tasks.events import Sink, ignore
from roboticks_tasks.lifecycle.backend import ensure_backend
from roboticks_tasks.lifecycle.binary import ensure_binary
from roboticks_tasks.lifecycle.board import ensure_board
from roboticks_tasks.lifecycle.cleanup import teardown
from roboticks_tasks.lifecycle.deployment import deploy
from roboticks_tasks.lifecycle.dsn import await_dsn
from roboticks_tasks.lifecycle.launch import launch_dm
from roboticks_tasks.lifecycle.pytest_run import pytest_session
from roboticks_tasks.lifecycle.session import await_session
from roboticks_tasks.lifecycle.support.record import Record, refuse
from roboticks_tasks.models import RunResult
from roboticks_tasks.profiles import Profile
from roboticks_tasks.signals import Interruption
from roboticks_tasks.targets import Target, open_target

log = logging.getLogger(__name__)


def main(
    profile: Profile,
    *,
    artifacts: Path,
    args: Sequence[str] = (),
    board: str | None = None,
    wait: float = 0.0,
    sink: Sink = ignore,
) -> RunResult:
    """Run the whole lifecycle in the folder `artifacts` and return its result; `args` go to the tests' command.

    `board` picks one of the profile's boards, else a free one is taken, and waited for at most `wait` seconds. Only
    what happens before there is a run raises: BoardInUseError, BoardQuarantinedError, and ConfigError for a folder
    that cannot be written. Everything later, a signal and a bug of ours included, is told by the result's verdict and
    exit code.
    """
    try:
        # The lease stands outside everything else: who was refused the board must not tear down the run that has it.
        with signals.handled() as interruption, ExitStack() as held:
            with interruption.raising():  # a signal ends the wait for a board
                leased = held.enter_context(lease(profile, run=artifacts, board=board, wait=wait))
            record = Record.begin(leased, artifacts, sink=sink)
            _run(leased, record, interruption, artifacts=artifacts, args=args)
            result = record.finish(signal_number=interruption.received)
            note_health(leased, record.run)
    except (RoboticksError, Cancelled) as error:
        refuse(profile.name, artifacts, error)
        raise
    if result.verdict != Verdict.PASSED:
        log.error("Test run failed: %s", result.reason)
        print_dm_logs(artifacts)
    return result


def _run(profile: Profile, record: Record, interruption: Interruption, *, artifacts: Path, args: Sequence[str]) -> None:
    """Bring up, test, and tear down whatever happened; the record has taken note of it."""
    with ExitStack() as connection:
        intact: Target | None = None
        try:
            with interruption.raising():
                record.step(ensure_board, profile, artifacts=artifacts)
                target = connection.enter_context(open_target(profile))
                _bring_up_and_test(profile, record, target, artifacts=artifacts, args=args)
                intact = target
        except BaseException as error:
            record.blame(error)
            if not isinstance(error, RoboticksError | Cancelled):
                log.exception("this is a bug, please report it")
            with suppress(Exception):  # a console takes one client: teardown opens its own connection
                connection.close()
        # From here on a signal is only remembered.
        _tear_down(profile, record, artifacts, target=intact)


def _bring_up_and_test(
    profile: Profile, record: Record, target: Target, *, artifacts: Path, args: Sequence[str]
) -> None:
    binary = record.step(ensure_binary, profile, target=target)
    backend = record.step(ensure_backend, profile, artifacts=artifacts)
    dm = record.step(launch_dm, profile, binary, backend, artifacts=artifacts, target=target)
    dsn = record.step(await_dsn, profile, dm, target=target)
    log.info("Registered with DSN: %s", dsn.value)
    session = record.step(await_session, profile, dm, dsn, backend, target=target)
    log.info("Session active: %s", session.id)
    record.step(deploy, profile, dm, session, target=target)
    record.step(pytest_session, profile, session, artifacts=artifacts, args=args, dm=dm, target=target)


def _tear_down(profile: Profile, record: Record, artifacts: Path, *, target: Target | None) -> None:
    """Tear down; on a target of its own, never on the connection that the run may have broken on."""
    run = record.run
    try:
        record.step(
            teardown,
            profile,
            artifacts=artifacts,
            dm=run.dm,
            session=run.session,
            backend=run.backend,
            target=target,
        )
    except Exception:
        log.exception("teardown could not be recorded")


def print_dm_logs(artifacts: Path, *, most: int = 100) -> None:
    """Log the end of the device manager's log: the explanation belongs next to the failure."""
    path = artifacts / "device-manager.log"
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    log.info("device manager log (%s), the last %d of %d lines:", path, min(most, len(lines)), len(lines))
    for line in lines[-most:]:
        log.info("  %s", line)
