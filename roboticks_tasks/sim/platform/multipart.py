"""Forms with a file in them (multipart/form-data, RFC 7578), read in pieces and with bounds."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

from roboticks_tasks.sim.platform.parse import InvalidError

if TYPE_CHECKING:
    from starlette.requests import Request

MOST_PARTS = 50
HEAD_LIMIT = 8192
TEXT_LIMIT = 65_536
"""Bytes of a field that is no file."""

BOUNDARY = re.compile(r"""multipart/form-data\s*;(?:.*;)?\s*boundary=(?:"([^"]{1,200})"|([^\s";]{1,200}))""", re.I)
DISPOSITION = re.compile(rb"^content-disposition:\s*form-data\s*;([^\r\n]*)$", re.IGNORECASE | re.MULTILINE)
NAME = re.compile(rb'(?:^|;)\s*name="([^"]*)"')

Sink = Callable[[bytes], Awaitable[None]]


async def read_form(request: Request, *, file: str, sink: Sink) -> dict[str, str]:
    """Return the fields of a form; what the field `file` holds goes to `sink` piece by piece, and must be there.

    InvalidError, one sentence, for what is no such form. What comes after the file is read as well.
    """
    found = BOUNDARY.match(request.headers.get("content-type", ""))
    if found is None:
        raise InvalidError("the body must be multipart/form-data")
    form = _Form(request.stream(), (found[1] or found[2]).encode("latin-1"))
    fields: dict[str, str] = {}
    has_file = False
    await form.begin()
    for _ in range(MOST_PARTS):
        head = await form.head()
        if head is None:
            break
        name = _name(head)
        if name in fields or (name == file and has_file):
            raise InvalidError(f"{name[:40]}: is there twice")
        if name == file:
            has_file = True
            async for piece in form.content():
                await sink(piece)
        else:
            fields[name] = await _text(form, name)
    else:
        raise InvalidError(f"the form has more than {MOST_PARTS} parts")
    if not has_file:
        raise InvalidError(f"{file}: missing")
    return fields


async def _text(form: _Form, name: str) -> str:
    value = bytearray()
    async for piece in form.content():
        value += piece
        if len(value) > TEXT_LIMIT:
            raise InvalidError(f"{name[:40]}: is longer than {TEXT_LIMIT} bytes")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidError(f"{name[:40]}: is not UTF-8") from error


def _name(head: bytes) -> str:
    found = DISPOSITION.search(head.replace(b"\r\n", b"\n"))
    name = NAME.search(found[1]) if found else None
    if name is None:
        raise InvalidError("a part of the form has no name")
    return name[1].decode("utf-8", "replace")


class _Form:
    """The bytes of a form, part by part."""

    def __init__(self, chunks: AsyncIterator[bytes], boundary: bytes) -> None:
        self._chunks = chunks
        self._mark = b"\r\n--" + boundary
        self._buffer = bytearray(b"\r\n")

    async def begin(self) -> None:
        """Go to the first part; nothing may stand before it."""
        await self._have(len(self._mark))
        if not self._buffer.startswith(self._mark):
            raise InvalidError("the form does not begin with its boundary")
        del self._buffer[: len(self._mark)]

    async def head(self) -> bytes | None:
        """Return the header of the next part, None at the end."""
        await self._have(2)
        if self._buffer.startswith(b"--"):
            while await self._more():
                self._buffer.clear()
            return None
        if not self._buffer.startswith(b"\r\n"):
            raise InvalidError("a boundary of the form is not followed by a new line")
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            await self._have(len(self._buffer) + 1)
            if len(self._buffer) > HEAD_LIMIT + 65_536:
                break
        if not 0 <= end <= HEAD_LIMIT:
            raise InvalidError(f"the header of a part is longer than {HEAD_LIMIT} bytes")
        head = bytes(self._buffer[2:end])
        # The new line stays: it is part of the boundary where the part is empty.
        del self._buffer[: end + 2]
        return head

    async def content(self) -> AsyncIterator[bytes]:
        """Yield what the present part holds, and go on to the next."""
        first = 2
        while True:
            at = self._buffer.find(self._mark)
            if at >= 0:
                if at > first:
                    yield bytes(self._buffer[first:at])
                del self._buffer[: at + len(self._mark)]
                return
            safe = len(self._buffer) - len(self._mark)
            if safe > first:
                yield bytes(self._buffer[first:safe])
                del self._buffer[:safe]
                first = 0
            await self._have(len(self._buffer) + 1)

    async def _have(self, count: int) -> None:
        while len(self._buffer) < count:
            if not await self._more():
                raise InvalidError("the form is cut off")

    async def _more(self) -> bool:
        async for chunk in self._chunks:
            if chunk:
                self._buffer += chunk
                return True
        return False
