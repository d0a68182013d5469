"""The parts of a teardown, one function each; every one says in words what it did, and may be called twice."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from roboticks_tasks import processes
from roboticks_tasks.backend import open_client
from roboticks_tasks.backend.client import STOP_SESSION
from roboticks_tasks.errors import BackendError, BoardError, ConfigError, TargetError
from roboticks_tasks.lifecycle.support.control import control
from roboticks_tasks.lifecycle.support.places import Places
from roboticks_tasks.lifecycle.support.sightings import Watcher, check_platform
from roboticks_tasks.lifecycle.support.watchdog import stop_watchdog
from roboticks_tasks.models import BackendRef, DeviceManager, Link, Session
from roboticks_tasks.profiles import Board, Profile
from roboticks_tasks.redaction import NOTHING as NOTHING_SECRET
from roboticks_tasks.redaction import Redactor
from roboticks_tasks.state import write_atomically
from roboticks_tasks.targets import Target
from roboticks_tasks.targets.detached import Detached, parse_pid_file, stop
from roboticks_tasks.targets.fetching import TIMEOUT, fetch
from roboticks_tasks.targets.files import get
from roboticks_tasks.targets.local import LocalTarget
from roboticks_tasks.targets.sweep import sweep
from roboticks_tasks.waiting import Deadline, first

log = logging.getLogger(__name__)

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL: what the platform's own test runner gives its device manager."""

PLATFORM_SECONDS = 2.0
"""Seconds that the platform has to take a command: the parts of a teardown share few."""

LOG_SHARE = 0.6
"""Of the time that is left, what the log may take: with the usual 8 s a serial console of 115200 baud brings 40 kB."""

SESSION_PATIENCE = 3.5
"""Seconds for the platform to notice that a device is gone, and to end its session; the local one takes 2.5."""

OPEN = {"active", "paused", "created"}
"""What the platform says of a session that goes on."""

TELEMETRY = "telemetry.jsonl"
TELEMETRY_LIMIT = 16 * 1024 * 1024
"""Bytes; all of it stays on the device."""

DEVICE_LOG = "device-manager.log"

NOTHING = "none was running"


def stop_session(
    profile: Profile, dm: DeviceManager | None, session: Session | None, *, target: Target, deadline: Deadline
) -> str:
    """Stop the active session by the device manager's own command."""
    if dm is None or profile.session.request == "none":
        return "left to the device manager"
    state = Watcher(dm, target).look(0.0, echo=False)
    if not state.alive:
        return "the device manager is not running"
    known = state.state.session.id if state.state.session else None
    if state.state.phase and known is None:
        return "none was active"
    check_platform(dm.backend)  # without it the device manager would only wait
    control(target, profile.device_manager.control.stop_session, dm, limit=max(1.0, deadline.remaining / 2))
    return f"stopped {known or (session.id if session else 'the active one')}"


def stop_session_by_platform(dm: DeviceManager, session: Session | None) -> str:
    """Have the platform tell the device to stop its session."""
    if session is None:
        return "none was active"
    with open_client(dm.backend, deadline=Deadline(PLATFORM_SECONDS)) as client:
        client.send_command(session.dsn, STOP_SESSION, {"session_id": session.id})
    return f"the platform was asked to stop {session.id}"


def read_pid_file(where: Places, target: Target) -> Detached | None:
    """Return the device manager's process that was started last, dead or alive."""
    try:
        left = get(target, where.pid_file)
        return parse_pid_file(left.decode("utf-8", "replace")) if left else None
    except TargetError as error:
        log.warning("teardown: %s cannot be read: %s", where.pid_file, error)
        return None


def stop_process(
    started: Detached | None, named: Detached | None, where: Places, *, target: Target, deadline: Deadline
) -> str:
    """Stop the device manager's process; TargetError when it goes on."""
    if started is None:
        stop_watchdog(target, where.root)
        return NOTHING
    outcome = stop(target, started, grace=min(GRACE, max(0.5, deadline.remaining - 1)))
    if outcome not in {"gone", "stopped", "killed"}:
        raise TargetError(f"the device manager (pid {started.pid}) is still running: {outcome}")
    if named == started:  # else the file is a later run's
        target.run(["rm", "-f", where.pid_file], repeatable=True)
        stop_watchdog(target, where.root)  # it would end by itself, a second later; a later run's is not ours
    return NOTHING if outcome == "gone" else f"{outcome} (pid {started.pid})"


def collect_log(
    started: Detached | None,
    named: Detached | None,
    where: Places,
    *,
    artifacts: Path,
    target: Target,
    deadline: Deadline | None = None,
    redactor: Redactor = NOTHING_SECRET,
) -> str:
    """Copy the device manager's log into the run's folder, unless it is a later run's.

    A share of what `deadline` leaves is for it: the parts that come afterwards need theirs. TargetError when the link
    broke on the way; what came is kept.
    """
    kept = artifacts / DEVICE_LOG
    if started is None:
        return "the device manager was not started"
    if named != started and (named is not None or kept.exists()):
        return "collected before" if kept.exists() else "a later run has replaced it"
    artifacts.mkdir(parents=True, exist_ok=True)  # there may be no run, only what one has left
    timeout = TIMEOUT if deadline is None else max(1.0, deadline.remaining * LOG_SHARE)
    try:
        fetched = fetch(target, where.log, kept, timeout=timeout, redactor=redactor)
    except ConfigError as error:  # everything is stopped all the same
        log.error("teardown: log: %s", error)
        return f"not kept: {error.args[0]}"
    if fetched is None:
        return "the device manager wrote none"
    if fetched.problem:
        raise TargetError(f"{fetched}: {fetched.problem}")
    return str(fetched)


def copy_console(source: str, artifacts: Path, *, redactor: Redactor = NOTHING_SECRET) -> str:
    """Keep what a microcontroller has said under the name that the log of every other device manager has."""
    fetched = fetch(LocalTarget(), source, artifacts / DEVICE_LOG, redactor=redactor)
    if fetched is None or fetched.problem:
        raise TargetError(fetched.problem if fetched else f"{source} is gone")
    return str(fetched)


def has_no_power(board: Board, *, deadline: Deadline) -> bool:
    """Tell whether the board is known to be off; whoever does not answer soon is not asked any longer."""
    if board.power is None or board.power.state is None:
        return False
    from roboticks_tasks.boards.power import read_state

    try:
        return read_state(_impatient(board, deadline.remaining / 4)) == "off"
    except BoardError as error:
        log.warning("teardown: %s", error)
        return False


def restore_safe_state(board: Board, *, deadline: Deadline) -> str:
    """Switch the board's power to what is safe, and read it back where it can be read."""
    from roboticks_tasks.boards.power import make_safe

    return make_safe(_impatient(board, deadline.remaining))


def _impatient(board: Board, seconds: float) -> Board:
    """Return the board with power commands that have `seconds` each, and at least one."""
    assert board.power is not None
    power = msgspec.structs.replace(board.power, timeout=min(board.power.timeout, max(1.0, seconds)))
    return msgspec.structs.replace(board, power=power)


def stop_capture_of(port: str) -> str:
    """Let go of the serial port, whichever run has it captured: the board is this run's."""
    from roboticks_tasks.serial_console.captures import stop_capture
    from roboticks_tasks.serial_console.registration import find_capture, forget, killed_capture

    capture = find_capture(port)
    if capture is not None:
        return stop_capture(capture)
    killed = killed_capture(port)
    if killed is None:
        return "not captured"
    log.warning("teardown: the capture of %s was killed: what the board said since is not in %s", port, killed.log)
    forget(killed)
    return "had been killed: the rest of console.log is missing"


def await_session_end(backend: BackendRef, session: Session, *, deadline: Deadline) -> str:
    """Wait until the platform has ended the session of a device manager that can no longer do it itself.

    No documented call ends a session: the platform does, once it notices that the device is gone. BackendError when
    it has not within `SESSION_PATIENCE` seconds.
    """
    if backend.pid is not None and not processes.is_alive(backend.pid, backend.start_time or 0):
        return "the local platform is gone: it ends the session when it runs again"
    limit = Deadline(min(SESSION_PATIENCE, deadline.remaining))
    with open_client(backend, deadline=limit) as client:
        if not client.can_read:
            return "not known: the platform cannot be asked without a key"
        last = ""

        def ended() -> bool | None:
            nonlocal last
            last = str(client.session(session.id).get("status"))
            return None if last in OPEN else True

        if first(ended, deadline=limit, interval=0.1) is None:
            raise BackendError(f"session {session.id} is still {last} at the platform")
    return f"session {session.id} is {last}"


def collect_telemetry(where: Places, *, artifacts: Path, target: Target, redactor: Redactor) -> str:
    """Copy what the device manager could not deliver; it stays on the target for its next start."""
    script = 'cat "$1"/spool/*.jsonl "$1"/sessions/active/*.json 2>/dev/null | head -c "$2"'
    done = target.run(["sh", "-c", script, "sh", where.root, str(TELEMETRY_LIMIT)], repeatable=True)
    if not done.stdout:
        return "all delivered"
    artifacts.mkdir(parents=True, exist_ok=True)
    write_atomically(artifacts / TELEMETRY, redactor.bytes(done.stdout))
    return f"{done.stdout.count(10)} messages that the platform does not have are in {TELEMETRY}, and on the device"


def sweep_target(target: Target, run_id: str) -> str:
    """Stop what the run has started on the board and nobody has stopped: children that went their own way."""
    count = sweep(target, run_id)
    return f"{count} stopped that the run had left" if count else "none were left"


def sweep_machine(run_id: str, *, deadline: Deadline) -> str:
    """Stop what the run has started on this machine and nobody has stopped: children that went their own way."""
    count = processes.sweep(run_id, grace=min(1.0, deadline.remaining / 2))
    if left := processes.carriers(run_id):
        raise TargetError(f"processes of the run go on: {', '.join(str(pid) for pid, _ in left)}")
    return f"{count} stopped that the run had left" if count else "none were left"


def leave_links(profile: Profile, own: Link | None) -> str:
    """Close the connections that carry tunnels to the board: the run's own, and what else is open for it."""
    from roboticks_tasks.targets.ssh.links import close_link, open_links

    links = {link.process: link for link in (*open_links(profile), *([own] if own else []))}
    outcomes = [close_link(link) for link in links.values()]
    return "stopped" if "stopped" in outcomes else "none was open"
