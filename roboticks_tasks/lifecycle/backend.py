"""ensure_backend: the platform that a run talks to, and how the board reaches it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from roboticks_tasks.backend.client import LOOPBACK
from roboticks_tasks.backend.local import ensure_local, join_local
from roboticks_tasks.errors import BackendError, ConfigError, TargetError
from roboticks_tasks.models import BackendRef, Link
from roboticks_tasks.profiles import Profile
from roboticks_tasks.targets.opening import open_link_of


def ensure_backend(profile: Profile, *, artifacts: Path) -> BackendRef:
    """Return the profile's platform; with `backend = "local"` start the local one, or use the one that runs.

    A board behind a network reaches the local platform through tunnels of the run's own connection to it, so that
    neither side opens a port to the network. `artifacts` is the run's folder: the local platform counts it as a user,
    and stops when its last one is torn down. Raises ConfigError or BackendError when the local platform does not
    come up or the board cannot be connected with it, and for a URL without TLS that leaves this machine (documented:
    the vendor's own client refuses those too).
    """
    link = open_link_of(profile)  # connecting overlaps with the start of the platform
    try:
        if profile.backend != "local":
            return msgspec.structs.replace(remote(profile), link=link)
        backend = ensure_local(profile.local_platform, run=artifacts)
        return backend if link is None else _tunnelled(backend, link, artifacts)
    except BaseException:
        if link is not None:
            from roboticks_tasks.targets.ssh.links import close_link

            close_link(link)
        raise


def _tunnelled(backend: BackendRef, link: Link, artifacts: Path) -> BackendRef:
    """Return the local platform with the URL at which the board reaches it, its broker's port included."""
    from roboticks_tasks.targets.ssh.links import reach_from_device

    api = urlsplit(backend.url).port
    assert api is not None
    assert backend.mqtt_port is not None
    join_local(backend, link.process, run=artifacts)  # the steps' own processes end, the run goes on
    try:
        url = f"http://127.0.0.1:{reach_from_device(link, api)}"
        broker = reach_from_device(link, backend.mqtt_port)
    except TargetError as error:
        raise BackendError(
            f"the board cannot be connected with the local platform: {error}", verdict=error.verdict
        ) from error
    return msgspec.structs.replace(backend, link=link, device_url=f"{url}/via/{broker}")


def remote(profile: Profile) -> BackendRef:
    """Return the profile's platform that is not ours; ConfigError for a URL that would show a secret."""
    try:
        url = urlsplit(profile.backend)
    except ValueError as error:
        raise ConfigError(f"backend {profile.backend!r} is not a URL: {error}") from error
    if url.username or url.password:
        raise ConfigError("the backend's URL holds a user or a password", remedy="set ROBOTICKS_API_KEY instead")
    if url.scheme == "http" and url.hostname not in LOOPBACK:
        raise ConfigError(f"backend {profile.backend} would send the project secret in clear", remedy="use https://")
    return BackendRef(url=profile.backend.rstrip("/"), organization=profile.organization, project=profile.project)
