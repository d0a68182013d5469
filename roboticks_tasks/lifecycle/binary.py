"""ensure_binary: the device manager is on the target and can run there."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import NamedTuple

from roboticks_tasks.errors import BinaryError, TargetError, Verdict
from roboticks_tasks.lifecycle.support import elf, firmware, sources
from roboticks_tasks.lifecycle.support.advice import remedy_for
from roboticks_tasks.lifecycle.support.places import Places, fill, is_hosted, places
from roboticks_tasks.models import Binary
from roboticks_tasks.profiles import Profile
from roboticks_tasks.targets import Target, open_target
from roboticks_tasks.targets.files import put

log = logging.getLogger(__name__)

INSPECT = """
uname -m 2>/dev/null || echo unknown
[ -d "$2" ] && echo deployed || echo bare
sha256sum <"$3" 2>/dev/null || echo -
[ -e "$1" ] || exit 3
[ -f "$1" ] || { echo "it is not a file" >&2; exit 4; }
[ -x "$1" ] || { echo "it is not executable" >&2; exit 5; }
sha256sum <"$1" 2>/dev/null || echo -
[ "$4" = 0 ] || head -c "$4" "$1" | od -An -v -tx1
"""
"""One round trip: whose machine code runs there, is there a deployment, and what is known of the files $1 and $3."""

MISSING, NO_FILE = 3, 4


def ensure_binary(profile: Profile, *, target: Target | None = None, cache: Path | None = None) -> Binary:
    """Bring the device manager to `<root>/install/bin/device-manager` if it is not there, and check that it can run.

    native: a source in the profile (path or URL) replaces what is on the target when the checksums differ; without one
    the binary must be there already. bindings, simulated: a script that runs them, with an interpreter of the target.
    firmware: flashed by a command of this machine. `cache` is the folder for downloads. Raises BinaryError when it is
    missing or is not executable (`config-error`), or when the target cannot run it or take it (`bench-error`). A
    missing deployment folder is only a warning (documented).
    """
    if not is_hosted(profile):
        return firmware.ensure_flashed(profile, cache)
    where = places(profile)
    with open_target(profile, target) as shell:
        try:
            binary, deployed = _ensure(profile, where, shell, cache)
        except TargetError as error:
            raise BinaryError(
                f"the device manager could not be checked: {error.args[0]}",
                remedy=remedy_for(error),
                verdict=error.verdict,
            ) from error
    if profile.deployment.path is None and not deployed:
        log.warning("Deployment path does not exist: %s; no composition will be started", where.deployment)
    log.info("device manager: %s (%s)", binary.path, binary.architecture or "a script")
    return binary


class Found(NamedTuple):
    """What is on the target: `problem` is INSPECT's exit code, `sha256` is empty where it is not known."""

    machine: str
    deployed: bool
    beside_sha256: str
    problem: int
    reason: str
    sha256: str
    header: bytes


def _ensure(profile: Profile, where: Places, target: Target, cache: Path | None) -> tuple[Binary, bool]:
    """Return the binary, and whether there is a deployment folder."""
    kind = profile.device_manager.kind
    if kind == "native":
        found = _inspect(where.binary, where, target, header=elf.HEADER)
        source = sources.fetch(profile, cache)
        if source is not None:
            return _bring(source, found, profile, where.binary, target), found.deployed
        return _judge(found, where.binary, target), found.deployed
    # Not before: a run of the vendor's binary needs none of this.
    from roboticks_tasks.lifecycle.support import installing

    if kind == "simulated":
        program = installing.simulation(profile, where, target)
        found = _inspect(where.binary, where, target)
        if profile.target.kind == "local" and found.sha256 != _digest(program.text):
            installing.check_simulation_here(profile, target)
    else:
        program = installing.bindings_host(profile, where)
        found = _inspect(where.binary, where, target, beside=installing.host_path(where))
        _bring_module(profile, where, target, cache)
        installing.check_bindings(profile, where, target)
    if program.beside is not None and found.beside_sha256 != _digest(program.beside):
        put(target, program.beside.encode(), installing.host_path(where))
    if found.sha256 != _digest(program.text):
        put(target, program.text.encode(), where.binary, mode=0o755)
    return Binary(path=where.binary, sha256=_digest(program.text)), found.deployed


def _inspect(path: str, where: Places, target: Target, *, beside: str = "", header: int = 0) -> Found:
    words = [path, where.deployment, beside, str(header)]
    done = target.run(["sh", "-c", INSPECT, "sh", *words], repeatable=True)
    machine, deployed, beside_sha256, *more = done.stdout.decode("ascii", "replace").split("\n")
    complete = done.ok and len(more) > 0
    return Found(
        machine=machine,
        deployed=deployed == "deployed",
        beside_sha256=beside_sha256.split(" ", 1)[0].strip("-"),
        problem=done.exit_code,
        reason=done.last_words,
        sha256=more[0].split(" ", 1)[0].strip("-") if complete else "",
        header=bytes.fromhex("".join(more[1:])) if complete else b"",
    )


def _judge(found: Found, path: str, target: Target) -> Binary:
    """Return the binary that is on the target already; BinaryError when it is none or cannot run there."""
    if found.problem == MISSING:
        raise BinaryError(
            f"Device manager binary not found: {path}",
            remedy="install the Roboticks device manager there, or set `device_manager.source` or ROBOTICKS_ROOT",
        )
    if found.problem:
        raise BinaryError(f"the device manager {path} cannot be run: {found.reason}", remedy=f"try: chmod +x {path}")
    architecture = elf.check(found.header, found.machine, path=path)
    elf.check_libraries(found.header, target, path=path)
    return Binary(path=path, sha256=found.sha256 or None, architecture=architecture)


def _bring(source: sources.Fetched, found: Found, profile: Profile, path: str, target: Target) -> Binary:
    """Put the source where the device manager belongs, unless it is there; whether it can run there is asked before."""
    header = source.head(elf.HEADER)
    architecture = elf.check(header, found.machine, path=str(source.path))
    elf.check_libraries(header, target, path=str(source.path), source=source.path)
    if found.sha256 != source.sha256:
        if found.problem == NO_FILE:
            raise BinaryError(f"{path} on the target is not a file", remedy="remove it", verdict=Verdict.BENCH_ERROR)
        put(target, source.path, path, mode=0o755, timeout=profile.timeouts.binary)
    return Binary(path=path, sha256=source.sha256, architecture=architecture)


def _bring_module(profile: Profile, where: Places, target: Target, cache: Path | None) -> None:
    """Put the bindings' source, where the profile names one, into the first folder that they are imported from."""
    source = sources.fetch(profile, cache)
    if source is None:
        return
    folders = fill(profile.device_manager.bindings.path, root=where.root)
    if not folders:
        raise BinaryError("`device_manager.source` has no place to go to", remedy="set `device_manager.bindings.path`")
    path = f"{folders[0]}/{source.name}"
    found = _inspect(path, where, target, beside=path)
    header = source.head(elf.HEADER)
    elf.check(header, found.machine, path=str(source.path))
    if found.beside_sha256 != source.sha256:
        put(target, source.path, path, mode=0o755, timeout=profile.timeouts.binary)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
