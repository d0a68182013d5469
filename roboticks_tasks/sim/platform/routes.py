"""The one table of the API: the server routes by it, and the OpenAPI document is written from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.routing import Route

from roboticks_tasks.sim.platform import devices, fleet, sessions
from roboticks_tasks.sim.platform.serving import API, FLEET

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

Handler = Callable[["Request"], Awaitable["Response"]]

PAGE = ("page", "page_size")
PERIOD = ("since", "until")
LOGS = ("level", "module", "search", *PERIOD, "limit", "offset")


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One operation: what is sent, and what is answered when all is well, by the names of schemas (None: nothing)."""

    method: str
    path: str
    handler: Handler
    answers: Mapping[int, str | None]
    query: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    body: str | None = None
    refusals: tuple[int, ...] = field(default=())

    @property
    def summary(self) -> str:
        """Return what the operation does, in the words of the function that does it."""
        return (self.handler.__doc__ or "").strip().partition("\n")[0]


_PROJECT = f"{API}/organizations/{{org}}/projects/{{project}}"
_DEVICE = f"{_PROJECT}/devices/{{device}}"
_SESSION = f"{_PROJECT}/sessions/{{session}}"


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
