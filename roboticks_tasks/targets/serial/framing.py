"""Frames on a serial console: requests with a checksum, replies that survive a kernel message printed in the middle.

A reply is `<NONCE SEQUENCE words=words>`, a body of encoded bytes, `<NONCE SEQUENCE.>`. Its words stand there twice, so
that damage shows; the body's length and checksum are among them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

LONGEST_LINE = 4000
"""Bytes; a terminal that collects lines holds 4096."""

LINE_PAYLOAD = 768
"""Bytes in one line of an upload: two lines that lost the newline between them still fit in a terminal's buffer."""

_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_OCTAL = [f"\\{byte:03o}" for byte in range(256)]


class Frame(NamedTuple):
    """A reply of the board: to which request, what it says, what it carries."""

    sequence: int
    words: tuple[str, ...]
    body: bytes


def posix_cksum(data: bytes) -> str:
    """Return the CRC that cksum(1) prints: zlib's polynomial, bits the other way round, the length appended."""
    size = len(data)
    data += size.to_bytes((size.bit_length() + 7) // 8, "little")
    mirrored = zlib.crc32(data.translate(_MIRRORED), 0xFFFFFFFF)
    return str(int(f"{mirrored:032b}"[::-1], 2))


CHECKSUMS: dict[str, Callable[[bytes], str]] = {
    "cksum": posix_cksum,
    "sha256sum": lambda data: hashlib.sha256(data).hexdigest(),
    "md5sum": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),
}
"""The board's tools for a checksum, in the order in which it tries them; each prints it as its first word."""


def encode(data: bytes, codec: str) -> str:
    """Return `data` as text without blanks that the board decodes by `base64 -d`, or by `printf` when it has none."""
    if codec == "base64":
        return base64.b64encode(data).decode("ascii")
    return "".join(map(_OCTAL.__getitem__, data))


def encode_lines(data: bytes, codec: str) -> list[str]:
    """Return `data` as lines for an upload."""
    return [encode(data[start : start + LINE_PAYLOAD], codec) for start in range(0, len(data), LINE_PAYLOAD)]


def decode(body: bytes, codec: str) -> bytes | None:
    """Return what a reply's body holds, None when it is not even text of that kind."""
    try:
        if codec == "base64":
            # `base64 FILE...` was one stream, so padding can only be at its end.
            return base64.b64decode(b"".join(body.split()), validate=True)
        return binascii.unhexlify(b"".join(body.split()))
    except binascii.Error:
        return None


class Reader:
    """Find the frames of one conversation in the bytes of a console; the rest is noise, and forgotten."""

    def __init__(self, nonce: str) -> None:
        self._head = re.compile(rf"<{nonce} (\d+) ([^<>=]*)=\2>".encode())
        self._nonce = nonce.encode()
        self._buffer = bytearray()
        self._scanned = 0
        self._open: tuple[int, tuple[str, ...]] | None = None

    @property
    def kept(self) -> int:
        """Return how many bytes are kept because a reply may have begun in them."""
        return len(self._buffer)

    @property
    def is_idle(self) -> bool:
        """Tell whether no reply has begun that has not ended."""
        return self._open is None

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take bytes and yield the frames that they complete."""
        self._buffer += data
        while True:
            if self._open is None and not self._find_head():
                return
            assert self._open is not None
            sequence, words = self._open
            end = b"<%b %d.>" % (self._nonce, sequence)
            at = self._buffer.find(end, max(0, self._scanned - len(end)))
            if at < 0:
                self._scanned = len(self._buffer)
                return
            body = bytes(self._buffer[:at])
            self._drop(at + len(end))
            self._open = None
            yield Frame(sequence, words, body)

    def give_up(self) -> None:
        """Forget a reply that has begun: its end was damaged."""
        self._open = None
        self._drop(len(self._buffer))

    def _find_head(self) -> bool:
        match = self._head.search(self._buffer)
        if match is None:
            keep = self._buffer.rfind(b"<")
            # A head is short: what follows a "<" for longer than that is none.
            cut = keep if keep >= 0 and len(self._buffer) - keep < 300 else len(self._buffer)
            self._drop(cut)
            return False
        self._open = int(match[1]), tuple(match[2].decode("ascii", "replace").split())
        self._drop(match.end())
        return True

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._scanned = 0
