"""Checks of this machine: programs and packages, the files that a profile names, folders, space."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from roboticks_tasks import bench
from roboticks_tasks.backend.local import NEEDED
from roboticks_tasks.doctor.checks import Check, simple
from roboticks_tasks.doctor.findings import Seen, failed, ok, warning
from roboticks_tasks.doctor.sizes import readable
from roboticks_tasks.lifecycle.deployment import source_folder
from roboticks_tasks.profiles import Profile
from roboticks_tasks.targets.local import LocalTarget

DISK, LEAST_DISK = 500_000_000, 50_000_000
"""Bytes for logs and reports: less is a warning, less than the second a failure."""


def machine_checks(profile: Profile, folder: Path) -> Iterator[Check[Any]]:
    """Yield the checks of this machine; `folder` is where runs make their folders."""
    yield simple("software", "machine", software)
    yield simple("packages", "machine", lambda: packages(profile))
    yield simple("output folder", "machine", lambda: output_folder(folder))
    if profile.target.kind == "ssh":
        yield simple("ssh client", "machine", ssh_client)
        if profile.target.identity_file is not None:
            name = profile.target.identity_file
            yield simple("identity file", "machine", lambda: identity_file(Path(name).expanduser()))
    if profile.boards:
        yield simple("bench folder", "machine", bench_folder)
    if profile.device_manager.source is not None:
        yield simple("device manager's source", "machine", lambda: source_file(profile))
    if profile.deployment.path is not None:
        yield simple("deployment's source", "machine", lambda: deployment_source(profile))
    if flash := profile.device_manager.flash:
        yield simple("flash command", "machine", lambda: flash_command(flash[0]))


def software() -> Seen:
    """Tell what runs here; a bug report begins with it."""
    versions = [f"Python {platform.python_version()}", f"roboticks-tasks {_version('roboticks-tasks')}"]
    versions += [f"{name} {version}" for name in ("nox", "pytest") if (version := _version(name)) != "not installed"]
    return ok(f"{', '.join(versions)} ({sys.executable})")


def packages(profile: Profile) -> Seen:
    """Look for the packages of the extras that the profile needs."""
    serial = profile.target.kind == "serial" or any(board.console for board in profile.boards)
    simulated = profile.backend == "local" or profile.device_manager.kind == "simulated"
    needed = {"sim": NEEDED if simulated else (), "serial": ("serial",) if serial else ()}
    missing = {
        extra: [name for name in names if importlib.util.find_spec(name) is None] for extra, names in needed.items()
    }
    extras = [extra for extra, names in missing.items() if names]
    if extras:
        names = ", ".join(name for extra in extras for name in missing[extra])
        return failed(f"not installed: {names}", f"`pip install 'roboticks-tasks[{','.join(extras)}]'`")
    return ok("all that the profile needs")


def ssh_client() -> Seen:
    """Look for ssh and its version."""
    done = LocalTarget().run(["ssh", "-V"], timeout=5)
    if not done.ok:
        return failed("this machine has no `ssh`", "install OpenSSH's client (openssh-client)")
    return ok(done.last_words)


def identity_file(path: Path) -> Seen:
    """Look at a private key as ssh does: it takes none that others can read."""
    try:
        mode = path.stat().st_mode
        path.open("rb").close()
    except OSError as error:
        return failed(f"{path}: {error.strerror}", "correct `target.identity_file`, or make one with ssh-keygen")
    if not stat.S_ISREG(mode):
        return failed(f"{path} is not a file", "correct `target.identity_file`")
    if mode & 0o077:
        return failed(f"{path} can be read by others (mode {mode & 0o777:o}), ssh refuses it", f"`chmod 600 {path}`")
    return ok(str(path))


def source_file(profile: Profile) -> Seen:
    """Look at the device manager's file and its checksum; one that comes from a URL is looked at by the run."""
    source = profile.device_manager.source
    assert source is not None
    if source.path is None:
        return ok(f"{source.url}, fetched by the run")
    try:
        with Path(source.path).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        return failed(f"{source.path}: {error.strerror}", "build it, or correct `device_manager.source.path`")
    if source.sha256 is not None and digest != source.sha256.lower():
        return failed(
            f"{source.path} has SHA-256 {digest}, the profile expects {source.sha256.lower()}",
            "correct `device_manager.source.sha256`, or the file",
        )
    return ok(f"{source.path}, SHA-256 {'as expected' if source.sha256 else digest[:12]}")


def deployment_source(profile: Profile) -> Seen:
    """Look for the folder that is to be deployed; a ConfigError when it lies in a package that is not installed."""
    assert profile.deployment.path is not None
    path = source_folder(profile.deployment.path)
    if not path.is_dir():
        return warning(f"{path} does not exist: nothing is deployed", "correct `deployment.path` in the profile")
    if not any(path.iterdir()):
        return warning(f"{path} is empty: nothing is deployed", "put a composition into it")
    return ok(str(path))


def flash_command(program: str) -> Seen:
    """Look for the program that writes firmware to a board."""
    found = shutil.which(program)
    if found is None:
        return failed(f"{program} is not installed", "install it, or correct `device_manager.flash`")
    return ok(found)


def output_folder(folder: Path) -> Seen:
    """Look whether runs can keep their logs and reports."""
    existing = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return failed(f"{existing} cannot be written", "choose another folder with --artifacts, or correct its owner")
    free = shutil.disk_usage(existing).free
    said = f"{readable(free)} free in {existing}"
    remedy = "free some space there; old runs can be deleted as whole folders"
    if free < LEAST_DISK:
        return failed(said, remedy)
    return warning(said, remedy) if free < DISK else ok(said)


def bench_folder() -> Seen:
    """Look at the folder in which the users of this bench meet; a ConfigError when there is none."""
    return ok(str(bench.shared_folder()))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
