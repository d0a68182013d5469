"""ensure_binary: the device manager is on the target and can run there."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from roboticks_tasks.errors import BinaryError, TargetError
from roboticks_tasks.lifecycle.support import download, elf
from roboticks_tasks.lifecycle.support.places import places
from roboticks_tasks.models import Binary
from roboticks_tasks.profiles import Profile
from roboticks_tasks.profiles.values import Source
from roboticks_tasks.targets import Target, open_target
from roboticks_tasks.targets.files import exists, put

log = logging.getLogger(__name__)

INSPECT = """
file=$1
[ -e "$file" ] || exit 3
[ -f "$file" ] || { echo "it is not a file" >&2; exit 4; }
[ -x "$file" ] || { echo "it is not executable" >&2; exit 5; }
uname -m
sha256sum <"$file" 2>/dev/null || echo -
head -c 20 "$file" | od -An -v -tx1
"""
"""One round trip: is it there, is it executable, whose machine code is it, what is its checksum."""


def ensure_binary(profile: Profile, *, target: Target | None = None, cache: Path | None = None) -> Binary:
    """Bring the device manager to `<root>/install/bin/device-manager` if it is not there, and check that it can run.

    A source in the profile (path or URL) replaces what is on the target when the checksums differ; without one the
    binary must be there already. `cache` is the folder for downloads. Raises BinaryError when it is missing, is not
    executable or is built for another architecture. A missing deployment folder is only a warning (documented).
    """
    where = places(profile)
    with open_target(profile, target) as shell:
        try:
            _bring(profile, where.binary, shell, cache)
            binary = _inspect(where.binary, shell)
            if profile.deployment.path is None and not exists(shell, where.deployment, kind="d"):
                log.warning("Deployment path does not exist: %s; no composition will be started", where.deployment)
        except TargetError as error:
            raise BinaryError(f"the device manager could not be checked: {error}", verdict=error.verdict) from error
    log.info("device manager: %s (%s)", binary.path, binary.architecture or "a script")
    return binary


def _bring(profile: Profile, path: str, target: Target, cache: Path | None) -> None:
    if profile.device_manager.kind == "simulated":
        from roboticks_tasks.sim.device_manager import install

        install(Path(profile.device_manager.root))
        return
    source = profile.device_manager.source
    if source is None:
        return
    content = _fetch(source, profile, cache)
    elf.check(content[:20], target.run(["uname", "-m"]).text, path=source.path or source.url or "")
    if _target_digest(path, target) != hashlib.sha256(content).hexdigest():
        put(target, content, path, mode=0o755)


def _fetch(source: Source, profile: Profile, cache: Path | None) -> bytes:
    if (source.path is None) == (source.url is None):
        raise BinaryError("`device_manager.source` needs either a path or a url")
    if source.url is not None:
        file = download.fetch(source.url, sha256=source.sha256, cache=cache, timeout=profile.timeouts.binary)
    else:
        file = Path(source.path or "")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise BinaryError(
            f"the device manager's source {file} cannot be read: {error.strerror}",
            remedy="set `device_manager.source` in the profile",
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if source.sha256 is not None and digest != source.sha256.lower():
        raise BinaryError(
            f"{file} has SHA-256 {digest}, expected {source.sha256.lower()}",
            remedy="correct `device_manager.source.sha256` or the file",
        )
    return content


def _target_digest(path: str, target: Target) -> str:
    done = target.run(["sha256sum", path])
    return done.text.split(" ", 1)[0] if done.ok else ""


def _inspect(path: str, target: Target) -> Binary:
    done = target.run(["sh", "-c", INSPECT, "sh", path])
    if done.exit_code == 3:
        raise BinaryError(
            f"Device manager binary not found: {path}",
            remedy="install the Roboticks device manager there, or set `device_manager.source` or ROBOTICKS_ROOT",
        )
    if not done.ok:
        raise BinaryError(f"the device manager {path} cannot be run: {done.last_words}", remedy=f"try: chmod +x {path}")
    machine, digest, *header = done.text.split("\n")
    architecture = elf.check(bytes.fromhex("".join(header)), machine, path=path)
    return Binary(path=path, sha256=digest.split(" ", 1)[0].strip("- ") or None, architecture=architecture)
