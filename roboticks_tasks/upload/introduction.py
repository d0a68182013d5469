"""What the platform is told beside the results: who sends them, and which change was tested."""

from __future__ import annotations

from collections.abc import Mapping

from roboticks_tasks import state
from roboticks_tasks.backend.credentials import api_headers
from roboticks_tasks.errors import ConfigError
from roboticks_tasks.models import BackendRef

INGEST_TOKEN = "ROBOTICKS_INGEST_TOKEN"  # noqa: S105 - a variable's name

TAGS = ("CI_COMMIT_TAG", "CIRCLE_TAG", "BUILDKITE_TAG", "TAG_NAME")
"""Where CI systems tell which tag a job is for; GitHub has a kind and a name."""


def credential(there: BackendRef, environ: Mapping[str, str]) -> dict[str, str]:
    """Return our header: an ingest token goes before a key, as with the platform's own client; ConfigError without.

    The local platform has a key of its own: what is exported for the real one is no business of it.
    """
    token = environ.get(INGEST_TOKEN) if there.kind == "remote" else None
    headers = {"Authorization": f"Bearer {token}"} if token else api_headers(there, environ)
    missing = [name for name, value in (("organization", there.organization), ("project", there.project)) if not value]
    if missing:
        names = " and ".join(missing)
        raise ConfigError(f"nothing was sent: the platform's {names} is not known", remedy="set it in the profile")
    if not headers:
        raise ConfigError(
            "nothing was sent: there is neither an ingest token nor a key for the platform",
            remedy=f"set {INGEST_TOKEN} or ROBOTICKS_API_KEY",
        )
    return headers


def metadata(run: state.RunState, environ: Mapping[str, str]) -> dict[str, object]:
    """Return what the platform is told of a run besides its results, in the words of the platform's own client."""
    known = run.provenance
    provider = known.ci or ""
    values = {
        "run_name": run.run_id,
        "commit_sha": known.commit,
        "branch": known.branch,
        "pr_number": known.pull_request,
        "release": _release(environ) if known.ci else None,
        "ci_provider": None if provider in {"", "unknown"} else provider,
        "ci_run_url": known.url,
    }
    return {key: value for key, value in values.items() if value is not None}


def _release(environ: Mapping[str, str]) -> str | None:
    if environ.get("GITHUB_REF_TYPE") == "tag":
        return environ.get("GITHUB_REF_NAME") or None
    return next((environ[name] for name in TAGS if environ.get(name)), None)
