"""Routes of sessions: list, show, forget, tags, and log messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from roboticks_tasks.sim.platform import parse, store_sessions
from roboticks_tasks.sim.platform.serving import body_of, not_found, page_of, platform_of

if TYPE_CHECKING:
    from starlette.requests import Request

LOGS_DEFAULT = 1000
LOGS_LIMIT = 10_000
LOGS_DEEPEST = 1_000_000_000


async def listing(request: Request) -> JSONResponse:
    """List sessions, newest first."""
    query = request.query_params
    page, size = page_of(request)
    items, total = await platform_of(request).store.read(
        store_sessions.page,
        device=query.get("device_id"),
        status=parse.choice(query, "status", among=store_sessions.STATUSES),
        since=parse.moment(query, "since"),
        until=parse.moment(query, "until"),
        offset=(page - 1) * size,
        limit=size,
    )
    return JSONResponse({"items": items, "total": total, "page": page, "page_size": size})


async def show(request: Request) -> JSONResponse:
    """Show one session."""
    key = request.path_params["session"]
    session = await platform_of(request).store.read(store_sessions.find, key)
    if session is None:
        not_found("session", key)
    return JSONResponse(session)


async def remove(request: Request) -> Response:
    """Forget a session with its logs."""
    key = request.path_params["session"]
    if not await platform_of(request).store.write(store_sessions.remove, key):
        not_found("session", key)
    return Response(status_code=204)


async def add_tag(request: Request) -> JSONResponse:
    """Tag a session; a tag it has already stays once."""
    return await change_tag(request, parse.text(await body_of(request), "tag"), present=True)


async def remove_tag(request: Request) -> JSONResponse:
    """Take a tag away; one that is not there is no fault."""
    return await change_tag(request, request.path_params["tag"], present=False)


async def change_tag(request: Request, word: str, *, present: bool) -> JSONResponse:
    """Change one tag and answer the session's tags."""
    key = request.path_params["session"]
    tags = await platform_of(request).store.write(store_sessions.tag, key, word, present=present)
    if tags is None:
        not_found("session", key)
    return JSONResponse({"tags": tags})


async def logs(request: Request) -> JSONResponse:
    """Show a session's log messages."""
    key = request.path_params["session"]
    if await platform_of(request).store.read(store_sessions.find, key) is None:
        not_found("session", key)
    return await logs_answer(request, session=key)


async def logs_answer(request: Request, *, session: str | None = None, device: str | None = None) -> JSONResponse:
    """Answer the log messages that the query selects, in the order of time; `offset` is ours, the rest documented."""
    query = request.query_params
    wanted = store_sessions.Filter(
        level=query.get("level"),
        module=query.get("module"),
        search=query.get("search"),
        since=parse.moment(query, "since"),
        until=parse.moment(query, "until"),
    )
    items, total = await platform_of(request).store.read(
        store_sessions.logs,
        session=session,
        device=device,
        wanted=wanted,
        offset=parse.number(query, "offset", default=0, maximum=LOGS_DEEPEST),
        limit=parse.number(query, "limit", default=LOGS_DEFAULT, minimum=1, maximum=LOGS_LIMIT),
    )
    return JSONResponse({"items": items, "total": total})
