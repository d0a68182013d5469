"""Requests and replies on a console where anything may be lost, and where the board may go down at any moment."""

from __future__ import annotations

import re
import time
from collections import deque

from roboticks_tasks.errors import BoardError, TargetError
from roboticks_tasks.serial_console.line import Line
from roboticks_tasks.targets.serial.framing import CHECKSUMS, Frame, Reader
from roboticks_tasks.targets.serial.loop import STALE
from roboticks_tasks.waiting import Deadline

REBOOT = re.compile(rb"U-Boot |stop autoboot|Starting kernel|Linux version |reboot: |Restarting system")
"""What a board prints as it goes down or comes up; each holds a character that no encoded payload has."""

SETTLED = 0.2
"""Seconds of silence after which a prompt is one, and not the beginning of a longer line."""

ANSWER = 3.0
"""Seconds without a byte after which a request is sent again; a slow board needs one to start three programs."""


class ConsoleLostError(TargetError):
    """The loop on the board is gone; `rebooted` says that the board went down under it."""

    def __init__(self, message: str, *, remedy: str = "", rebooted: bool = False) -> None:
        super().__init__(message, remedy=remedy)
        self.rebooted = rebooted


def echo_error() -> BoardError:
    """Return the error for a console that secrets cannot be sent to."""
    return BoardError(
        "the console sends back what is sent to it although echo is off: secrets would show",
        remedy="turn off the local echo of the adapter or of the console server",
    )


class Exchange:
    """Numbered requests, and the replies that belong to them."""

    def __init__(self, line: Line, nonce: str, checksum: str, *, login_prompt: str, patience: float) -> None:
        self.is_alive = True
        self._line = line
        self._nonce = nonce
        self._checksum = CHECKSUMS[checksum]
        self._login_prompt = re.compile(login_prompt.encode())
        self._patience = patience
        self._reader = Reader(nonce)
        self._frames: deque[Frame] = deque()
        self._count = 0
        self._recent = b""

    def number(self) -> int:
        """Return the number of the next request."""
        self._count += 1
        return self._count

    def send(self, number: int, *words: str) -> None:
        """Send a request; what is damaged on its way is not obeyed."""
        text = " ".join([self._nonce, str(number), *words])
        self.write(f"{text} {self._checksum(text.encode())}\n".encode())

    def write(self, data: bytes) -> None:
        """Send bytes."""
        try:
            self._line.write(data)
        except TargetError as error:
            raise self._lost(str(error)) from error

    def answer(self, number: int, silence: float, *, limit: float | None = None) -> Frame | None:
        """Return the reply to a request; None when nothing came for `silence` seconds, or only something damaged.

        `limit`: seconds after which it is None although something comes all the time.
        """
        end = Deadline(max(10 * silence, 30) if limit is None else limit)
        quiet_since = time.monotonic()
        noise = False
        while True:
            while self._frames:
                frame = self._frames.popleft()
                if frame.sequence == number and frame.words[:1] != ("bad",):
                    return frame
                if frame.words[:1] == ("bad",):
                    return None
            elapsed = time.monotonic() - quiet_since
            if elapsed >= silence or end.expired or (noise and elapsed >= SETTLED and self._reader.is_idle):
                self._reader.give_up()
                return None
            data = self._read(min(SETTLED, max(0.0, silence - elapsed)))
            if data:
                quiet_since = time.monotonic()
                noise = noise or bool(not self._frames and data.replace(STALE, b"").strip())

    def ask(self, verb: str, *words: str, flush: int = 2) -> Frame:
        """Send a request until it is answered; ConsoleLostError when the board stays silent.

        `flush`: empty lines that get the loop out of whatever it is reading.
        """
        deadline = Deadline(self._patience)
        while True:
            number = self.number()
            self.send(number, verb, *words)
            frame = self.answer(number, ANSWER)
            if frame is not None:
                return frame
            if deadline.expired:
                raise self._lost(f"the shell on the console has not answered for {self._patience:g} s")
            self.write(b"\n" * flush)

    def say_goodbye(self) -> bool:
        """End the loop; tell whether it has said so."""
        self.is_alive = False
        number = self.number()
        self.send(number, "bye")
        return self.answer(number, ANSWER) is not None

    def _read(self, timeout: float) -> bytes:
        try:
            data = self._line.read(timeout)
        except TargetError as error:
            raise self._lost(str(error)) from error
        if data:
            self._frames += self._reader.feed(data)
            self._recent = (self._recent + data)[-max(len(data), 200) :]
            if match := REBOOT.search(self._recent):
                text = self._recent[match.start() :].split(b"\n")[0].decode("utf-8", "replace").strip()
                raise self._lost(f"the board reboots: its console says {text[:80]!r}", rebooted=True)
        elif self._login_prompt.search(self._recent.rpartition(b"\n")[2]):
            prompt = self._recent.rpartition(b"\n")[2].decode("utf-8", "replace").strip()
            raise self._lost(f"the board has rebooted: its console shows {prompt[-80:]!r}", rebooted=True)
        return data

    def _lost(self, message: str, *, rebooted: bool = False) -> ConsoleLostError:
        self.is_alive = False
        return ConsoleLostError(message, rebooted=rebooted)
