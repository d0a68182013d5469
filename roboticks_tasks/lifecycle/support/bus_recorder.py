"""Keep what the modules say on their bus while the tests run."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from roboticks_tasks.redaction import Redactor

if TYPE_CHECKING:
    import zmq

log = logging.getLogger(__name__)

NAME = "bus.jsonl"

LIMIT = 16 * 1024 * 1024
"""Bytes that are kept."""

LARGEST = 65_536
"""Bytes of a message that are kept: a camera's pictures go over the same bus."""

WAITING = 2_000
"""Messages that may wait to be written; more are dropped, as for every slow subscriber."""

TURN = 0.2
"""Seconds of messages after which it is asked whether the tests have ended, and those that the last ones have then."""

JOIN = 0.5
"""Seconds that the end of the record is waited for."""


@contextmanager
def recording(endpoint: str | None, path: Path, redactor: Redactor, *, limit: int = LIMIT) -> Iterator[None]:
    """Record every message on the bus at `endpoint` to `path` during the block: time, topic, message, a line each.

    Nothing is done where there is no endpoint, or no pyzmq; a bus that is not there and a file that cannot be written
    are no errors. A file of `limit` bytes is full, and says so in its last line.
    """
    recorder = _Recorder(endpoint, path, redactor, limit) if endpoint else None
    try:
        yield
    finally:
        if recorder is not None:
            recorder.stop()


class _Recorder:
    """A thread of this process that listens; the library, the socket and the file are its own business."""

    def __init__(self, endpoint: str, path: Path, redactor: Redactor, limit: int) -> None:
        self._redactor = redactor
        self._left = limit
        self._wake, self._told = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._work, args=(endpoint, path), name="bus-recorder", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the record with what has come so far."""
        with suppress(OSError):  # it has ended already
            os.write(self._told, b"!")
        self._thread.join(JOIN)
        if self._thread.is_alive():
            log.warning("the last messages of the bus are not recorded")
        os.close(self._told)

    def _work(self, endpoint: str, path: Path) -> None:
        try:
            import zmq

            context = zmq.Context()
            try:
                socket = context.socket(zmq.SUB)
                socket.setsockopt(zmq.RCVHWM, WAITING)
                socket.setsockopt_string(zmq.SUBSCRIBE, "")
                socket.connect(endpoint)
                with path.open("wb") as file:
                    self._listen(socket, file)
            finally:
                context.destroy(linger=0)
        except ImportError:
            log.debug("the bus is not recorded: pyzmq is not installed")
        except Exception as error:
            # Tests that run are worth more than a record of what they made the modules say.
            log.warning("the bus at %s is not recorded: %s", endpoint, error)
        finally:
            os.close(self._wake)

    def _listen(self, socket: zmq.Socket[bytes], file: BinaryIO) -> None:
        import zmq

        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(self._wake, zmq.POLLIN)
        is_over = False
        while not is_over:
            is_over = any(source == self._wake for source, _ in poller.poll())
            until = time.monotonic() + TURN
            with suppress(zmq.Again):
                while time.monotonic() < until:
                    if not self._keep(file, socket.recv_multipart(zmq.NOBLOCK)):
                        return
            file.flush()

    def _keep(self, file: BinaryIO, frames: Sequence[bytes]) -> bool:
        """Write one message; return whether there is room for another one."""
        at = time.time()
        topic, *rest = (frame[:LARGEST] for frame in frames)
        said = {"at": at, "topic": topic.decode("utf-8", "backslashreplace"), "message": _message(b" ".join(rest))}
        line = self._redactor.bytes(msgspec.json.encode(said)) + b"\n"
        if len(line) > self._left:
            full = {"at": at, "topic": "--- this record is full: nothing later is kept ---", "message": None}
            file.write(msgspec.json.encode(full) + b"\n")
            return False
        self._left -= len(line)
        file.write(line)
        return True


def _message(body: bytes) -> Any:
    """Return what a message says, as JSON where it is that, and else as text."""
    if not body:
        return None
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body.decode("utf-8", "backslashreplace")
