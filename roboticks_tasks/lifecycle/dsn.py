"""await_dsn: the device manager has registered and knows its serial number."""

from __future__ import annotations

import re

from roboticks_tasks.errors import BackendError, RegistrationError, TargetError
from roboticks_tasks.lifecycle.support.sightings import PATIENCE, Sighting, Watcher, check_platform, compile_pattern
from roboticks_tasks.models import DeviceManager, Dsn
from roboticks_tasks.profiles import Profile, board_of
from roboticks_tasks.targets import Target, open_target
from roboticks_tasks.waiting import Deadline, first

REMEDIES = {
    "project-secret-missing": "set ROBOTICKS_PROJECT_SECRET",
    "project-secret-refused": "check ROBOTICKS_PROJECT_SECRET",
    "platform-unreachable": "check the backend's URL and the network between board and platform",
}


def await_dsn(
    profile: Profile, dm: DeviceManager, *, timeout: float | None = None, target: Target | None = None
) -> Dsn:
    """Wait until the device manager has its DSN: from its state file or its log, whichever speaks first.

    `timeout` is in seconds, by default the profile's (30 s, the platform's own limit). Raises RegistrationError at
    once when the device manager has died or given up, else at the deadline.
    """
    deadline = Deadline(profile.timeouts.dsn if timeout is None else timeout)
    pattern = compile_pattern(profile.device_manager.log_patterns.dsn, "dsn")
    with open_target(profile, target) as shell:
        watcher = Watcher(dm, shell)

        def probe() -> Dsn | None:
            sighting = watcher.look(min(PATIENCE, deadline.remaining))
            _give_up_early(sighting, watcher)
            check_platform(dm.backend)
            return _dsn(sighting, pattern)

        try:
            dsn = first(probe, deadline=deadline)
        except (TargetError, BackendError) as error:
            raise RegistrationError(f"no DSN: {error}", verdict=error.verdict) from error
        if dsn is None:
            raise RegistrationError(
                f"no DSN within {deadline.seconds:g} s: {watcher.describe()}",
                remedy="raise `timeouts.dsn` if it is only slow",
                verdict=watcher.verdict,
            )
        _check_identity(profile, dsn)
        return dsn


def _check_identity(profile: Profile, dsn: Dsn) -> None:
    board = board_of(profile)
    expected = board.identity.dsn if board.identity else None
    if expected is not None and dsn.value != expected:
        raise RegistrationError(
            f"the board is not {board.id}: it has registered as {dsn.value}, expected {expected}",
            remedy="check the cabling, or `identity.dsn` of the board in the profile",
        )


def _dsn(sighting: Sighting, pattern: re.Pattern[str]) -> Dsn | None:
    if sighting.state.dsn:
        return Dsn(value=sighting.state.dsn, source="state")
    for line in sighting.lines:
        if match := pattern.search(line):
            return Dsn(value=match["dsn"], source="log")
    return None


def _give_up_early(sighting: Sighting, watcher: Watcher) -> None:
    """Raise when waiting is in vain: the device manager says that it failed, or its process has ended."""
    error = sighting.state.error
    if sighting.state.phase == "failed" and error is not None:
        remedy = REMEDIES.get(error.code, "read device-manager.log")
        raise RegistrationError(f"the registration failed: {error.message}", remedy=remedy, verdict=watcher.verdict)
    if not sighting.alive or sighting.state.phase == "failed":
        raise RegistrationError(f"waiting for the DSN is in vain: {watcher.describe()}", verdict=watcher.verdict)
