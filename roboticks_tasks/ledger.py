"""The ledger: this user's runs on this machine that have begun and are not torn down yet, whatever became of them.

An entry is on disk before its run starts anything, and is struck when a teardown has confirmed every part. What is left
when a run's processes are gone is what `status` shows and the reaper cleans, after a power cut, too.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from roboticks_tasks import processes, state
from roboticks_tasks.errors import ConfigError
from roboticks_tasks.models import Process
from roboticks_tasks.profiles import Profile, board_of

log = logging.getLogger(__name__)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is not torn down: its folder, its profile (narrowed to its board), and the process that began it.

    `resources` are the names by which its board is leased. A run that is not `whole` is done step by step, each step in
    a process of its own: that its process is gone says nothing.
    """

    version: int = 1
    run_id: str
    artifacts: str
    profile: Profile
    resources: tuple[str, ...]
    process: Process
    boot: str
    whole: bool

    @property
    def is_alive(self) -> bool:
        """Tell whether the process that began the run is still there."""
        return self.boot == processes.boot_id() and processes.is_alive(self.process.pid, self.process.start_time)


def enter(profile: Profile, artifacts: Path, *, run: state.RunState, resources: Iterable[str], whole: bool) -> None:
    """Note a run that begins; where the ledger cannot be written, the run goes on without an entry."""
    assert run.process is not None
    # What a teardown does not need may hold a secret; whose values it redacts it has to know.
    manager = msgspec.structs.replace(profile.device_manager, source=None, flash=None)
    entry = Entry(
        run_id=run.run_id,
        artifacts=str(artifacts.absolute()),
        profile=msgspec.structs.replace(profile, device_manager=manager),
        resources=tuple(resources),
        process=run.process,
        boot=processes.boot_id(),
        whole=whole,
    )
    try:
        folder = _folder(os.environ)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state.write_atomically(folder / f"{run.run_id}.json", msgspec.json.encode(entry))
    except (OSError, ConfigError) as error:
        log.warning("this run is not in the ledger of runs: %s", error)


def strike(run_id: str) -> None:
    """Forget a run: everything of it is confirmed to be gone."""
    with suppress(OSError):
        (_folder(os.environ) / f"{run_id}.json").unlink(missing_ok=True)


def settle(resources: Iterable[str]) -> None:
    """Forget every run on a board that has just been torn down by whoever holds its lease."""
    wanted = set(resources)
    for entry in entries():
        if wanted & set(entry.resources):
            strike(entry.run_id)


def entries(environ: Mapping[str, str] | None = None) -> list[Entry]:
    """Return the runs that are not torn down, the oldest first; an entry that cannot be read is passed over."""
    found = []
    with suppress(OSError):
        for path in sorted(_folder(os.environ if environ is None else environ).glob("*.json")):
            try:
                found.append(msgspec.json.decode(path.read_bytes(), type=Entry))
            except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
                log.debug("%s is passed over: %s", path, error)
    return found


def describe(entry: Entry) -> str:
    """Return the entry in words: which run, on which board, in which folder."""
    board = f" on board {board_of(entry.profile).id}" if entry.profile.boards else ""
    return f"run {entry.run_id} of profile {entry.profile.name}{board} in {entry.artifacts}"


def _folder(environ: Mapping[str, str]) -> Path:
    """Return the user's own folder for it; on disk, because a board is not safe only because its bench has booted."""
    base = environ.get("XDG_STATE_HOME", "")
    if not base.startswith("/"):
        try:
            base = str(Path(environ.get("HOME") or "~").expanduser() / ".local" / "state")
        except RuntimeError as error:
            raise OSError(f"this user has no home: {error}") from error
    return Path(base) / "roboticks" / "runs"
