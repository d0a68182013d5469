"""Routes by which results come: JUnit files, addresses for the files that they name, and the tokens of CI."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from roboticks_tasks.sim.platform import junit, parse, presigned, store_files, store_test_runs, store_tokens
from roboticks_tasks.sim.platform.directory import UNFINISHED
from roboticks_tasks.sim.platform.multipart import read_form
from roboticks_tasks.sim.platform.serving import INGEST_TOKEN, body_of, not_found, platform_of

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

JUNIT_LIMIT = 16_000_000
FILE_LIMIT = 250_000_000
MOST_FILES = 50
MOST_USES = 1_000_000
LARGEST_ID = 1 << 53


async def results(request: Request) -> JSONResponse:
    """Take the results of a run that is over; one of the same name is replaced (our choice)."""
    platform = platform_of(request)
    receiver = presigned.Receiver(platform.files / f".{uuid.uuid4()}{UNFINISHED}", limit=JUNIT_LIMIT)
    with receiver:
        fields = await read_form(request, file="junit", sink=receiver.take)
        await receiver.flush()
        name, metadata = _metadata(fields)
        report = await asyncio.to_thread(_read, receiver.path)
    token = request.scope.get(INGEST_TOKEN)
    try:
        made = await platform.store.write(store_test_runs.ingest, report, name=name, metadata=metadata, token=token)
    except store_tokens.UsedUpError as error:
        raise HTTPException(401, str(error)) from error
    answer = {
        "test_run_id": made.id,
        "run_name": name,
        "status": made.status,
        "cases_ingested": len(report.cases),
        "confirms_links_created": made.links,
    }
    return JSONResponse(answer, 201 if made.is_new else 200)


def _read(path: Path) -> junit.Report:
    with path.open("rb") as stream:
        return junit.read(stream)


def _metadata(fields: dict[str, str]) -> tuple[str, dict[str, Any]]:
    if "metadata" not in fields:
        raise parse.InvalidError("metadata: missing")
    try:
        sent = parse.json_object(fields["metadata"].encode())
    except parse.InvalidError as error:
        raise parse.InvalidError(f"metadata: {error}") from error
    present = {key: value for key, value in sent.items() if value is not None}
    metadata: dict[str, Any] = {
        key: parse.text(present, key, limit=2000)
        for key in ("branch", "commit_sha", "release", "ci_provider", "ci_run_url")
        if key in present
    }
    if "pr_number" in present:
        metadata["pr_number"] = parse.count(present, "pr_number", maximum=LARGEST_ID)
    return parse.text(present, "run_name"), metadata


async def addresses(request: Request) -> JSONResponse:
    """Tell where files are to be sent that results are going to name; of old ones the oldest make room (our choice)."""
    platform = platform_of(request)
    files = (await body_of(request)).get("files")
    if not isinstance(files, list) or not 1 <= len(files) <= MOST_FILES:
        raise parse.InvalidError(f"files: must be a list of 1 to {MOST_FILES} files")
    wanted = [_file(each) for each in files]
    try:
        made, gone = await platform.store.write(store_files.announce, wanted, patience=presigned.LIFETIME * 1_000_000)
    except store_files.FullError as error:
        raise HTTPException(413, str(error)) from error
    presigned.remove(platform.files, gone)
    uploads = [
        {
            "filename": each.filename,
            "url": presigned.upload_address(request, each.id),
            "fields": {"key": f"{each.id}/{store_files.safe(each.filename)}"},
            "s3_uri": f"{store_files.BUCKET}{each.id}/{store_files.safe(each.filename)}",
        }
        for each in made
    ]
    return JSONResponse({"uploads": uploads})


def _file(value: object) -> tuple[str, int]:
    if not isinstance(value, dict):
        raise parse.InvalidError("files: each must be an object")
    parse.text(value, "content_type", default="application/octet-stream")
    return parse.text(value, "filename"), parse.count(value, "size_bytes", maximum=FILE_LIMIT)


async def create_token(request: Request) -> JSONResponse:
    """Make an ingest token; its raw value is in this answer and nowhere else."""
    body = await body_of(request)
    present = {key: value for key, value in body.items() if value is not None}
    name, description, most, expires = parse.text(present, "name"), None, None, None
    if "description" in present:
        description = parse.text(present, "description", limit=2000)
    if "max_uses" in present:
        most = parse.count(present, "max_uses", minimum=1, maximum=MOST_USES)
    if "expires_at" in present:
        expires = parse.moment({"expires_at": parse.text(present, "expires_at")}, "expires_at")
    try:
        made = await platform_of(request).store.write(
            store_tokens.create, name=name, description=description, max_uses=most, expires_at=expires
        )
    except store_tokens.TooManyError as error:
        raise HTTPException(409, str(error)) from error
    return JSONResponse(made, 201)


async def list_tokens(request: Request) -> JSONResponse:
    """List ingest tokens; the answer is a bare list, as the platform's own client takes it."""
    revoked = parse.choice(request.query_params, "include_revoked", among=("true", "false"), default="false")
    return JSONResponse(await platform_of(request).store.read(store_tokens.listing, revoked=revoked == "true"))


async def revoke_token(request: Request) -> JSONResponse:
    """Revoke an ingest token; one that is revoked already stays so."""
    key = request.path_params["token"]
    token = None
    if key.isascii() and key.isdigit() and len(key) < 16:
        token = await platform_of(request).store.write(store_tokens.revoke, int(key))
    if token is None:
        not_found("ingest token", key)
    return JSONResponse(token)
