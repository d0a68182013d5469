"""A small client of the platform's REST interface, as far as a run needs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from roboticks_tasks.backend.credentials import api_headers
from roboticks_tasks.errors import BackendError
from roboticks_tasks.models import BackendRef

if TYPE_CHECKING:
    import requests

TIMEOUT = (3.05, 10.0)
"""Seconds to connect and to wait for an answer; requests itself has no limit."""

QUICK = (1.0, 1.0)
"""The same, for those who have a deadline of their own and ask again."""

LOOPBACK = {"127.0.0.1", "localhost", "::1"}

START_SESSION, STOP_SESSION = 3, 4
"""The command types; 3 and 4 are documented for session control, that 3 starts is an inference from their order."""


class Client:
    """One connection to the platform; every method returns decoded JSON or raises BackendError."""

    def __init__(self, backend: BackendRef, *, quick: bool = False) -> None:
        """Prepare for `backend`; `quick` waits for a second at most and repeats nothing."""
        self._backend = backend
        self._quick = quick
        self._headers = api_headers(backend)
        self._connection: requests.Session | None = None
        self._project = f"/api/v1/organizations/{backend.organization}/projects/{backend.project}"

    @property
    def can_read(self) -> bool:
        """Tell whether project, organization and key are known, without which the registry cannot be asked."""
        return bool(self._backend.organization and self._backend.project and self._headers)

    def health(self) -> dict[str, Any]:
        """Return what the platform says of itself."""
        return self._object("GET", "/api/v1/health")

    def limits(self) -> dict[str, Any]:
        """Return the organization's limits; our local platform reports the used Device units in them."""
        return self._object("GET", f"/api/v1/organizations/{self._backend.organization}/limits")

    def devices(self, **filters: str) -> list[dict[str, Any]]:
        """Return the devices (documented filters: status, type, group_id)."""
        return self._list(f"{self._project}/devices", filters)

    def device(self, dsn: str) -> dict[str, Any]:
        """Return one device by its DSN."""
        return self._object("GET", f"{self._project}/devices/{dsn}")

    def sessions(self, **filters: str) -> list[dict[str, Any]]:
        """Return sessions, newest first (documented filters: device_id, status, since, until)."""
        return self._list(f"{self._project}/sessions", filters)

    def session(self, session_id: str) -> dict[str, Any]:
        """Return one session."""
        return self._object("GET", f"{self._project}/sessions/{session_id}")

    def logs(self, session_id: str, **filters: str) -> list[dict[str, Any]]:
        """Return the log lines of a session (documented filters: level, module, search, since, until, limit)."""
        return self._list(f"{self._project}/sessions/{session_id}/logs", filters)

    def send_command(self, dsn: str, command: int, payload: Mapping[str, object]) -> str:
        """Send a command to a device through the platform; return its id."""
        body = {"type": command, "payload": dict(payload)}
        return str(self._object("POST", f"{self._project}/devices/{dsn}/commands", json=body).get("command_id", ""))

    def _list(self, path: str, filters: Mapping[str, str]) -> list[dict[str, Any]]:
        answer = self._call("GET", path, params=filters)
        # The documentation shows bare arrays and, for paged lists, no shape at all: both are read.
        items = answer.get("items") if isinstance(answer, dict) else answer
        if not isinstance(items, list):
            raise BackendError(f"{self._backend.url}{path} answered something that is not a list")
        return items

    def _object(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        answer = self._call(method, path, **options)
        if not isinstance(answer, dict):
            raise BackendError(f"{self._backend.url}{path} answered something that is not an object")
        return answer

    def _call(self, method: str, path: str, **options: Any) -> Any:
        import requests

        url = self._backend.url.rstrip("/") + path
        try:
            response = self._connect().request(method, url, timeout=QUICK if self._quick else TIMEOUT, **options)
        except requests.RequestException as error:
            raise BackendError(
                f"the platform at {self._backend.url} cannot be reached ({type(error).__name__})",
                remedy="check the URL and the network",
            ) from error
        try:
            answer = response.json()
        except requests.JSONDecodeError:
            answer = None
        if not response.ok:
            # Documented: errors are read from `detail` or `message`.
            said = (answer.get("detail") or answer.get("message")) if isinstance(answer, dict) else None
            raise BackendError(f"{method} {url} was refused with {response.status_code}: {said or response.reason}")
        if answer is None:
            raise BackendError(f"{method} {url} answered something that is not JSON", remedy="check the URL")
        return answer

    def _connect(self) -> requests.Session:
        """Open the connection with the first call: whoever needs no answer does not pay for the library."""
        if self._connection is None:
            import requests
            from requests.adapters import HTTPAdapter
            from urllib3.util import Retry

            # A read that broke is repeated; a write is not, because it may have arrived.
            # After the last attempt the answer itself comes back: it says more than that the attempts are used up.
            retry = Retry(
                total=0 if self._quick else 3,
                backoff_factor=0.2,
                status_forcelist=(502, 503, 504),
                allowed_methods={"GET"},
                raise_on_status=False,
            )
            self._connection = requests.Session()
            # A proxy of the CI machine would swallow the loopback address.
            self._connection.trust_env = urlsplit(self._backend.url).hostname not in LOOPBACK
            self._connection.mount("http://", HTTPAdapter(max_retries=retry))
            self._connection.mount("https://", HTTPAdapter(max_retries=retry))
            self._connection.headers["Accept"] = "application/json"
            self._connection.auth = self._authorise
        return self._connection

    def _authorise(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add our header; without a method of ours requests would take what a .netrc says of the host."""
        request.headers.update(self._headers)
        return request

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()


@contextmanager
def open_client(backend: BackendRef, client: Client | None = None, *, quick: bool = False) -> Iterator[Client]:
    """Lend `client`, or make one for the block and close it afterwards; `quick` as for Client."""
    if client is not None:
        yield client
        return
    own = Client(backend, quick=quick)
    try:
        yield own
    finally:
        own.close()
