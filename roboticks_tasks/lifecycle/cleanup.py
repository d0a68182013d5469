"""teardown: whatever a run started is stopped, and its logs are here; idempotent, and it finds things by itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from roboticks_tasks.backend.local import release_local
from roboticks_tasks.errors import RoboticksError, TargetError
from roboticks_tasks.lifecycle.support.control import control
from roboticks_tasks.lifecycle.support.group import TESTS_PID, stop_group
from roboticks_tasks.lifecycle.support.places import Places, places
from roboticks_tasks.lifecycle.support.sightings import Watcher
from roboticks_tasks.models import BackendRef, DeviceManager, Session, TeardownPart, TeardownReport
from roboticks_tasks.profiles import Profile
from roboticks_tasks.state import write_atomically
from roboticks_tasks.targets import Target, open_target
from roboticks_tasks.targets.detached import Detached, parse_pid_file, stop
from roboticks_tasks.targets.files import get
from roboticks_tasks.waiting import Deadline

log = logging.getLogger(__name__)

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL: what the platform's own test runner gives its device manager."""

NOTHING = "none was running"


def teardown(
    profile: Profile,
    *,
    artifacts: Path,
    dm: DeviceManager | None = None,
    session: Session | None = None,
    backend: BackendRef | None = None,
    target: Target | None = None,
) -> TeardownReport:
    """Stop the active session and the device manager, collect its log into `artifacts`, leave the local platform.

    What is not given is looked for: a device manager by its pid file on the target, the local platform by its folder.
    Every part is tried, whatever became of the others; all share `timeouts.teardown` seconds. Never raises for what
    it finds: the report says of each part whether it could be confirmed.
    """
    deadline = Deadline(profile.timeouts.teardown)
    where = places(profile, dm)
    parts: list[TeardownPart] = []
    _try(parts, "tests", lambda: stop_group(artifacts / TESTS_PID), deadline)
    with open_target(profile, target) as shell:
        named = _read_pid_file(where, shell)
        # A signal may have come before the value was recorded: then the pid file is all that there is.
        started = Detached(dm.pid, dm.identity) if dm else named

        def stop_session() -> str:
            return _stop_session(profile, dm, session, target=shell, deadline=deadline)

        def stop_device_manager() -> str:
            return _stop_device_manager(started, named, where, target=shell, deadline=deadline)

        def collect_log() -> str:
            return _collect_log(started, named, where, artifacts=artifacts, target=shell)

        _try(parts, "session", stop_session, deadline)
        _try(parts, "device manager", stop_device_manager, deadline)
        _try(parts, "log", collect_log, deadline)
    directory = backend.directory if backend else None
    if directory is None and profile.backend == "local":
        directory = profile.local_platform.directory
    if directory is not None:
        folder = Path(directory)
        _try(parts, "local platform", lambda: release_local(folder, run=artifacts, grace=deadline.remaining), deadline)
    return TeardownReport(parts=_forgive_session(parts))


def _forgive_session(parts: list[TeardownPart]) -> tuple[TeardownPart, ...]:
    """Take a session that could not be stopped for stopped when the device manager has ended in order: it does that."""
    in_order = any(part.name == "device manager" and part.detail.startswith("stopped") for part in parts)
    return tuple(
        msgspec.structs.replace(part, ok=True, detail=f"ended with the device manager ({part.detail})")
        if part.name == "session" and not part.ok and in_order
        else part
        for part in parts
    )


def _try(parts: list[TeardownPart], name: str, action: Callable[[], str], deadline: Deadline) -> None:
    begin = deadline.elapsed
    try:
        detail, ok = action(), True
    except (RoboticksError, OSError) as error:
        detail, ok = str(error), False
        log.error("teardown: %s: %s", name, error)
    except Exception as error:
        # The parts after this one must have their turn even when this one has a bug.
        detail, ok = f"{type(error).__name__}: {error}", False
        log.exception("teardown: %s", name)
    parts.append(TeardownPart(name=name, ok=ok, detail=detail, duration=round(deadline.elapsed - begin, 3)))


def _stop_session(
    profile: Profile, dm: DeviceManager | None, session: Session | None, *, target: Target, deadline: Deadline
) -> str:
    if dm is None or profile.session.request == "none":
        return "left to the device manager"
    state = Watcher(dm, target).look(0.0, echo=False)
    if not state.alive:
        return "the device manager is not running"
    known = state.state.session.id if state.state.session else None
    if state.state.phase and known is None:
        return "none was active"
    control(target, profile.device_manager.control.stop_session, dm, limit=max(1.0, deadline.remaining / 2))
    return f"stopped {known or (session.id if session else 'the active one')}"


def _read_pid_file(where: Places, target: Target) -> Detached | None:
    """Return the device manager's process that was started last, dead or alive."""
    try:
        left = get(target, where.pid_file)
        return parse_pid_file(left.decode("utf-8", "replace")) if left else None
    except TargetError as error:
        log.warning("teardown: %s cannot be read: %s", where.pid_file, error)
        return None


def _stop_device_manager(
    started: Detached | None, named: Detached | None, where: Places, *, target: Target, deadline: Deadline
) -> str:
    if started is None:
        return NOTHING
    outcome = stop(target, started, grace=min(GRACE, max(0.5, deadline.remaining - 1)))
    if outcome not in {"gone", "stopped", "killed"}:
        raise TargetError(f"the device manager (pid {started.pid}) is still running: {outcome}")
    if named == started:  # else the file is a later run's
        target.run(["rm", "-f", where.pid_file])
    return NOTHING if outcome == "gone" else f"{outcome} (pid {started.pid})"


def _collect_log(
    started: Detached | None, named: Detached | None, where: Places, *, artifacts: Path, target: Target
) -> str:
    kept = artifacts / "device-manager.log"
    if started is None:
        return "the device manager was not started"
    if named != started and (named is not None or kept.exists()):
        return "collected before" if kept.exists() else "a later run has replaced it"
    content = get(target, where.log)
    if content is None:
        return "the device manager wrote none"
    write_atomically(kept, content)
    return f"{len(content)} bytes"
