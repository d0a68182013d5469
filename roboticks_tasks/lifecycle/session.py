"""await_session: the device has an active session on the platform."""

from __future__ import annotations

import logging
import re

from roboticks_tasks.backend import Client, open_client
from roboticks_tasks.backend.client import START_SESSION
from roboticks_tasks.errors import BackendError, SessionError, TargetError
from roboticks_tasks.lifecycle.support.control import control
from roboticks_tasks.lifecycle.support.sightings import (
    PATIENCE,
    Sighting,
    Watcher,
    check_platform,
    compile_pattern,
    fault_of_platform,
)
from roboticks_tasks.models import BackendRef, DeviceManager, Dsn, Session
from roboticks_tasks.profiles import Profile
from roboticks_tasks.targets import Target, open_target
from roboticks_tasks.waiting import Deadline, Pace, first

log = logging.getLogger(__name__)

REGISTRY_INTERVAL = 1.0
"""Seconds between two questions to a platform that is not ours alone."""

SLACK = 5.0
"""Seconds beyond the time-out of its own that the device's command has to say so, on a machine that is busy."""

SLICE = 2.0
"""Seconds that one request waits on a local platform: whoever waits for the answer does not see that platform die."""


def await_session(
    profile: Profile,
    dm: DeviceManager,
    dsn: Dsn,
    backend: BackendRef,
    *,
    timeout: float | None = None,
    target: Target | None = None,
    client: Client | None = None,
) -> Session:
    """Ask for a session the way the profile says, and wait until it is active.

    State file, log and the platform's registry are watched, whichever speaks first. Sessions are not created
    automatically (documented since 2025-11): with `session.request = "none"` somebody else must start one. `timeout`
    is in seconds, by default the profile's. Raises SessionError at once when the request is refused or the device
    manager has died, else at the deadline.
    """
    deadline = Deadline(profile.timeouts.session if timeout is None else timeout)
    pattern = compile_pattern(profile.device_manager.log_patterns.session, "session")
    try:
        with (
            open_target(profile, target) as shell,
            open_client(backend, client, quick=True, deadline=deadline) as platform,
        ):
            watcher = Watcher(dm, shell)
            session = _seen(watcher.look(0.0, echo=False), pattern, dsn)
            if session is not None:
                return session
            _request(profile, dm, dsn, backend, deadline=deadline, target=shell, client=platform)
            registry = Pace(0.0 if backend.kind == "local" else REGISTRY_INTERVAL)

            def probe() -> Session | None:
                sighting = watcher.look(min(PATIENCE, deadline.remaining))
                found = _seen(sighting, pattern, dsn)
                if found is None and not sighting.alive:
                    raise SessionError(f"the device manager ended before it had a session: {watcher.describe()}")
                check_platform(backend)
                return found or (_registered(platform, dsn) if registry.is_due() else None)

            session = first(probe, deadline=deadline)
            if session is None:
                raise SessionError(
                    f"no session within {deadline.seconds:g} s: {watcher.describe()}", verdict=watcher.verdict
                )
            return session
    except (TargetError, BackendError) as error:
        cause = fault_of_platform(backend) or error
        raise SessionError(f"no session for {dsn.value}: {cause}", verdict=cause.verdict) from error


def _request(
    profile: Profile,
    dm: DeviceManager,
    dsn: Dsn,
    backend: BackendRef,
    *,
    deadline: Deadline,
    target: Target,
    client: Client,
) -> None:
    if profile.session.request == "platform":
        client.send_command(dsn.value, START_SESSION, {})
    elif profile.session.request == "control":
        while not _ask_device(profile, dm, backend, deadline=deadline, target=target):
            pass


def _ask_device(
    profile: Profile, dm: DeviceManager, backend: BackendRef, *, deadline: Deadline, target: Target
) -> bool:
    """Have the device ask for a session; False when the request took its slice of the time and may be made again."""
    patience = Deadline(min(deadline.remaining, SLICE) if backend.kind == "local" else deadline.remaining)
    command = profile.device_manager.control.start_session
    try:
        control(target, command, dm, limit=patience.seconds + SLACK, timeout=f"{patience.seconds:.1f}")
    except TargetError:
        check_platform(backend)
        if deadline.expired or not patience.expired:  # a refusal comes at once
            raise
        return False
    return True


def _seen(sighting: Sighting, pattern: re.Pattern[str], dsn: Dsn) -> Session | None:
    reported = sighting.state.session
    if reported is not None and reported.status == "active":
        return Session(id=reported.id, dsn=dsn.value, source="state")
    for line in reversed(sighting.lines):
        # A state file that knows of no session is right and an old line in the log is wrong.
        if not sighting.state.phase and (match := pattern.search(line)):
            return Session(id=match["session"], dsn=dsn.value, source="log")
    return None


def _registered(client: Client, dsn: Dsn) -> Session | None:
    if not client.can_read:
        return None
    try:
        sessions = client.sessions(device_id=dsn.value, status="active")
    except BackendError as error:  # state file and log may still speak; at the deadline it is said
        log.debug("the platform was asked for the session: %s", error)
        return None
    return Session(id=str(sessions[0]["id"]), dsn=dsn.value, source="platform") if sessions else None
