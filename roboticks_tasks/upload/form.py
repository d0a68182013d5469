"""A form with a file in it as the body of a request: read from disk while it is sent, of a length that is known."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, NamedTuple

from roboticks_tasks.backend.calls import SlowError
from roboticks_tasks.waiting import Deadline

CHUNK = 1 << 16


class Slice(NamedTuple):
    """Bytes of the file, from `begin` to `end`."""

    begin: int
    end: int


Piece = bytes | Slice


class ChangedError(Exception):
    """The file has become shorter while it was sent."""


def length_of(pieces: Sequence[Piece]) -> int:
    """Return how many bytes the pieces are."""
    return sum(len(piece) if isinstance(piece, bytes) else piece.end - piece.begin for piece in pieces)


def digest_of(file: BinaryIO, pieces: Sequence[Piece]) -> str:
    """Return the SHA-256 of the pieces."""
    digest = hashlib.sha256()
    for chunk in _chunks(file, pieces):
        digest.update(chunk)
    return digest.hexdigest()


class Form:
    """One body, to be sent once; raises SlowError when the deadline is over, and so ends what sends it."""

    def __init__(
        self,
        fields: Mapping[str, str],
        file: BinaryIO,
        pieces: Sequence[Piece],
        *,
        field: str,
        filename: str,
        media_type: str,
        deadline: Deadline,
    ) -> None:
        boundary = secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        head = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        )
        head += f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{_quoted(filename)}"\r\n'
        head += f"Content-Type: {media_type}\r\n\r\n"  # the file comes last: object stores want it so
        whole = [head.encode(), *pieces, f"\r\n--{boundary}--\r\n".encode()]
        self._length = length_of(whole)
        self._chunks = _chunks(file, whole)
        self._rest = b""
        self._deadline = deadline

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self.read(CHUNK):
            yield chunk

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, at most `size`; nothing at the end."""
        if self._deadline.expired:
            raise SlowError(f"{self._deadline.seconds:.3g} s")
        if not self._rest:
            self._rest = next(self._chunks, b"")
        size = len(self._rest) if size < 0 else size
        chunk, self._rest = self._rest[:size], self._rest[size:]
        return chunk


def _chunks(file: BinaryIO, pieces: Sequence[Piece]) -> Iterator[bytes]:
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
            continue
        at = piece.begin
        while at < piece.end:
            # Not by the file's position: what was left behind by a time limit may still read the same file.
            chunk = os.pread(file.fileno(), min(CHUNK, piece.end - at), at)
            if not chunk:
                raise ChangedError
            at += len(chunk)
            yield chunk


def _quoted(name: str) -> str:
    """Write a name as browsers do (WHATWG, multipart/form-data)."""
    printable = name.encode("utf-8", "replace").decode()
    return printable.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
