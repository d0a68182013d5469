"""The conversation with the loop on the board: one command at a time, nothing is lost and nothing happens twice."""

from __future__ import annotations

import re
import secrets
from contextlib import suppress

from roboticks_tasks.errors import BoardError, TargetError
from roboticks_tasks.serial_console.line import Line
from roboticks_tasks.targets.protocol import Completed
from roboticks_tasks.targets.serial.exchange import ANSWER, ConsoleLostError, Exchange, echo_error
from roboticks_tasks.targets.serial.framing import CHECKSUMS, LONGEST_LINE, Frame, decode, encode
from roboticks_tasks.targets.serial.loop import INLINE, QUIT, loop_lines, start_line
from roboticks_tasks.targets.serial.transfer import Transfers
from roboticks_tasks.waiting import Deadline

FIRST_LOOK, LONGEST_PAUSE = 1.0, 10.0
"""Seconds until the loop is asked whether a silent command still runs; each time twice as long."""

ATTEMPTS = 3

ABANDON = b"\x03\n.\nno\n"
"""Ends a loop that was not typed to its end, on a console whose shell no interrupt reaches, too."""


class TooLongError(TargetError):
    """The command did not end in time and was killed."""


class Shell:
    """The loop on the board, started when this is made; BoardError when the console cannot carry it."""

    def __init__(self, line: Line, *, login_prompt: str, patience: float) -> None:
        self._line = line
        for _ in range(ATTEMPTS):
            nonce = secrets.token_hex(4)
            try:
                checksum = _start(line, nonce, timeout=patience)
            except BaseException:
                with suppress(TargetError):
                    line.write(ABANDON)
                raise
            if checksum:
                break
            line.write(ABANDON)
        else:
            raise BoardError(
                f"the console damages what is sent to it: {ATTEMPTS} of {ATTEMPTS} attempts to start a shell failed",
                remedy="check the baud rate, the cable and the flow control",
            )
        self._exchange = Exchange(line, nonce, checksum, login_prompt=login_prompt, patience=patience)
        hello = self._exchange.answer(0, ANSWER)
        if hello is None:
            hello = self._exchange.ask("hello")
        _, self._codec, *missing = hello.words or ("", "", "?")
        if missing:
            self.stop()
            raise BoardError(
                f"the board's shell lacks {', '.join(missing)}", remedy="install busybox or coreutils with it"
            )
        self._transfers = Transfers(self._exchange, codec=self._codec, checksum=CHECKSUMS[checksum])
        self._checksum = CHECKSUMS[checksum]

    def run(self, script: bytes, stdin: bytes, *, timeout: float) -> Completed:
        """Run a shell script once, whatever the line does; TooLongError after `timeout` seconds, its uploads aside."""
        number = self._exchange.number()
        is_short = len(stdin) < LONGEST_LINE
        command, given = encode(script, self._codec), encode(stdin, self._codec) if is_short else ""
        given = given or "0"
        if len(command) > LONGEST_LINE // 2:
            self._transfers.put(f"cmd.{number}", script)
            command = "-"
        if not is_short or len(command) + len(given) > LONGEST_LINE - 100:
            self._transfers.put(f"in.{number}", stdin)
            given = "-"
        elif stdin:
            self._exchange.ask("hello")  # a shell that has taken the place of the loop would echo a secret
        done = self._await_end(number, command, given, timeout=timeout)
        for _ in range(ATTEMPTS * 3):
            completed = self._read_end(number, done)
            if completed is not None:
                return completed
            done = self._exchange.ask("state", str(number))
        raise ConsoleLostError(
            "the console damages whatever the board answers", remedy="check the cable and the baud rate"
        )

    def stop(self) -> bool:
        """End the loop, which removes its files and restores the terminal; tell whether the console is still there."""
        if not self._exchange.is_alive:
            return False
        if not self._exchange.say_goodbye():
            self._line.write(b"\x03\n" + QUIT.encode() + b"\n")
        return True

    def _await_end(self, number: int, command: str, given: str, *, timeout: float) -> Frame:
        deadline = Deadline(timeout)
        self._exchange.send(number, "run", command, given)
        pause = FIRST_LOOK
        while True:
            frame = self._exchange.answer(number, min(pause, deadline.remaining), limit=deadline.remaining)
            if frame is None and deadline.expired:
                self._exchange.ask("stop", str(number))
                raise TooLongError(f"did not end within {timeout:g} s")
            if frame is None:
                frame = self._exchange.ask("state", str(number))
            if frame.words[0] == "done":
                return frame
            if frame.words[0] == "unknown":
                self._exchange.send(number, "run", command, given)
            else:
                pause = min(LONGEST_PAUSE, pause * 2)

    def _read_end(self, number: int, done: Frame) -> Completed | None:
        """Return what a command's last frame says, fetching what did not fit in it; None when it is damaged."""
        try:
            code, size, errors_size = int(done.words[1]), int(done.words[3]), int(done.words[5])
        except (ValueError, IndexError):
            return None
        if size + errors_size > INLINE:
            stdout = self._transfers.get(f"out.{number}", size)
            stderr = self._transfers.get(f"err.{number}", errors_size)
        else:
            body = decode(done.body, self._codec)
            if body is None or len(body) != size + errors_size:
                return None
            stdout, stderr = body[:size], body[size:]
        if (self._checksum(stdout), self._checksum(stderr)) != (done.words[2], done.words[4]):
            return None
        return Completed(code, stdout, stderr)


def _start(line: Line, nonce: str, *, timeout: float) -> str:
    """Type the loop into the login shell; return the name of the board's checksum tool, "" when it was damaged.

    BoardError when the console sends back what it is sent, or nothing there starts a shell.
    """
    line.write(start_line(nonce).encode() + b"\r")
    _, up = _until(line, f"<{nonce} up ([^>\n]*)>", Deadline(min(timeout, 2 * ANSWER)))
    if up is None:
        return ""
    tool = up[1].strip().decode("ascii", "replace").rpartition("/")[2]
    if tool not in CHECKSUMS:
        raise BoardError(
            f"the board's shell has none of {', '.join(CHECKSUMS)}", remedy="install busybox or coreutils with one"
        )
    lines = loop_lines(nonce, tool, longest=1000)
    line.write("\n".join([*lines, ".", ""]).encode())
    seen, answer = _until(line, f"<{nonce} sum ([^>\n]*)>", Deadline(min(timeout, 2 * ANSWER)))
    if lines[0][:40].encode() in seen:
        raise echo_error()
    if answer is None or answer[1].split()[:1] != [CHECKSUMS[tool]("".join(lines).encode()).encode()]:
        return ""
    line.write(b"go\n")
    return tool


def _until(line: Line, pattern: str, deadline: Deadline) -> tuple[bytes, re.Match[bytes] | None]:
    """Read until `pattern` has come; return everything and the match, None at the deadline."""
    compiled = re.compile(pattern.encode())
    seen = b""
    while True:
        match = compiled.search(seen)
        if match or deadline.expired:
            return seen, match
        seen += line.read(deadline.remaining)
