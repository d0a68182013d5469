"""Checks of the local platform: by its folder, its ports, and its interface where it runs."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from roboticks_tasks import processes
from roboticks_tasks.backend import users
from roboticks_tasks.backend.local import STARTED_BY_RUN, Address
from roboticks_tasks.doctor.checks import Check, simple
from roboticks_tasks.doctor.findings import Seen, failed, ok, warning
from roboticks_tasks.doctor.remote_platform import HEALTH, get, innermost
from roboticks_tasks.models import BackendRef
from roboticks_tasks.profiles.values import LocalPlatform


def local_checks(options: LocalPlatform) -> Iterator[Check[Any]]:
    """Yield the checks of the local platform."""
    yield simple("platform", "platform", lambda: state(options))
    yield simple("left platform", "platform", lambda: left_platform(options))
    yield simple("platform's broker", "platform", lambda: broker(options))
    if options.http_port or options.mqtt_port:
        yield simple("platform's ports", "platform", lambda: ports(options))


def state(options: LocalPlatform) -> Seen:
    """Look whether the local platform runs, and for whom."""
    directory = Path(options.directory)
    address = running(directory)
    if address is None:
        return ok("the local platform, started by the run")
    backend = BackendRef(kind="local", url=address.url)
    import requests

    try:
        answer = get(backend, HEALTH, {})
    except requests.RequestException as error:
        return failed(
            f"the local platform (pid {address.pid}) does not answer at {address.url}: {innermost(error)}",
            f"`kill {address.pid}`: the next run starts it afresh; its log is {directory / 'platform.log'}",
        )
    if not answer.ok:
        return failed(
            f"the local platform (pid {address.pid}) answers {answer.status_code}", f"see {directory / 'platform.log'}"
        )
    return ok(f"the local platform is running at {address.url} (pid {address.pid})")


def left_platform(options: LocalPlatform) -> Seen | None:
    """Look for a local platform that an earlier run has started and that nobody uses any more."""
    directory = Path(options.directory)
    address = running(directory)
    if address is None:
        return None
    try:
        started_by_run = (directory / STARTED_BY_RUN).read_text(encoding="ascii") == str(address.pid)
    except (OSError, UnicodeDecodeError):
        started_by_run = False
    if not started_by_run:
        return ok("the local platform was started by hand")
    if _has_users(directory):
        return ok("the local platform has a run that uses it")
    return warning(
        f"the local platform that an earlier run started is still running (pid {address.pid})",
        "the next run uses it, and its teardown stops it",
    )


def broker(options: LocalPlatform) -> Seen:
    """Look for mosquitto where the profile wants it."""
    if options.broker == "builtin":
        return ok("our own")
    from roboticks_tasks.sim.platform import mosquitto

    found = mosquitto.find()
    if found is not None:
        return ok(found)
    if options.broker == "auto":
        return ok("our own, mosquitto is not installed")
    return failed("mosquitto is not installed", 'install it, or set `local_platform.broker = "auto"`')


def ports(options: LocalPlatform) -> Seen:
    """Look whether the ports are free that the profile wants for the local platform."""
    address = running(Path(options.directory))
    wanted = {"http_port": options.http_port, "mqtt_port": options.mqtt_port}
    ours = {urlsplit(address.url).port, address.mqtt.port} if address is not None else set()
    taken = {name: port for name, port in wanted.items() if port and port not in ours and not _is_free(port)}
    if taken:
        said = ", ".join(f"{name} {port}" for name, port in taken.items())
        return failed(f"in use by another program: {said}", "choose others in `local_platform`, or 0 for any free one")
    return ok(", ".join(str(port) for port in wanted.values() if port))


def running(directory: Path) -> Address | None:
    """Return the local platform that runs in `directory`, None when there is none."""
    try:
        address = msgspec.json.decode((directory / "platform.json").read_bytes(), type=Address)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return address if processes.is_alive(address.pid, address.start_time) else None


def _has_users(directory: Path) -> bool:
    found = False
    for path in (directory / "users").glob("*.json"):
        with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
            mark = msgspec.json.decode(path.read_bytes(), type=users.Mark)
            found = found or any(processes.is_alive(pid, started) for pid, started in mark.processes)
    return found


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
