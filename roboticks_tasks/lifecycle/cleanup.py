"""teardown: whatever a run started is stopped, and its logs are here; idempotent, and it finds things by itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from roboticks_tasks import processes
from roboticks_tasks.backend.local import release_local
from roboticks_tasks.backend.secrets import redactor_of
from roboticks_tasks.boards.health import SAFE_STATE
from roboticks_tasks.errors import RoboticksError
from roboticks_tasks.lifecycle.support import stopping
from roboticks_tasks.lifecycle.support.group import TESTS_PID, stop_group
from roboticks_tasks.lifecycle.support.places import is_hosted, places
from roboticks_tasks.lifecycle.support.platform_log import Keeping
from roboticks_tasks.models import BackendRef, DeviceManager, Session, TeardownPart, TeardownReport
from roboticks_tasks.profiles import Profile, board_of
from roboticks_tasks.redaction import NOTHING, Redactor
from roboticks_tasks.targets import Target, open_target
from roboticks_tasks.targets.detached import Detached
from roboticks_tasks.targets.opening import hurried
from roboticks_tasks.waiting import Deadline

log = logging.getLogger(__name__)

SHORTEST = 0.5
"""Seconds that a command on the target has even when the time is up."""


def teardown(
    profile: Profile,
    *,
    artifacts: Path,
    dm: DeviceManager | None = None,
    session: Session | None = None,
    backend: BackendRef | None = None,
    target: Target | None = None,
    run_id: str | None = None,
) -> TeardownReport:
    """Stop session and device manager, collect the log, make the board safe, leave console, link and local platform.

    What is not given is looked for: a device manager by its pid file on the target, the console's capture by its
    port, the local platform by its folder, and whatever else the run `run_id` has started by its environment. Every
    part is tried, whatever became of the others; all share `timeouts.teardown` seconds. Never raises for what it
    finds: the report says of each part whether it could be confirmed.
    """
    deadline = Deadline(profile.timeouts.teardown)
    redactor = redactor_of(profile)
    parts = Parts(deadline, redactor)
    board = board_of(profile)
    parts.attempt("tests", lambda: stop_group(artifacts / TESTS_PID))
    if target is None and is_hosted(profile) and stopping.has_no_power(board, deadline=deadline):
        parts.attempt("device manager", lambda: "the board has no power: nothing runs on it")
    else:
        _leave_target(parts, profile, dm, session, artifacts=artifacts, target=target, run_id=run_id)
    platform = backend or (dm.backend if dm is not None else None)
    keeping = None
    if platform is not None and session is not None:  # now the device has told it everything
        keeping = Keeping(platform, session, artifacts, deadline=deadline, redactor=redactor)
    if board.power is not None and board.power.safe is not None:
        parts.attempt(SAFE_STATE, lambda: stopping.restore_safe_state(board, deadline=deadline))
    if board.console is not None:  # after the power, because the board's last words belong to the run
        port = board.console.port
        parts.attempt("console", lambda: stopping.stop_capture_of(port))
    if keeping is not None:
        parts.attempt("platform log", keeping.wait)
    if profile.target.kind == "ssh":
        parts.attempt("link", lambda: stopping.leave_links(profile, backend.link if backend else None))
    if run_id is not None:
        parts.attempt("processes", lambda: stopping.sweep_machine(run_id, deadline=deadline))
    if (directory := _platform_directory(profile, backend)) is not None:
        parts.attempt("local platform", lambda: release_local(directory, run=artifacts, grace=deadline.remaining))
    return TeardownReport(parts=_forgive_session(parts))


class Parts:
    """The parts of a teardown, in order: whatever becomes of one, the next has its turn."""

    def __init__(self, deadline: Deadline, redactor: Redactor = NOTHING) -> None:
        self.deadline = deadline
        self.redactor = redactor
        self.done: list[TeardownPart] = []

    @property
    def stopped_in_order(self) -> bool:
        """Tell whether the device manager has ended as it does when it is asked to: it has ended its session, too."""
        return any(part.name == "device manager" and part.detail.startswith("stopped") for part in self.done)

    def attempt(self, name: str, action: Callable[[], str]) -> None:
        """Do a part and note how it went."""
        begin = self.deadline.elapsed
        try:
            detail, ok = action(), True
        except (RoboticksError, OSError) as error:
            detail, ok = str(error), False
            log.error("teardown: %s: %s", name, error)
        except Exception as error:
            # The parts after this one must have their turn even when this one has a bug.
            detail, ok = f"{type(error).__name__}: {error}", False
            log.exception("teardown: %s", name)
        detail = self.redactor.text(detail)  # it repeats what boards and tools say
        duration = round(self.deadline.elapsed - begin, 3)
        self.done.append(TeardownPart(name=name, ok=ok, detail=detail, duration=duration))

    def note(self, name: str, problem: str) -> None:
        """Note that a part could not be done, unless it has been."""
        if all(part.name != name for part in self.done):
            log.error("teardown: %s: %s", name, problem)
            duration = round(self.deadline.elapsed, 3)
            detail = self.redactor.text(problem)
            self.done.append(TeardownPart(name=name, ok=False, detail=detail, duration=duration))


def _leave_target(
    parts: Parts,
    profile: Profile,
    dm: DeviceManager | None,
    session: Session | None,
    *,
    artifacts: Path,
    target: Target | None,
    run_id: str | None,
) -> None:
    try:
        quick = hurried(profile, parts.deadline.remaining / 2)
        with open_target(quick, target, limit=lambda: max(SHORTEST, parts.deadline.remaining)) as shell:
            if not is_hosted(profile):
                _leave_firmware(parts, profile, dm, session, artifacts=artifacts)
            else:
                _stop_device_manager(parts, profile, dm, session, artifacts=artifacts, target=shell, run_id=run_id)
    except RoboticksError as error:
        parts.note("device manager", f"whether one is running is not known: {error}")


def _stop_device_manager(
    parts: Parts,
    profile: Profile,
    dm: DeviceManager | None,
    session: Session | None,
    *,
    artifacts: Path,
    target: Target,
    run_id: str | None,
) -> None:
    where = places(profile, dm)
    named = stopping.read_pid_file(where, target)
    # A signal may have come before the value was recorded: then the pid file is all that there is.
    started = Detached(dm.pid, dm.identity) if dm else named
    deadline = parts.deadline
    parts.attempt("session", lambda: stopping.stop_session(profile, dm, session, target=target, deadline=deadline))
    parts.attempt(
        "device manager", lambda: stopping.stop_process(started, named, where, target=target, deadline=deadline)
    )
    if dm is not None and session is not None and not parts.stopped_in_order:
        parts.attempt("platform", lambda: stopping.await_session_end(dm.backend, session, deadline=deadline))
    # A board that is this machine, in a test say, is swept with it: the run's own tunnels and consoles are still open.
    if run_id is not None and started is not None and not started.identity.endswith(processes.boot_id()):
        parts.attempt("its children", lambda: stopping.sweep_target(target, run_id))
    parts.attempt(
        "log",
        lambda: stopping.collect_log(
            started, named, where, artifacts=artifacts, target=target, deadline=deadline, redactor=parts.redactor
        ),
    )
    if named is None or named == started:  # else what is there is a later run's
        parts.attempt(
            "telemetry",
            lambda: stopping.collect_telemetry(where, artifacts=artifacts, target=target, redactor=parts.redactor),
        )


def _leave_firmware(
    parts: Parts, profile: Profile, dm: DeviceManager | None, session: Session | None, *, artifacts: Path
) -> None:
    """Stop a microcontroller's session and keep its words; it is its own device manager, stopped by power alone."""
    if dm is not None:
        if profile.session.request == "platform":
            parts.attempt("session", lambda: stopping.stop_session_by_platform(dm, session))
        parts.attempt("log", lambda: stopping.copy_console(dm.log_path, artifacts, redactor=parts.redactor))


def _platform_directory(profile: Profile, backend: BackendRef | None) -> Path | None:
    if backend is not None and backend.directory is not None:
        return Path(backend.directory)
    return Path(profile.local_platform.directory) if profile.backend == "local" else None


def _forgive_session(parts: Parts) -> tuple[TeardownPart, ...]:
    """Take a session that could not be stopped for stopped when the device manager has ended in order: it does that.

    So it is when the platform says that it has ended.
    """
    ended = parts.stopped_in_order or any(part.name == "platform" and part.ok for part in parts.done)
    return tuple(
        msgspec.structs.replace(part, ok=True, detail=f"ended with the device manager ({part.detail})")
        if part.name == "session" and not part.ok and ended
        else part
        for part in parts.done
    )
