"""Files of the loop's folder, there and back in pieces; a damaged piece travels again, and the next one is smaller."""

from __future__ import annotations

import time
from collections.abc import Callable

from roboticks_tasks.targets.serial.exchange import ANSWER, ConsoleLostError, Exchange
from roboticks_tasks.targets.serial.framing import decode, encode_lines

BLOCK = 1024
LARGEST = 512 * BLOCK
FAILURES = 12
"""Pieces in a row that arrive damaged before the line counts as broken."""


class Window:
    """How much is under way unacknowledged: it grows as long as nothing is lost, to what takes about a second.

    The first piece fits in the buffer of any terminal; later ones only grow when the board has kept up. A size at which
    something was lost is tried again after a while only, and each time after a longer one.
    """

    def __init__(self) -> None:
        self.size = 2 * BLOCK
        self.silence = ANSWER
        self._failures = self._successes = 0
        self._too_large = 2 * LARGEST
        self._wait = 4

    def went_well(self, seconds: float) -> None:
        """Take note that a piece arrived in `seconds`."""
        self._failures = 0
        self._successes += 1
        self.silence = ANSWER + 4 * seconds
        if seconds < 0.7 and (self.size * 2 < self._too_large or self._successes > self._wait):
            self.size = min(LARGEST, self.size * 2)

    def went_wrong(self) -> None:
        """Take note of a loss; ConsoleLostError when there are too many."""
        self._failures += 1
        self._successes = 0
        self._wait *= 2
        self._too_large = self.size
        self.size = max(BLOCK, self.size // 4 // BLOCK * BLOCK)
        if self._failures >= FAILURES:
            raise ConsoleLostError(
                f"the console has damaged {FAILURES} pieces of {self.size} bytes in a row",
                remedy="check the cable, the baud rate and the flow control",
            )


class Transfers:
    """Uploads and downloads over one exchange."""

    def __init__(self, exchange: Exchange, *, codec: str, checksum: Callable[[bytes], str]) -> None:
        self._exchange = exchange
        self._codec = codec
        self._checksum = checksum
        self._up, self._down = Window(), Window()

    def put(self, name: str, data: bytes) -> None:
        """Write a file of the loop's folder."""
        at = 0
        while at < len(data):
            started = time.monotonic()
            piece = data[at : at + self._up.size]
            if self._put_piece(name, at, piece):
                at += len(piece)
                self._up.went_well(time.monotonic() - started)
            else:
                self._up.went_wrong()

    def get(self, name: str, size: int) -> bytes:
        """Return the first `size` bytes of a file of the loop's folder."""
        parts: list[bytes] = []
        at = 0
        while at < size:
            started = time.monotonic()
            piece = self._get_piece(name, at, min(self._down.size, size - at))
            if piece is None:
                self._down.went_wrong()
                continue
            parts.append(piece)
            at += len(piece)
            self._down.went_well(time.monotonic() - started)
        return b"".join(parts)

    def _put_piece(self, name: str, at: int, piece: bytes) -> bool:
        lines = encode_lines(piece, self._codec)
        count = len(lines)
        words = [name, str(at), str(count), self._checksum(piece), str(len(piece))]
        ready = self._exchange.ask("put", *words, flush=count)
        if ready.words != ("ready",):
            return False
        self._exchange.write("\n".join([*lines, ""]).encode())
        done = self._exchange.answer(ready.sequence, self._up.silence)
        if done is None:  # a newline was lost, and the board waits for another line
            self._exchange.write(b"\n" * count)
            done = self._exchange.answer(ready.sequence, ANSWER)
        return done is not None and done.words == ("put", str(at + len(piece)))

    def _get_piece(self, name: str, at: int, size: int) -> bytes | None:
        blocks = -(-size // BLOCK)
        frame = self._exchange.ask("get", name, str(at // BLOCK), str(blocks))
        data = decode(frame.body, self._codec)
        if data is None or frame.words[:3] != ("data", self._checksum(data), str(len(data))) or len(data) < size:
            return None
        return data[:size]  # whatever a child of the command has appended since is not part of its output
