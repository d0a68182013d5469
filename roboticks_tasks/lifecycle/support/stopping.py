"""The parts of a teardown, one function each; every one says in words what it did, and may be called twice."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from roboticks_tasks.backend import open_client
from roboticks_tasks.backend.client import STOP_SESSION
from roboticks_tasks.errors import BoardError, TargetError
from roboticks_tasks.lifecycle.support.control import control
from roboticks_tasks.lifecycle.support.places import Places
from roboticks_tasks.lifecycle.support.sightings import Watcher
from roboticks_tasks.models import DeviceManager, Link, Session
from roboticks_tasks.profiles import Board, Profile
from roboticks_tasks.state import write_atomically
from roboticks_tasks.targets import Target
from roboticks_tasks.targets.detached import Detached, parse_pid_file, stop
from roboticks_tasks.targets.files import get
from roboticks_tasks.waiting import Deadline

log = logging.getLogger(__name__)

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL: what the platform's own test runner gives its device manager."""

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
    control(target, profile.device_manager.control.stop_session, dm, limit=max(1.0, deadline.remaining / 2))
    return f"stopped {known or (session.id if session else 'the active one')}"


def stop_session_by_platform(dm: DeviceManager, session: Session | None) -> str:
    """Have the platform tell the device to stop its session."""
    if session is None:
        return "none was active"
    with open_client(dm.backend, quick=True) as client:
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
        return NOTHING
    outcome = stop(target, started, grace=min(GRACE, max(0.5, deadline.remaining - 1)))
    if outcome not in {"gone", "stopped", "killed"}:
        raise TargetError(f"the device manager (pid {started.pid}) is still running: {outcome}")
    if named == started:  # else the file is a later run's
        target.run(["rm", "-f", where.pid_file], repeatable=True)
    return NOTHING if outcome == "gone" else f"{outcome} (pid {started.pid})"


def collect_log(
    started: Detached | None, named: Detached | None, where: Places, *, artifacts: Path, target: Target
) -> str:
    """Copy the device manager's log into the run's folder, unless it is a later run's."""
    kept = artifacts / "device-manager.log"
    if started is None:
        return "the device manager was not started"
    if named != started and (named is not None or kept.exists()):
        return "collected before" if kept.exists() else "a later run has replaced it"
    content = get(target, where.log)
    if content is None:
        return "the device manager wrote none"
    artifacts.mkdir(parents=True, exist_ok=True)  # there may be no run, only what one has left
    write_atomically(kept, content)
    return f"{len(content)} bytes"


def copy_console(source: str, artifacts: Path) -> str:
    """Keep what a microcontroller has said under the name that the log of every other device manager has."""
    content = Path(source).read_bytes()
    write_atomically(artifacts / "device-manager.log", content)
    return f"{len(content)} bytes"


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


def leave_links(profile: Profile, own: Link | None) -> str:
    """Close the connections that carry tunnels to the board: the run's own, and what else is open for it."""
    from roboticks_tasks.targets.ssh.links import close_link, open_links

    links = {link.process: link for link in (*open_links(profile), *([own] if own else []))}
    outcomes = [close_link(link) for link in links.values()]
    return "stopped" if "stopped" in outcomes else "none was open"
