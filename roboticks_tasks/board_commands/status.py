"""`status`: who has which board, what the latest run has done, and what of it still runs."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from roboticks_tasks import ledger, processes, state
from roboticks_tasks.backend.secrets import redactor_of
from roboticks_tasks.boards.lease import holder
from roboticks_tasks.console import say
from roboticks_tasks.errors import EXIT_PASSED, EXIT_TEARDOWN_INCOMPLETE, RoboticksError
from roboticks_tasks.lifecycle.run import OUTPUT
from roboticks_tasks.lifecycle.salvage import DEAD, LEFT_ALONE, REAPED, reap, state_of
from roboticks_tasks.profiles import Profile, board_of, candidates, load_profile
from roboticks_tasks.targets import open_target
from roboticks_tasks.targets.detached import Detached, is_alive
from roboticks_tasks.targets.opening import hurried

GLANCE = 3.0
"""Seconds for a board to answer `status`."""


UNREADABLE = "damaged, or of another version; whether that run is torn down is not known"
"""What is said of an entry of the ledger that tells nothing."""


class BoardStatus(msgspec.Struct, frozen=True):
    """A board as `status` shows it: who holds it, and why it is parked."""

    id: str
    holder: str | None
    quarantined: str | None


class Unfinished(msgspec.Struct, frozen=True):
    """A run of this user on this machine that is not torn down, of whatever profile; `state` says why, in words."""

    run_id: str
    profile: str
    board: str
    folder: str
    state: str


class Status(msgspec.Struct, frozen=True):
    """What `status --json` prints; what is None is not known."""

    folder: str | None
    boards: tuple[BoardStatus, ...]
    device_manager_running: bool | None
    local_platform_running: bool
    run: state.RunState | None
    problem: str | None = None
    unfinished: tuple[Unfinished, ...] = ()
    unreadable: tuple[str, ...] = ()


def show_status(options: argparse.Namespace) -> int:
    """Print the boards, what the latest run has done, what of it is still running, and which runs are unfinished."""
    if options.reap:
        return _reap()
    profile = load_profile(options.profile)
    boards = tuple(_board_status(each) for each in candidates(profile))
    try:
        artifacts = options.artifacts or state.latest_folder(OUTPUT, profile.name)
        run = state.load(artifacts, profile.name)
    except state.NoRunError:
        if options.artifacts is not None or not profile.boards:
            raise
        status = Status(None, boards, None, False, None)
    else:
        status = _run_status(state.as_in_run(profile, run), boards, artifacts, run)
    status = msgspec.structs.replace(
        status,
        unfinished=tuple(map(_unfinished, ledger.entries())),
        unreadable=tuple(map(str, ledger.unreadable())),
    )
    text = msgspec.json.format(msgspec.json.encode(status)).decode() if options.json else _describe(status)
    say(text)
    return EXIT_PASSED


def _reap() -> int:
    """Tear down the dead runs, and say what became of each; those that live are left alone."""
    results = reap()
    for entry, words in results:
        say(f"{ledger.describe(entry)}: {words}")
    unknown = ledger.unreadable()
    for path in unknown:
        say(f"{path}: {UNREADABLE}")
    if not results and not unknown:
        say("every run of yours on this machine is torn down")
    done = not unknown and all(words == REAPED or words.startswith(LEFT_ALONE) for _, words in results)
    return EXIT_PASSED if done else EXIT_TEARDOWN_INCOMPLETE


def _unfinished(entry: ledger.Entry) -> Unfinished:
    return Unfinished(
        run_id=entry.run_id,
        profile=entry.profile.name,
        board=board_of(entry.profile).id,
        folder=entry.artifacts,
        state=state_of(entry),
    )


def _board_status(profile: Profile) -> BoardStatus:
    """Say who has a board (already narrowed to it), and whether it is parked."""
    from roboticks_tasks.boards.quarantine import parked

    left = parked(profile)
    return BoardStatus(id=board_of(profile).id, holder=holder(profile), quarantined=None if left is None else str(left))


def _run_status(profile: Profile, boards: tuple[BoardStatus, ...], artifacts: Path, run: state.RunState) -> Status:
    backend, running, problem = run.backend, False if run.dm is None else None, None
    if profile.target.kind == "serial" and any(each.holder for each in boards if each.id == board_of(profile).id):
        problem = "left alone: a run has the board's console"
    elif run.dm is not None:
        try:
            with open_target(hurried(profile, GLANCE), limit=lambda: GLANCE) as target:
                running = is_alive(target, Detached(run.dm.pid, run.dm.identity))
        except RoboticksError as error:
            problem = redactor_of(profile).text(str(error))  # the rest is our own words, or public already
    platform = bool(backend and backend.pid and processes.is_alive(backend.pid, backend.start_time or 0))
    return Status(str(artifacts), boards, running, platform, run, problem)


def _describe(status: Status) -> str:
    lines = []
    if status.run is None:
        lines.append("no run of this profile in this folder")
    else:
        lines.append(f"run {status.run.run_id} of profile {status.run.profile} in {status.folder}")
        for step in status.run.steps:
            lines.append(f"  {step.name:15} {step.outcome:9} {step.duration:6.2f} s  {step.error or ''}".rstrip())
        running = {True: "running", False: "not running", None: f"not known: {status.problem}"}
        lines.append(f"  device manager  {running[status.device_manager_running]}")
        backend = status.run.backend
        if backend is not None and backend.kind == "local":
            lines.append(
                f"  local platform  {f'running at {backend.url}' if status.local_platform_running else 'not running'}"
            )
    for board in status.boards:
        words = [f"held by {board.holder}" if board.holder else "free"]
        if board.quarantined:
            words.append(f"in quarantine: {board.quarantined}")
        lines.append(f"board {board.id}: {'; '.join(words)}")
    for left in status.unfinished:
        lines.append(f"not torn down: run {left.run_id} of profile {left.profile} in {left.folder}: {left.state}")
    lines += [f"{path}: {UNREADABLE}" for path in status.unreadable]
    if any(left.state == DEAD for left in status.unfinished):
        lines.append("`roboticks-tasks status --reap` tears down the dead ones")
    return "\n".join(lines)
