"""open_run: what a team's own script needs for one step of a run that another process began."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from roboticks_tasks import state
from roboticks_tasks.boards import lease
from roboticks_tasks.errors import ConfigError
from roboticks_tasks.models import BackendRef, Dsn, Session
from roboticks_tasks.profiles import Profile
from roboticks_tasks.targets import Target, open_target

T = TypeVar("T")

OUTPUT = Path("test-output")
"""Where run folders are made unless told otherwise: visible, because CI systems do not collect hidden folders."""


class Run(NamedTuple):
    """A run that is going on: its folder, an open target, and what its earlier steps have returned."""

    artifacts: Path
    target: Target
    state: state.RunState

    @property
    def backend(self) -> BackendRef:
        """Return the platform; ConfigError when `launch_dm` has not run."""
        return need(self.state.backend, "launch-dm")

    @property
    def dsn(self) -> Dsn:
        """Return the device's serial number; ConfigError when `await_dsn` has not run."""
        return need(self.state.dsn, "await-dsn")

    @property
    def session(self) -> Session:
        """Return the session; ConfigError when `await_session` has not run."""
        return need(self.state.session, "await-session")


@contextmanager
def open_run(profile: Profile, *, artifacts: Path | None = None) -> Iterator[Run]:
    """Hold the board and an open target for the block, on the run in `artifacts` (default: the profile's latest)."""
    folder = state.latest_folder(OUTPUT, profile.name) if artifacts is None else artifacts
    run = state.load(folder, profile.name)
    with lease(profile, run=str(folder)), open_target(profile) as target:
        yield Run(folder, target, run)


def need(value: T | None, step: str) -> T:
    """Return the value that an earlier step left; ConfigError when that step has not run."""
    if value is None:
        raise ConfigError(f"`{step}` has not run yet in this run", remedy=f"run `roboticks-tasks {step}` first")
    return value
