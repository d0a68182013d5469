"""What the routes share: the running platform's parts, the request's body and page, and who may call."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from roboticks_tasks.sim.platform import authority, parse

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from roboticks_tasks.sim.platform.store import Store

API = "/api/v1"
HEALTH = f"{API}/health"
FLEET = f"{API}/fleet/"
SECRET_ONLY = FLEET
"""Where the API key does not do: devices have the project secret, and nothing else."""

ORGANIZATION = "local"
PROJECT = "local"

BODY_LIMIT = 1_000_000
PAGE_LIMIT = 100
DEEPEST_PAGE = 1_000_000
LOCAL_NAMES = (b"127.0.0.1", b"localhost")

VIA = re.compile(r"/via/(?P<port>[1-9][0-9]{0,4})(?P<path>/.*)", re.DOTALL)
"""What the path of a device's request begins with when both API and broker reach it through tunnels: the tunnelled
port of the broker. So each board is told an address that is right on that board, and nothing has to be remembered."""

TUNNEL = "roboticks.tunnel"
"""Where the request keeps that port."""


@dataclass(frozen=True, kw_only=True)
class Platform:
    """The parts that a route works with; `publish` sends (topic, payload object) to devices, False while it cannot."""

    store: Store
    certificates: authority.Files
    project_secret: str
    api_key: str
    mqtt_host: str
    mqtt_port: int
    broker: str
    publish: Callable[[str, object], bool]


def platform_of(request: Request) -> Platform:
    """Return the running platform."""
    platform: Platform = request.app.state.platform
    return platform


def broker_of(request: Request) -> dict[str, object]:
    """Return the broker's address as the caller reaches it: behind a tunnel its port is another one."""
    platform = platform_of(request)
    return {"host": platform.mqtt_host, "port": request.scope.get(TUNNEL, platform.mqtt_port)}


async def body_of(request: Request) -> dict[str, object]:
    """Read the JSON object that was sent; 413 beyond `BODY_LIMIT` bytes, InvalidError for anything but an object."""
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > BODY_LIMIT:
            raise HTTPException(413, f"the body is larger than {BODY_LIMIT} bytes")
    return parse.json_object(bytes(raw))


def not_found(kind: str, key: str) -> NoReturn:
    """Say that nothing has this key."""
    raise HTTPException(404, f"no {kind} {key[:80]!r}")


def page_of(request: Request) -> tuple[int, int]:
    """Return the `page` (from 1) and the `page_size` (20, at most 100) that are asked for."""
    size = parse.number(request.query_params, "page_size", default=20, minimum=1, maximum=PAGE_LIMIT)
    return parse.number(request.query_params, "page", default=1, minimum=1, maximum=DEEPEST_PAGE), size


def refusal(scope: Scope, platform: Platform) -> tuple[int, str] | None:
    """Tell why this request is refused before any route sees it, as (status, detail), or None.

    The Host header is checked because a web page may point a name of its own at 127.0.0.1 (DNS rebinding).
    """
    headers = dict(scope["headers"])
    if headers.get(b"host", b"").rsplit(b":", 1)[0] not in LOCAL_NAMES:
        return 400, "the Host header must be 127.0.0.1 or localhost"
    path = scope["path"]
    if path == HEALTH:
        return None
    problem = unauthorized(headers, platform, secret_only=path.startswith(SECRET_ONLY))
    if problem is not None:
        return 401, problem
    parts = path.split("/")
    for name, known, at in (("organization", ORGANIZATION, 3), ("project", PROJECT, 5)):
        if len(parts) > at + 1 and parts[at] == f"{name}s" and parts[at + 1] != known:
            return 404, f"no {name} {parts[at + 1][:80]!r}"
    return None


def unauthorized(headers: dict[bytes, bytes], platform: Platform, *, secret_only: bool) -> str | None:
    """Say which credential is wrong or missing; every one that was sent must be right."""
    secret, key = headers.get(b"x-project-secret"), headers.get(b"x-api-key")
    bearer = headers.get(b"authorization")
    if secret is not None and not hmac.compare_digest(secret, platform.project_secret.encode()):
        return "wrong project secret"
    if secret_only:
        return None if secret is not None else "missing project secret: send the header X-Project-Secret"
    if bearer is not None:
        scheme, _, key = bearer.partition(b" ")
        if scheme.lower() != b"bearer":
            return "wrong Authorization header: send Bearer and the API key"
    if key is not None and not hmac.compare_digest(key.strip(), platform.api_key.encode()):
        return "wrong API key"
    if secret is None and key is None:
        return "missing credentials: send X-Project-Secret, X-API-Key or Authorization: Bearer"
    return None


class Guard:
    """ASGI middleware that answers what `refusal` refuses."""

    def __init__(self, app: ASGIApp, *, platform: Platform) -> None:
        """Wrap `app`."""
        self.app, self.platform = app, platform

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on one request."""
        if scope["type"] == "http" and (match := VIA.fullmatch(scope["path"])) and int(match["port"]) <= 65535:
            path = match["path"]
            scope = {**scope, "path": path, "raw_path": path.encode(), TUNNEL: int(match["port"])}
        refused = refusal(scope, self.platform) if scope["type"] == "http" else None
        if refused is None:
            await self.app(scope, receive, send)
        else:
            status, detail = refused
            await JSONResponse({"detail": detail}, status)(scope, receive, send)
