"""Credentials, read at the last moment from the environment or the local platform's own files, and never stored."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from roboticks_tasks.errors import BackendError
from roboticks_tasks.models import BackendRef


def project_secret(backend: BackendRef, environ: Mapping[str, str] | None = None) -> str:
    """Return the local platform's own project secret, or of a remote one `ROBOTICKS_PROJECT_SECRET`, else nothing."""
    return _read("ROBOTICKS_PROJECT_SECRET", backend.secret_file, environ)


def api_headers(backend: BackendRef, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the header that authenticates REST calls (documented: `Authorization: Bearer`); empty without a key."""
    key = _read("ROBOTICKS_API_KEY", backend.api_key_file, environ)
    return {"Authorization": f"Bearer {key}"} if key else {}


def _read(variable: str, file: str | None, environ: Mapping[str, str] | None) -> str:
    """Read the file where there is one: what is exported for the real platform is no business of the local one."""
    if file is None:
        return (os.environ if environ is None else environ).get(variable, "")
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise BackendError(
            f"the local platform's credentials cannot be read ({file}: {error.strerror})",
            remedy="remove the local platform's folder to start it afresh",
        ) from error
