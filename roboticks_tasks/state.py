"""The run folder: what a run has done so far, on disk before it can be lost."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from roboticks_tasks import processes
from roboticks_tasks.disk import not_writable, reserve
from roboticks_tasks.disk import write_atomically as write_atomically  # noqa: PLC0414 - theirs, who write beside a run
from roboticks_tasks.errors import ConfigError
from roboticks_tasks.models import (
    BackendRef,
    Binary,
    BoardRef,
    ClockReading,
    Deployment,
    DeviceManager,
    Dsn,
    Process,
    Provenance,
    PytestResult,
    RunResult,
    Session,
    StepResult,
    TeardownReport,
    Value,
)
from roboticks_tasks.profiles import Profile, board_of, candidates

STATE_FILE = "run.json"
RESULT_FILE = "result.json"

STALE_FILES = (
    STATE_FILE,
    RESULT_FILE,
    *("console.log", "device-manager.log", "pytest.log"),
    *("results.xml", "pytest.xml", "lifecycle.xml"),
    *("tests.jsonl", "bus.jsonl", "platform.jsonl", "timeline.jsonl", "report.html", "upload.json"),
)
"""What an earlier run leaves in a folder that is used again, and what must not be taken for this run's."""

STALE_PARTS = ("console.log.*", ".pytest.log.from-*")
"""Likewise: a long log is kept in several parts."""

STALE_FOLDERS = ("attachments",)
"""Likewise, with all that is in them."""


class NoRunError(ConfigError):
    """There is no run where one was looked for."""


class RunState(Value, frozen=True, kw_only=True):
    """How the steps have ended, in order, and the values of those that succeeded; what is None has not run.

    `board_id` is the leased board. `root` and `platform_directory` are absolute: a later step may run in another
    working directory. `running` is the step that has begun and not ended: when its process is gone, it was killed.
    `signal` ended the run. `process` is the one that began it; `guard` tears it down when that is gone, or, for a run
    that is kept to be looked at, at the time `kept_until` (ISO 8601).
    """

    version: int = 1
    run_id: str
    profile: str
    started_at: str
    board_id: str | None = None
    root: str | None = None
    platform_directory: str | None = None
    running: str | None = None
    signal: int | None = None
    process: Process | None = None
    guard: Process | None = None
    kept_until: str | None = None
    provenance: Provenance = Provenance()
    clocks: tuple[ClockReading, ...] = ()
    steps: tuple[StepResult, ...] = ()
    board: BoardRef | None = None
    binary: Binary | None = None
    backend: BackendRef | None = None
    dm: DeviceManager | None = None
    dsn: Dsn | None = None
    session: Session | None = None
    deployment: Deployment | None = None
    tests: PytestResult | None = None
    teardown: TeardownReport | None = None


def fresh_folder(base: Path, profile: str) -> Path:
    """Return the path of a new run folder under `base`; it is made when the run begins."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    return base / f"{profile}-{stamp}-{secrets.token_hex(2)}"


def point_latest(folder: Path, profile: str) -> None:
    """Point `PROFILE-latest` beside `folder` at it."""
    with suppress(OSError):  # a convenience for people; on a file system without links there is just none
        link = folder.with_name(f".{folder.name}.link")
        link.symlink_to(folder.name)
        link.replace(folder.with_name(f"{profile}-latest"))


def latest_folder(base: Path, profile: str) -> Path:
    """Return the folder of the profile's latest run under `base`; ConfigError when there is none."""
    link = base / f"{profile}-latest"
    if not link.exists():
        raise NoRunError(
            f"no run of profile {profile!r} in {base}",
            remedy="start with `ensure-binary`, or name a run folder with --artifacts",
        )
    return link.resolve()


def create(artifacts: Path, profile: Profile, *, provenance: Provenance | None = None) -> RunState:
    """Begin a run in `artifacts`; what an earlier run left there goes first, so that it cannot be taken for news."""
    _make(artifacts)
    try:
        for name in STALE_FILES:
            (artifacts / name).unlink(missing_ok=True)
        for pattern in STALE_PARTS:
            for part in artifacts.glob(pattern):
                part.unlink(missing_ok=True)
        for name in STALE_FOLDERS:
            _remove_folder(artifacts / name)
    except OSError as error:
        raise not_writable(artifacts, error) from error
    reserve(artifacts)
    now = datetime.now(UTC)
    run_id = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
    state = RunState(
        run_id=run_id,
        profile=profile.name,
        started_at=now.isoformat(timespec="milliseconds"),
        board_id=board_of(profile).id,
        root=profile.device_manager.root,
        platform_directory=profile.local_platform.directory,
        process=own_process(),
        provenance=provenance or Provenance(),
    )
    save(artifacts, state)
    return state


def save_result(artifacts: Path, result: RunResult) -> None:
    """Write `result` as the folder's result.json; ConfigError when that cannot be done."""
    write_atomically(artifacts / RESULT_FILE, msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")


def load(artifacts: Path, profile: str | None = None) -> RunState:
    """Read the run in `artifacts`; ConfigError when there is none, it is damaged, or it is of another profile."""
    path = artifacts / STATE_FILE
    try:
        state = msgspec.json.decode(path.read_bytes(), type=RunState)
    except OSError as error:
        raise NoRunError(
            f"{artifacts} is not a run folder: {STATE_FILE}: {error.strerror}", remedy="start with `ensure-binary`"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is damaged or of another version: {error}", remedy="start a new run") from error
    if profile is not None and state.profile != profile:
        raise ConfigError(
            f"{artifacts} holds a run of profile {state.profile!r}, not {profile!r}",
            remedy=f"use --profile {state.profile} or another run folder",
        )
    return state


def as_in_run(profile: Profile, run: RunState) -> Profile:
    """Return the profile of the run: its board, and its folders, which meant the working directory that it began in.

    ConfigError when the profile does not name the run's board any more.
    """
    replace = msgspec.structs.replace
    if profile.boards:
        if run.board_id not in {None, *(board.id for board in profile.boards)}:
            raise ConfigError(
                f"the run has board {run.board_id!r}, which profile {profile.name!r} does not name any more",
                remedy="put it back until the run is torn down",
            )
        profile = candidates(profile, run.board_id)[0]
    manager, platform = profile.device_manager, profile.local_platform
    if run.root is not None:
        manager = replace(manager, root=run.root)
    if run.platform_directory is not None:
        platform = replace(platform, directory=run.platform_directory)
    return replace(profile, device_manager=manager, local_platform=platform)


def save(artifacts: Path, state: RunState, *, durable: bool = True) -> None:
    """Write the state, atomically; `durable` makes it survive a power cut, not only the death of this process."""
    content = msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n"
    write_atomically(artifacts / STATE_FILE, content, durable=durable)


def own_process() -> Process:
    """Return this process."""
    pid = os.getpid()
    return Process(pid=pid, start_time=processes.start_time(pid) or 0)


def with_step(state: RunState, step: StepResult, **values: Any) -> RunState:
    """Return the state with a step that ended, and its value; a repeated step replaces what it left before."""
    steps = (*(each for each in state.steps if each.name != step.name), step)
    return msgspec.structs.replace(state, steps=steps, running=None, **values)


def _remove_folder(folder: Path) -> None:
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_writable(folder, error) from error
