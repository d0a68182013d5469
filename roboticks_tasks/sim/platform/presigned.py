"""Files that come and go by signed addresses, without a credential beside them: as object stores do it.

Address and signature are our choice; documented are the form's fields first and its `file` last. A signature is good
for one file, one direction and `LIFETIME` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response

from roboticks_tasks.sim.platform import parse, store_files
from roboticks_tasks.sim.platform.directory import UNFINISHED
from roboticks_tasks.sim.platform.multipart import read_form
from roboticks_tasks.sim.platform.serving import DOWNLOADS, UPLOADS, not_found, platform_of, sign

if TYPE_CHECKING:
    from starlette.requests import Request

LIFETIME = 3600
"""Seconds, as the platform's own addresses have (documented)."""

BLOCK = 1_000_000
"""Bytes that are written at once, beside the event loop."""


def address(request: Request, prefix: str, file: str) -> str:
    """Return the signed address of a file, as the caller reaches this platform."""
    expires = int(time.time()) + LIFETIME
    path = prefix + file
    query = urlencode({"expires": expires, "signature": sign(platform_of(request).api_key, path, str(expires))})
    return f"http://{request.headers['host']}{path}?{query}"


def upload_address(request: Request, file: str) -> str:
    """Return where the file with this id is to be sent."""
    return address(request, UPLOADS, file)


def download_address(request: Request, file: str) -> str:
    """Return where the file with this id can be had."""
    return address(request, DOWNLOADS, file)


async def put(request: Request) -> Response:
    """Store a file that was announced; once more is harmless, until results have named it."""
    platform, key = platform_of(request), request.path_params["file"]
    known = await platform.store.read(store_files.find, key)
    if known is None:
        not_found("announced file", key)
    if known["run_id"] is not None:
        raise HTTPException(409, "the results of a run have named this file: it stays as it is")
    receiver = Receiver(platform.files / f".{key}{UNFINISHED}", limit=known["size"])
    with receiver:
        await read_form(request, file="file", sink=receiver.take)
        await receiver.flush()
        if receiver.size != known["size"]:
            raise parse.InvalidError(f"file: has {receiver.size} bytes, {known['size']} were announced")
        receiver.keep(platform.files / known["id"])
    if not await platform.store.write(store_files.stored, key):
        (platform.files / known["id"]).unlink(missing_ok=True)
        not_found("announced file", key)
    return Response(status_code=204)


async def get(request: Request) -> Response:
    """Hand out a file, never as something that a browser would show."""
    platform, key = platform_of(request), request.path_params["file"]
    known = await platform.store.read(store_files.find, key)
    if known is None or known["stored_at"] is None or not (platform.files / known["id"]).is_file():
        not_found("file", key)
    return FileResponse(
        platform.files / known["id"],
        media_type="application/octet-stream",
        filename=store_files.safe(known["filename"]),
        headers={"X-Content-Type-Options": "nosniff"},
    )


class Receiver:
    """A file that is being received; it goes with the block unless it is kept. 413 beyond `limit` bytes."""

    def __init__(self, path: Path, *, limit: int) -> None:
        self.size = 0
        self._limit = limit
        self._path = path.with_name(f"{path.name.removesuffix(UNFINISHED)}.{id(self)}{UNFINISHED}")
        self._waiting = bytearray()

    def __enter__(self) -> Receiver:
        self._file = self._path.open("wb")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    async def take(self, piece: bytes) -> None:
        """Take the next bytes."""
        self.size += len(piece)
        if self.size > self._limit:
            raise HTTPException(413, f"the file is larger than {self._limit} bytes")
        self._waiting += piece
        if len(self._waiting) >= BLOCK:
            await self.flush()

    async def flush(self) -> None:
        """Have all that was taken in the file."""
        waiting, self._waiting = self._waiting, bytearray()
        await asyncio.to_thread(self._write, waiting)

    def keep(self, path: Path) -> None:
        """Give the file its name."""
        self._path.replace(path)

    def _write(self, data: bytearray) -> None:
        self._file.write(data)
        self._file.flush()

    @property
    def path(self) -> Path:
        """Return where the file is meanwhile."""
        return self._path


def prepare(folder: Path) -> None:
    """Have the folder of the files, without what an earlier process has left unfinished."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for left in folder.glob(f".*{UNFINISHED}"):
        with contextlib.suppress(OSError):
            left.unlink()


def remove(folder: Path, files: list[str]) -> None:
    """Remove files by their ids."""
    for each in files:
        with contextlib.suppress(OSError):
            (folder / each).unlink(missing_ok=True)
