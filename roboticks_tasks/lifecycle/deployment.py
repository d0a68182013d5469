"""deploy: the deployment folder is on the board and the chosen compositions run."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

from roboticks_tasks.errors import ConfigError, DeployError, TargetError, Verdict
from roboticks_tasks.lifecycle.support.advice import remedy_for
from roboticks_tasks.lifecycle.support.control import control, control_each
from roboticks_tasks.lifecycle.support.places import is_hosted, places
from roboticks_tasks.lifecycle.support.sightings import PATIENCE, ReportedState, Watcher
from roboticks_tasks.models import Composition, Deployment, DeviceManager, Session
from roboticks_tasks.profiles import Profile
from roboticks_tasks.targets import Target, open_target
from roboticks_tasks.targets.files import Synced, exists, sync_tree
from roboticks_tasks.waiting import Deadline, first

log = logging.getLogger(__name__)

ALIVE = {"starting", "running"}
"""What the state file says of a composition whose modules are there."""


def deploy(
    profile: Profile,
    dm: DeviceManager,
    session: Session,
    *,
    composition: str | None = None,
    mode: str | None = None,
    timeout: float | None = None,
    target: Target | None = None,
) -> Deployment:
    """Bring what changed of the deployment to `<root>/deployment`, start the compositions, wait until each one runs.

    `composition` picks one (default: the profile's, else all), `mode` is handed to each (default: the profile's). One
    that runs already is started afresh when files have changed or the mode is another; the others go on. A
    missing deployment folder starts nothing and is only a warning (documented). `timeout` is in seconds. Raises
    DeployError for an unknown composition (with the known ones) and for one that does not run: that one is the
    product's failure, so the verdict is `failed`.
    """
    deadline = Deadline(profile.timeouts.deploy if timeout is None else timeout)
    only = composition or profile.deployment.composition
    mode = mode or profile.deployment.mode
    where = places(profile, dm).deployment
    with open_target(profile, target) as shell:
        try:
            brought = _bring(profile, where, shell, deadline)
            if not is_hosted(profile):  # all that runs on it is in its flash
                return Deployment(path=where, mode=mode)
            if not (brought.sent or brought.unchanged) and not exists(shell, where, kind="d"):
                log.warning("Deployment path does not exist: %s; no composition is started", where)
                return Deployment(path=where, mode=mode)
            names = _choose(_known(profile, dm, shell, deadline), only, mode)
            _stop_outdated(profile, dm, names, mode=mode, brought=brought, target=shell, deadline=deadline)
            _start(profile, dm, names, mode=mode, target=shell, deadline=deadline)
            state = _await_running(dm, names, target=shell, deadline=deadline)
        except TargetError as error:
            raise DeployError(
                f"the deployment could not be brought up: {error.args[0]}",
                remedy=remedy_for(error),
                verdict=error.verdict,
            ) from error
    reported = {each.name: each for each in state.compositions}
    # A device manager that keeps no state file is taken at its word.
    running = tuple(reported.get(name, Composition(name=name, mode=mode, status="running")) for name in names)
    log.info("compositions running for session %s: %s (mode %s)", session.id, ", ".join(names) or "none", mode)
    bus = _reachable(dm, state.bus)
    return Deployment(path=where, mode=mode, compositions=running, files_sent=brought.sent, bus=bus)


def _reachable(dm: DeviceManager, bus: str | None) -> str | None:
    """Return the bus's endpoint for this machine: through the run's link where the board is another one."""
    link = dm.backend.link
    if bus is None or link is None:
        return bus
    from roboticks_tasks.targets.ssh.links import reach_device

    try:
        return reach_device(link, bus)
    except TargetError as error:
        log.warning("the message bus of the device cannot be reached from here: %s", error)
        return None


def source_folder(path: str) -> Path:
    """Return the folder that `deployment.path` means; `package:NAME/folder` is a folder inside an installed package."""
    if not path.startswith("package:"):
        return Path(path)
    package, _, inside = path.removeprefix("package:").partition("/")
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:  # a parent of it is missing
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"`deployment.path` names package {package!r}, which is not installed")
    return Path(spec.submodule_search_locations[0]) / inside


def _bring(profile: Profile, where: str, target: Target, deadline: Deadline) -> Synced:
    if profile.deployment.path is None:
        return Synced(0, 0, 0)
    source = source_folder(profile.deployment.path)
    if not source.is_dir():
        log.warning("Deployment path does not exist: %s; nothing is brought to the target", source)
        return Synced(0, 0, 0)
    return sync_tree(target, source, where, timeout=deadline.remaining)


def _known(profile: Profile, dm: DeviceManager, target: Target, deadline: Deadline) -> dict[str, list[str]]:
    """Return the deployed compositions with their modes; no mode where the device manager names none."""
    command = profile.device_manager.control.list_compositions
    known = control(target, command, dm, limit=deadline.remaining).get("compositions", [])
    entries = [each if isinstance(each, dict) else {"name": each} for each in known]
    return {str(each.get("name")): [str(mode) for mode in each.get("modes") or []] for each in entries}


def _choose(known: dict[str, list[str]], only: str | None, mode: str) -> list[str]:
    if only is not None and only not in known:
        everything = ", ".join(known) or "none"
        raise DeployError(f"unknown composition {only!r}", remedy=f"known: {everything}", verdict=Verdict.CONFIG_ERROR)
    names = list(known) if only is None else [only]
    for name in names:
        if known[name] and mode not in known[name]:
            modes = ", ".join(known[name])
            raise DeployError(
                f"composition {name!r} has no mode {mode!r}", remedy=f"known: {modes}", verdict=Verdict.CONFIG_ERROR
            )
    return names


def _reported(dm: DeviceManager, target: Target) -> ReportedState:
    return Watcher(dm, target).look(0.0, echo=False).state


def _stop_outdated(
    profile: Profile,
    dm: DeviceManager,
    names: list[str],
    *,
    mode: str,
    brought: Synced,
    target: Target,
    deadline: Deadline,
) -> None:
    """Stop the chosen compositions that run already, in another mode or from files that have just been replaced."""
    running = {each.name: each.mode for each in _reported(dm, target).compositions if each.status in ALIVE}
    changed = brought.sent + brought.removed > 0
    outdated = [name for name in names if name in running and (changed or running[name] != mode)]
    command = profile.device_manager.control.stop_composition
    for name, reason in control_each(target, command, dm, outdated, limit=deadline.remaining).items():
        raise DeployError(f"composition {name!r} could not be stopped to be started afresh: {reason}")


def _start(
    profile: Profile, dm: DeviceManager, names: list[str], *, mode: str, target: Target, deadline: Deadline
) -> None:
    command = profile.device_manager.control.start_composition
    for name, reason in control_each(target, command, dm, names, limit=deadline.remaining, mode=mode).items():
        raise DeployError(f"composition {name!r} does not run (mode {mode!r}): {reason}", verdict=Verdict.FAILED)


def _await_running(dm: DeviceManager, names: list[str], *, target: Target, deadline: Deadline) -> ReportedState:
    """Wait until the device manager reports each composition as running; at once when one has failed."""
    watcher = Watcher(dm, target)

    def probe() -> ReportedState | None:
        sighting = watcher.look(min(PATIENCE, deadline.remaining), echo=False)
        state = sighting.state
        if not sighting.alive:
            raise DeployError(f"the device manager ended before its compositions ran: {watcher.describe()}")
        waiting = [each for each in state.compositions if each.name in names and each.status != "running"]
        for each in waiting:
            if each.status not in ALIVE:
                reason = each.error or "no reason given"
                raise DeployError(f"composition {each.name!r} is {each.status}: {reason}", verdict=Verdict.FAILED)
        return None if waiting else state

    state = first(probe, deadline=deadline)
    if state is None:
        raise DeployError(
            f"not every composition runs within {deadline.seconds:g} s: {watcher.describe()}", verdict=Verdict.FAILED
        )
    return state
