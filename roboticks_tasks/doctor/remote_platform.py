"""Checks of a remote platform, by its REST interface."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from roboticks_tasks.backend.client import LOOPBACK
from roboticks_tasks.backend.credentials import api_headers, project_secret
from roboticks_tasks.doctor.board import judge_clock
from roboticks_tasks.doctor.checks import Check
from roboticks_tasks.doctor.findings import Seen, failed, ok, warning
from roboticks_tasks.lifecycle.backend import remote
from roboticks_tasks.models import BackendRef
from roboticks_tasks.profiles import Profile

if TYPE_CHECKING:
    import requests

TIMEOUT = (2.0, 2.0)
"""Seconds to connect and to wait for an answer."""

HEALTH = "/api/v1/health"
WHO = "/api/v1/auth/me"
"""Which user a key belongs to: what the platform's own client asks after a login."""


class Reached(NamedTuple):
    """A platform that has answered: when it was asked, and what it answered."""

    backend: BackendRef
    environ: Mapping[str, str]
    asked: tuple[float, float]
    date: str


def remote_check(profile: Profile, environ: Mapping[str, str]) -> Check[Reached]:
    """Return the check of the platform at the profile's URL, and all that depends on its being there."""
    return Check(
        "platform",
        "platform",
        lambda: reach(remote(profile), environ),
        {"platform's clock": platform_clock, "API key": api_key, "project secret": secret},
        deadline=sum(TIMEOUT) + 1,
    )


def reach(backend: BackendRef, environ: Mapping[str, str]) -> tuple[Seen, Reached | None]:
    """Ask the platform how it is: name, route, TLS and service in one request."""
    import requests

    before = time.time()
    try:
        answer = get(backend, HEALTH, {})
    except requests.exceptions.SSLError as error:
        text = f"{backend.url} cannot be trusted: {innermost(error)}"
        return failed(text, "see who answers there; check this machine's clock and CA certificates"), None
    except requests.RequestException as error:
        text = f"{backend.url} cannot be reached: {innermost(error)}"
        return failed(text, "check `backend` (ROBOTICKS_API_URL), the network, and HTTPS_PROXY"), None
    reached = Reached(backend, environ, (before, time.time()), answer.headers.get("Date", ""))
    seconds = reached.asked[1] - reached.asked[0]
    if answer.status_code >= 500:
        text = f"{backend.url} answers {answer.status_code} {answer.reason}"
        return failed(text, "the platform has a fault of its own: wait, or ask who runs it"), reached
    if answer.status_code >= 300:
        text = f"{backend.url}{HEALTH} answers {answer.status_code} {answer.reason}"
        return warning(text, "see whether `backend` (ROBOTICKS_API_URL) is the platform's address"), reached
    return ok(f"{backend.url} answers after {seconds * 1000:.0f} ms"), reached


def platform_clock(reached: Reached) -> Seen:
    """Judge this machine's clock by the platform's Date header, which counts whole seconds."""
    try:
        date = parsedate_to_datetime(reached.date).timestamp()
    except (ValueError, OverflowError):  # none, or a year that no clock has
        return warning("the platform sends no Date", "compare this machine's clock by hand: TLS depends on it")
    remedy = "set this machine's clock: `timedatectl set-ntp true`"
    return judge_clock("the platform's clock", (date, date + 1), reached.asked, remedy=remedy)


def api_key(reached: Reached) -> Seen:
    """Ask the platform whose key it is; without one the registry cannot be asked, which a run can do without."""
    import requests

    backend = reached.backend
    headers = api_headers(backend, reached.environ)
    if not headers:
        return warning("not set: the registry cannot be asked, only the device", "set ROBOTICKS_API_KEY")
    try:
        answer = get(backend, WHO, headers)
    except requests.RequestException as error:
        return warning(f"{WHO} gives no answer: {innermost(error)}", "run doctor again")
    if answer.status_code in {401, 403}:
        return failed(f"refused with {answer.status_code} {answer.reason}", "set ROBOTICKS_API_KEY to a valid key")
    if not answer.ok:
        return warning(f"{WHO} answers {answer.status_code}: whether the key is valid is not known", "try it by hand")
    missing = [name for name in ("organization", "project") if getattr(backend, name) is None]
    if missing:
        return warning(f"valid, but no {' and no '.join(missing)} is named", "set ROBOTICKS_ORG and ROBOTICKS_PROJECT")
    return ok(f"valid{_whose(answer)}")


def secret(reached: Reached) -> Seen:
    """Look whether there is a project secret; nothing but a registration could show that it is right."""
    if project_secret(reached.backend, reached.environ):
        return ok("set; only a registration shows whether it is right")
    return warning("not set: a device that has not registered yet cannot", "set ROBOTICKS_PROJECT_SECRET")


def get(backend: BackendRef, path: str, headers: dict[str, str]) -> requests.Response:
    import requests

    with requests.Session() as session:
        # A proxy of the machine would swallow the loopback address.
        session.trust_env = urlsplit(backend.url).hostname not in LOOPBACK

        def authorise(request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers.update(headers)  # and nothing of what a .netrc says of the host
            return request

        return session.get(backend.url + path, auth=authorise, timeout=TIMEOUT, allow_redirects=False)


def innermost(error: BaseException) -> str:
    """Return what a chain of libraries says at its source, shortened."""
    reason: Any = error.args[0] if error.args else error
    reason = getattr(reason, "reason", reason)
    return str(reason).rpartition(": ")[2][:200] or type(error).__name__


def _whose(answer: requests.Response) -> str:
    try:
        email = answer.json().get("email")
    except (ValueError, AttributeError):
        return ""
    return f", of {email}" if isinstance(email, str) else ""
