"""launch_dm: the device manager runs, detached, and can be found again; attach_dm finds it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from roboticks_tasks import processes
from roboticks_tasks.backend import project_secret, users
from roboticks_tasks.backend.secrets import redactor_of
from roboticks_tasks.bounded import last_lines
from roboticks_tasks.errors import BoardError, ConfigError, LaunchError, RoboticksError, TargetError
from roboticks_tasks.lifecycle.support import firmware
from roboticks_tasks.lifecycle.support.advice import remedy_for
from roboticks_tasks.lifecycle.support.places import NOWHERE, Places, fill, is_hosted, places
from roboticks_tasks.lifecycle.support.sightings import Sighting, Watcher
from roboticks_tasks.models import BackendRef, Binary, Capture, DeviceManager
from roboticks_tasks.profiles import Profile, board_of
from roboticks_tasks.redaction import Redactor
from roboticks_tasks.state import load
from roboticks_tasks.targets import Target, open_target
from roboticks_tasks.targets.detached import Detached, find_detached, identity_of, spawn_detached, stop
from roboticks_tasks.targets.fetching import fetch
from roboticks_tasks.targets.local import LocalTarget
from roboticks_tasks.waiting import Deadline, first

log = logging.getLogger(__name__)

NOT_UP = {"", "starting"}
"""What the state file says before the device manager has come up."""


def launch_dm(
    profile: Profile, binary: Binary, backend: BackendRef, *, artifacts: Path, target: Target | None = None
) -> DeviceManager:
    """Start the device manager detached, with the profile's environment and `TEST_DEVICE=true`, and see it alive.

    A device manager that an earlier run left behind is stopped first. It counts as alive when its state file says
    more than "starting", or when it has run for `timeouts.launch` seconds. Raises LaunchError when it cannot be started
    or ends at once; its log is then in `artifacts`. Whatever goes wrong, nothing that was started here goes on running.
    Firmware runs on the board by itself: what stands for it is its console's capture, and its power is cycled, where
    that can be done, so that its registration is seen from the beginning.
    """
    if not is_hosted(profile):
        return _reset_firmware(profile, binary, backend, artifacts)
    where = places(profile)
    with open_target(profile, target) as shell:
        try:
            _stop_stale(where, shell)
            process = _spawn(profile, binary, backend, where=where, target=shell)
        except TargetError as error:
            raise LaunchError(
                f"the device manager could not be started: {error.args[0]}",
                remedy=remedy_for(error),
                verdict=error.verdict,
            ) from error
        dm = _describe(process, backend, where=where)
        try:
            _join_platform(profile, dm, artifacts)
            _see_alive(profile, dm, artifacts, target=shell)
        except BaseException:
            stop(shell, process, grace=1.0)
            raise
    log.info("device manager started (pid %d), its log on the target: %s", dm.pid, dm.log_path)
    return dm


def attach_dm(profile: Profile, *, artifacts: Path, target: Target | None = None) -> DeviceManager:
    """Return the device manager of the run in the folder `artifacts`; ConfigError when it does not run any more."""
    where = places(profile)
    run = load(artifacts, profile.name)
    if run.backend is None:
        raise ConfigError(f"the run in {artifacts} has launched no device manager", remedy="run `launch-dm` first")
    if not is_hosted(profile):
        path = run.binary.path if run.binary else "firmware"
        return _describe_firmware(firmware.capture_of(profile), path, run.backend, root=where.root)
    with open_target(profile, target) as shell:
        process = find_detached(shell, where.pid_file)
    if process is None:
        raise ConfigError(f"no device manager is running in {where.root}", remedy="run `launch-dm` first")
    return _describe(process, run.backend, where=where)


def _reset_firmware(profile: Profile, binary: Binary, backend: BackendRef, artifacts: Path) -> DeviceManager:
    """Start the firmware again, if the board's power can be switched, and return what stands for it."""
    dm = _describe_firmware(firmware.capture_of(profile), binary.path, backend, root=places(profile).root)
    _join_platform(profile, dm, artifacts)
    board = board_of(profile)
    power = board.power
    if power is not None and (power.cycle is not None or (power.on is not None and power.off is not None)):
        from roboticks_tasks.boards.power import switch

        try:
            switch(board, "cycle")
        except BoardError as error:
            raise LaunchError(f"the firmware could not be reset: {error.args[0]}", remedy=error.remedy) from error
    else:
        log.info("board %s is not reset: no `power.cycle`, nor `power.on` and `power.off`", board.id)
    firmware.capture_of(profile)  # a console that is powered with the board may have gone
    log.info("the firmware of board %s is seen through its console's log %s", board.id, dm.log_path)
    return dm


def _describe_firmware(capture: Capture, binary: str, backend: BackendRef, *, root: str) -> DeviceManager:
    return DeviceManager(
        pid=capture.process.pid,
        identity=identity_of(LocalTarget(), capture.process.pid) or f"{capture.process.start_time}-ended",
        binary=binary,
        root=root,
        log_path=capture.log,
        state_path=NOWHERE,
        backend=backend,
    )


def _stop_stale(where: Places, target: Target) -> None:
    process = find_detached(target, where.pid_file)
    if process is not None:
        outcome = stop(target, process)
        log.warning("a device manager of an earlier run (pid %d) was still running: %s", process.pid, outcome)
        if outcome == "alive":
            raise LaunchError(f"a device manager of an earlier run (pid {process.pid}) cannot be stopped")


def _spawn(profile: Profile, binary: Binary, backend: BackendRef, *, where: Places, target: Target) -> Detached:
    environment = {
        **profile.device_manager.environment,
        "ROBOTICKS_ROOT": where.root,
        "ROBOTICKS_API_URL": backend.device_url or backend.url,
        "ROBOTICKS_PROJECT_SECRET": project_secret(backend),
        "ROBOTICKS_COMPOSITION_MODE": profile.deployment.mode,
        "TEST_DEVICE": "true",
    }
    if run_id := os.environ.get(processes.COOKIE):  # what is started over a network does not inherit it
        environment[processes.COOKIE] = run_id
    if profile.deployment.composition:
        environment["ROBOTICKS_COMPOSITION"] = profile.deployment.composition
    return spawn_detached(
        target,
        [binary.path, *fill(profile.device_manager.arguments, root=where.root)],
        environment=environment,
        log=where.log,
        pid_file=where.pid_file,
        directory=where.root,
        stale=where.state,
    )


def _describe(process: Detached, backend: BackendRef, *, where: Places) -> DeviceManager:
    return DeviceManager(
        pid=process.pid,
        identity=process.identity,
        binary=where.binary,
        root=where.root,
        log_path=where.log,
        state_path=where.state,
        backend=backend,
    )


def _join_platform(profile: Profile, dm: DeviceManager, artifacts: Path) -> None:
    """Count a device manager of this machine as a user of the local platform: the step's own process ends soon."""
    if dm.backend.directory is not None and (profile.target.kind == "local" or not is_hosted(profile)):
        directory, started = Path(dm.backend.directory), int(dm.identity.partition("-")[0])
        with users.exclusive(directory):
            users.join(directory, artifacts, pid=dm.pid, started=started)


def _see_alive(profile: Profile, dm: DeviceManager, artifacts: Path, *, target: Target) -> None:
    deadline = Deadline(profile.timeouts.launch)
    watcher = Watcher(dm, target)

    def probe() -> Sighting | None:
        sighting = watcher.look(deadline.remaining, echo=False)
        return None if sighting.alive and sighting.state.phase in NOT_UP else sighting

    try:
        sighting = first(probe, deadline=deadline)
    except TargetError as error:
        raise LaunchError(f"the device manager was started and then lost: {error}") from error
    if sighting is None or sighting.alive or sighting.state.phase not in NOT_UP:
        return  # it came up; whether it is of use is for await_dsn to say
    last = _keep_log(dm, artifacts, target, redactor=redactor_of(profile))
    raise LaunchError(f"the device manager ended as soon as it was started; its last words: {last!r}")


def _keep_log(dm: DeviceManager, artifacts: Path, target: Target, *, redactor: Redactor) -> str:
    """Keep the log of a device manager that has ended, and return its last line."""
    path = artifacts / "device-manager.log"
    try:
        fetched = fetch(target, dm.log_path, path, redactor=redactor)
        if fetched is not None and fetched.problem:
            log.warning("not all of the device manager's log could be kept: %s", fetched.problem)
        lines = [line for line in last_lines(path) if line.strip()] if fetched is not None else []
    except (RoboticksError, OSError) as error:
        log.warning("the device manager's log could not be kept: %s", error)
        lines = _last_words(dm, target)
    return lines[-1].strip() if lines else "nothing"


def _last_words(dm: DeviceManager, target: Target) -> list[str]:
    try:
        return target.run(["tail", "-c", "2000", dm.log_path], repeatable=True).text.splitlines()
    except TargetError:
        return []
