"""What the routes share: the running platform's parts, the request's body and page, and who may call."""

from __future__ import annotations

import hashlib
import hmac
import re
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from roboticks_tasks.sim.platform import authority, parse, store_tokens

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

UPLOADS, DOWNLOADS = f"{API}/uploads/", f"{API}/downloads/"
SIGNED = (UPLOADS, DOWNLOADS)
"""Where a signature in the address is the credential, and no other."""

INGESTION = re.compile(rf"{API}/organizations/[^/]+/projects/[^/]+/(ingest/[^/]+|test-runs/[^/]+/progress)")
"""What an ingest token is good for."""

INGEST_TOKEN = "roboticks.ingest-token"  # noqa: S105 - a name
"""Where the request keeps the id of the ingest token that it came with."""

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
    """The parts that a route works with; `publish` sends (topic, payload object) to devices, False while it cannot.

    `files` is the folder of the files of test runs.
    """

    store: Store
    certificates: authority.Files
    project_secret: str
    api_key: str
    mqtt_host: str
    mqtt_port: int
    broker: str
    publish: Callable[[str, object], bool]
    files: Path


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
    if path.startswith(SIGNED):
        problem = unsigned(path, scope["query_string"], platform)
        return (401, problem) if problem is not None else None
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
    if bearer is not None and key is not None and key.strip().startswith(store_tokens.PREFIX.encode()):
        return None  # looked up in the store, by `Guard`
    if key is not None and not hmac.compare_digest(key.strip(), platform.api_key.encode()):
        return "wrong API key"
    if secret is None and key is None:
        return "missing credentials: send X-Project-Secret, X-API-Key or Authorization: Bearer"
    return None


def sign(api_key: str, path: str, expires: str) -> str:
    """Return the signature of an address; whoever has no API key cannot make one."""
    return hmac.new(api_key.encode(), f"{path}?{expires}".encode(), hashlib.sha256).hexdigest()


def unsigned(path: str, query: bytes, platform: Platform) -> str | None:
    """Say what is wrong with the signature of an address."""
    values = QueryParams(query)
    expires, signature = values.get("expires", ""), values.get("signature", "")
    right = sign(platform.api_key, path, expires)
    if not hmac.compare_digest(signature.encode(), right.encode()):
        return "the address is not signed by this platform"
    if int(expires) < time.time():
        return "the address has expired: ask for a new one"
    return None


async def ingest_token(scope: Scope, platform: Platform) -> tuple[int, str] | None:
    """Look up the ingest token that a request came with, if any; return why it is refused, as (status, detail)."""
    scheme, _, raw = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() != "bearer" or not raw.strip().startswith(store_tokens.PREFIX) or scope["path"] == HEALTH:
        return None
    if scope["path"].startswith(SIGNED):
        return None
    try:
        found = await platform.store.read(store_tokens.admit, raw.strip())
    except sqlite3.Error as error:
        return 503, f"the platform cannot use its database: {error}"
    if isinstance(found, str):
        return 401, found
    if not INGESTION.fullmatch(scope["path"]):
        return 403, "an ingest token is good for sending results, and for nothing else"
    scope[INGEST_TOKEN] = found
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
        refused = None
        if scope["type"] == "http":
            refused = refusal(scope, self.platform) or await ingest_token(scope, self.platform)
        if refused is None:
            await self.app(scope, receive, send)
        else:
            status, detail = refused
            await JSONResponse({"detail": detail}, status)(scope, receive, send)
