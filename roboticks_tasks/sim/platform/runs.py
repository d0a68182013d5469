"""Routes of test runs: list, show, their cases and files, and how one gets on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from roboticks_tasks.sim.platform import parse, presigned, store_files, store_test_runs
from roboticks_tasks.sim.platform.serving import PAGE_LIMIT, body_of, not_found, platform_of
from roboticks_tasks.sim.platform.store_test_runs import Progress

if TYPE_CHECKING:
    from starlette.requests import Request

LISTED = 20
MOST_EVENTS = 1000
NODEID_LIMIT = 2000
LONGEST = 1e8
"""Seconds of a case."""

OUTCOMES = ("passed", "failed", "error", "skipped", "rerun")
BEGUN, ENDED = "case-started", "case-finished"


async def listing(request: Request) -> JSONResponse:
    """List test runs, newest first; the answer is a bare list, as the platform's own client takes it."""
    query = request.query_params
    found = await platform_of(request).store.read(
        store_test_runs.page,
        status=parse.choice(query, "status", among=store_test_runs.STATUSES),
        branch=query.get("branch"),
        limit=parse.number(query, "limit", default=LISTED, minimum=1, maximum=PAGE_LIMIT),
    )
    return JSONResponse(found)


async def show(request: Request) -> JSONResponse:
    """Show one test run, by its id or its name."""
    key = request.path_params["run"]
    run = await platform_of(request).store.read(store_test_runs.find, key)
    if run is None:
        not_found("test run", key)
    return JSONResponse(run)


async def cases(request: Request) -> JSONResponse:
    """List the cases of a test run."""
    run = await known(request)
    return JSONResponse({"test_cases": await platform_of(request).store.read(store_test_runs.cases, run)})


async def files(request: Request) -> JSONResponse:
    """List the files of a test run, or of one of its cases."""
    run, query = await known(request), request.query_params
    recursive = parse.choice(query, "recursive", among=("true", "false"), default="true") == "true"
    prefix = store_files.case_folder(query.get("nodeid")) + query.get("prefix", "")
    found = await platform_of(request).store.read(store_files.of_run, run, prefix=prefix, recursive=recursive)
    return JSONResponse({"files": found})


async def download(request: Request) -> JSONResponse:
    """Tell where a file of a test run can be had, for an hour."""
    run, path = await known(request), request.query_params.get("path")
    if not path:
        raise parse.InvalidError("path: missing")
    file = await platform_of(request).store.read(store_files.by_key, run, path)
    if file is None:
        not_found("file", path)
    return JSONResponse({"download_url": presigned.download_address(request, file)})


async def progress(request: Request) -> JSONResponse:
    """Take note of how a test run gets on, under its name (our choice: the documentation has no such message)."""
    body = await body_of(request)
    events = body.get("events")
    if not isinstance(events, list) or len(events) > MOST_EVENTS:
        raise parse.InvalidError(f"events: must be a list of at most {MOST_EVENTS} events")
    total = None
    if body.get("total") is not None:
        total = parse.count(body, "total", maximum=store_test_runs.MOST_CASES)
    try:
        accepted = await platform_of(request).store.write(
            store_test_runs.progress, _name(request), [_event(each) for each in events], total=total
        )
    except store_test_runs.TooManyCasesError as error:
        raise parse.InvalidError(str(error)) from error
    return JSONResponse({"accepted": accepted}, 202)


async def known(request: Request) -> str:
    """Return the id of the run that the path names; 404 when there is none."""
    key = request.path_params["run"]
    run = await platform_of(request).store.read(store_test_runs.identify, key)
    if run is None:
        not_found("test run", key)
    return run


def _name(request: Request) -> str:
    return parse.text(request.path_params, "run")


def _event(value: object) -> Progress:
    if not isinstance(value, dict):
        raise parse.InvalidError("events: each must be an object")
    kind = parse.choice(value, "event", among=(BEGUN, ENDED))
    if kind is None:
        raise parse.InvalidError("event: missing")
    nodeid, at = parse.text(value, "nodeid", limit=NODEID_LIMIT), _number(value, "at", most=parse.LATEST)
    if at is None:
        raise parse.InvalidError("at: missing")
    if kind == BEGUN:
        return Progress(nodeid, at, "running")
    outcome = parse.choice(value, "outcome", among=OUTCOMES)
    if outcome is None:
        raise parse.InvalidError("outcome: missing")
    return Progress(
        nodeid,
        at,
        outcome,
        classname=_words(value, "classname"),
        name=_words(value, "name"),
        duration=_number(value, "duration", most=LONGEST),
        message=_words(value, "message") or None,
    )


def _number(value: Mapping[str, object], key: str, *, most: float) -> float | None:
    found = value.get(key)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= most:
        raise parse.InvalidError(f"{key}: must be a number from 0 to {most:.0f}")
    return float(found)


def _words(value: Mapping[str, object], key: str) -> str:
    """Return a text, cut to what is kept; an absent one is empty."""
    found = value.get(key)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise parse.InvalidError(f"{key}: must be a text")
    return found[:NODEID_LIMIT]
