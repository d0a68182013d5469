"""The one table of the API: the server routes by it, and the OpenAPI document is written from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.routing import Route

from roboticks_tasks.sim.platform import devices, fleet, ingest, presigned, runs, sessions
from roboticks_tasks.sim.platform.serving import API, DOWNLOADS, FLEET, UPLOADS

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

Handler = Callable[["Request"], Awaitable["Response"]]

PAGE = ("page", "page_size")
PERIOD = ("since", "until")
LOGS = ("level", "module", "search", *PERIOD, "limit", "offset")


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One operation: what is sent, and what is answered when all is well, by the names of schemas (None: nothing).

    A `body` is JSON, a `form` is multipart/form-data.
    """

    method: str
    path: str
    handler: Handler
    answers: Mapping[int, str | None]
    query: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    body: str | None = None
    form: str | None = None
    refusals: tuple[int, ...] = field(default=())

    @property
    def summary(self) -> str:
        """Return what the operation does, in the words of the function that does it."""
        return (self.handler.__doc__ or "").strip().partition("\n")[0]


_PROJECT = f"{API}/organizations/{{org}}/projects/{{project}}"
_DEVICE = f"{_PROJECT}/devices/{{device}}"
_SESSION = f"{_PROJECT}/sessions/{{session}}"
_TOKENS = f"{_PROJECT}/ingest-tokens"
_RUN = f"{_PROJECT}/test-runs/{{run}}"
SIGNATURE = ("expires", "signature")


def _get(path: str, handler: Handler, answer: str, *query: str) -> Endpoint:
    return Endpoint(method="GET", path=path, handler=handler, answers={200: answer}, query=query)


ENDPOINTS = (
    Endpoint(
        method="POST",
        path=f"{FLEET}register",
        handler=fleet.register,
        answers={200: "Registration", 201: "Registration"},
        body="NewDevice",
        refusals=(409,),
    ),
    Endpoint(
        method="GET",
        path=f"{FLEET}connection",
        handler=fleet.connection,
        answers={200: "Connection"},
        query=("dsn",),
        required=("dsn",),
        refusals=(404,),
    ),
    _get(f"{API}/organizations/{{org}}/limits", fleet.limits, "Limits"),
    _get(f"{_PROJECT}/devices", devices.listing, "DevicePage", "status", "type", "group_id", *PAGE),
    _get(_DEVICE, devices.show, "Device"),
    Endpoint(method="PATCH", path=_DEVICE, handler=devices.change, answers={200: "Device"}, body="DeviceChange"),
    Endpoint(method="DELETE", path=_DEVICE, handler=devices.remove, answers={204: None}),
    _get(f"{_DEVICE}/logs", devices.logs, "LogPage", *LOGS),
    Endpoint(
        method="POST", path=f"{_DEVICE}/commands", handler=devices.command, answers={202: "SentCommand"}, body="Command"
    ),
    Endpoint(
        method="POST",
        path=f"{_PROJECT}/commands",
        handler=devices.broadcast,
        answers={202: "SentCommand"},
        body="Command",
    ),
    _get(f"{_PROJECT}/sessions", sessions.listing, "SessionPage", "device_id", "session_status", *PERIOD, *PAGE),
    _get(_SESSION, sessions.show, "Session"),
    Endpoint(method="DELETE", path=_SESSION, handler=sessions.remove, answers={204: None}),
    Endpoint(method="POST", path=f"{_SESSION}/tags", handler=sessions.add_tag, answers={200: "Tags"}, body="Tag"),
    Endpoint(method="DELETE", path=f"{_SESSION}/tags/{{tag:path}}", handler=sessions.remove_tag, answers={200: "Tags"}),
    _get(f"{_SESSION}/logs", sessions.logs, "LogPage", *LOGS),
    Endpoint(
        method="POST",
        path=f"{_PROJECT}/ingest/junit",
        handler=ingest.results,
        answers={200: "Ingested", 201: "Ingested"},
        form="Results",
    ),
    Endpoint(
        method="POST",
        path=f"{_PROJECT}/ingest/mcap-upload-urls",
        handler=ingest.addresses,
        answers={200: "Addresses"},
        body="NewFiles",
    ),
    _get(_TOKENS, ingest.list_tokens, "IngestTokens", "include_revoked"),
    Endpoint(
        method="POST",
        path=_TOKENS,
        handler=ingest.create_token,
        answers={201: "NewIngestTokenShown"},
        body="NewIngestToken",
        refusals=(409,),
    ),
    Endpoint(
        method="DELETE",
        path=f"{_TOKENS}/{{token}}",
        handler=ingest.revoke_token,
        answers={200: "IngestToken"},
    ),
    _get(f"{_PROJECT}/test-runs", runs.listing, "TestRuns", "run_status", "branch", "run_limit"),
    _get(_RUN, runs.show, "TestRun"),
    _get(f"{_RUN}/test-cases", runs.cases, "TestCases"),
    _get(f"{_RUN}/files", runs.files, "Files", "recursive", "nodeid", "prefix"),
    Endpoint(
        method="GET",
        path=f"{_RUN}/files/download",
        handler=runs.download,
        answers={200: "Download"},
        query=("path",),
        required=("path",),
    ),
    Endpoint(method="POST", path=f"{_RUN}/progress", handler=runs.progress, answers={202: "Accepted"}, body="Progress"),
    Endpoint(
        method="POST",
        path=f"{UPLOADS}{{file}}",
        handler=presigned.put,
        answers={204: None},
        query=SIGNATURE,
        required=SIGNATURE,
        form="Upload",
        refusals=(409,),
    ),
    Endpoint(
        method="GET",
        path=f"{DOWNLOADS}{{file}}",
        handler=presigned.get,
        answers={200: "Content"},
        query=SIGNATURE,
        required=SIGNATURE,
    ),
)


def table(endpoints: Iterable[Endpoint]) -> list[Route]:
    """Return the routes by which the server finds operations: one per path, so that a 405 names all its methods."""
    paths: dict[str, dict[str, Handler]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method] = endpoint.handler
    return [Route(path, _by_method(handlers), methods=list(handlers)) for path, handlers in paths.items()]


def _by_method(handlers: Mapping[str, Handler]) -> Handler:
    async def answer(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return answer
