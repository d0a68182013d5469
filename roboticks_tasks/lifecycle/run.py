"""open_run: what a team's own script needs for one step of a run that another process began."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

from roboticks_tasks import state
from roboticks_tasks.boards import lease
from roboticks_tasks.errors import ConfigError
from roboticks_tasks.events import ignore
from roboticks_tasks.lifecycle.salvage import is_alive
from roboticks_tasks.lifecycle.support.record import Record
from roboticks_tasks.models import BackendRef, Dsn, Session
from roboticks_tasks.profiles import Profile
from roboticks_tasks.targets import Target, open_target

P = ParamSpec("P")
T = TypeVar("T")

OUTPUT = Path("test-output")
"""Where run folders are made unless told otherwise: visible, because CI systems do not collect hidden folders."""


class Run(NamedTuple):
    """A run that is going on: its folder, an open target, and what its earlier steps have returned.

    `profile` is the profile with the run's own folders, whatever the working directory is now.
    """

    artifacts: Path
    target: Target
    profile: Profile
    record: Record

    def step(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call one of the seven functions and make its value part of the run, for the steps that follow."""
        return self.record.step(function, *args, **kwargs)

    @property
    def backend(self) -> BackendRef:
        """Return the platform; ConfigError when `launch_dm` has not run."""
        return need(self.record.run.backend, "launch-dm")

    @property
    def dsn(self) -> Dsn:
        """Return the device's serial number; ConfigError when `await_dsn` has not run."""
        return need(self.record.run.dsn, "await-dsn")

    @property
    def session(self) -> Session:
        """Return the session; ConfigError when `await_session` has not run."""
        return need(self.record.run.session, "await-session")


@contextmanager
def open_run(profile: Profile, *, artifacts: Path | None = None) -> Iterator[Run]:
    """Hold the board and an open target for the block, on the run in `artifacts` (default: the profile's latest)."""
    folder = state.latest_folder(OUTPUT, profile.name) if artifacts is None else artifacts
    run = state.load(folder, profile.name)
    profile = state.as_in_run(profile, run)
    with lease_of(run, profile, folder) as leased, open_target(leased) as target:
        yield Run(folder, target, leased, Record.resume(leased, folder, sink=ignore))


def lease_of(
    run: state.RunState, profile: Profile, artifacts: Path, *, board: str | None = None, wait: float = 0.0
) -> AbstractContextManager[Profile]:
    """Hold the board of a run that has begun, a parked one too; that of a kept run is held by the run's guard."""
    if run.kept_until is not None and is_alive(run.guard):
        return nullcontext(profile)
    return lease(profile, run=artifacts, board=board, wait=wait, borrow_quarantined=True)


def need(value: T | None, step: str) -> T:
    """Return the value that an earlier step left; ConfigError when that step has not run."""
    if value is None:
        raise ConfigError(f"`{step}` has not run yet in this run", remedy=f"run `roboticks-tasks {step}` first")
    return value
