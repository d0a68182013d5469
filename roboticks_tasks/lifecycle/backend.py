"""ensure_backend: the platform that a run talks to."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from roboticks_tasks.backend.client import LOOPBACK
from roboticks_tasks.backend.local import ensure_local
from roboticks_tasks.errors import ConfigError
from roboticks_tasks.models import BackendRef
from roboticks_tasks.profiles import Profile


def ensure_backend(profile: Profile, *, artifacts: Path) -> BackendRef:
    """Return the profile's platform; with `backend = "local"` start the local one, or use the one that runs.

    `artifacts` is the run's folder: the local platform counts it as a user, and stops when its last one is torn down.
    Raises ConfigError or BackendError when the local platform does not come up, and for a URL without TLS that
    leaves this machine (documented: the vendor's own client refuses those too).
    """
    if profile.backend == "local":
        return ensure_local(profile.local_platform, run=artifacts)
    try:
        url = urlsplit(profile.backend)
    except ValueError as error:
        raise ConfigError(f"backend {profile.backend!r} is not a URL: {error}") from error
    if url.username or url.password:
        raise ConfigError("the backend's URL holds a user or a password", remedy="set ROBOTICKS_API_KEY instead")
    if url.scheme == "http" and url.hostname not in LOOPBACK:
        raise ConfigError(f"backend {profile.backend} would send the project secret in clear", remedy="use https://")
    return BackendRef(url=profile.backend.rstrip("/"), organization=profile.organization, project=profile.project)
