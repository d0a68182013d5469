"""The ledger: this user's runs on this machine that have begun and are not torn down yet, whatever became of them.

An entry is on disk before its run starts anything, and is struck when a teardown has confirmed every part. What is left
when a run's processes are gone is what `status` shows and the reaper cleans, after a power cut, too.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
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

    `resources` are the names by which its board is leased. `machine` has begun it: several may share a home. A run that
    is not `whole` is done step by step, each step in a process of its own: that its process is gone says nothing.
    """

    version: int = 1
    run_id: str
    artifacts: str
    profile: Profile
    resources: tuple[str, ...]
    process: Process
    boot: str
    machine: str
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
        machine=socket.gethostname(),
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


def settle(resources: Iterable[str], *, run_id: str) -> None:
    """Forget a run that has just been torn down, and earlier ones on its board: of a later one nothing was touched."""
    wanted = set(resources)
    strike(run_id)
    for entry in entries():
        if wanted & set(entry.resources) and entry.run_id < run_id:
            strike(entry.run_id)


def entries() -> list[Entry]:
    """Return the runs that are not torn down, the oldest first; an entry that cannot be read is passed over."""
    return [entry for _, entry in _read() if entry is not None and entry.machine == socket.gethostname()]


def unreadable() -> list[Path]:
    """Return the entries that tell nothing: damaged ones, and those of another version."""
    return [path for path, entry in _read() if entry is None]


def _read() -> Iterator[tuple[Path, Entry | None]]:
    with suppress(OSError):
        for path in sorted(_folder(os.environ).glob("*.json")):
            try:
                yield path, msgspec.json.decode(path.read_bytes(), type=Entry)
            except FileNotFoundError:  # its run has just been torn down
                continue
            except (OSError, msgspec.DecodeError, UnicodeDecodeError):
                yield path, None


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
