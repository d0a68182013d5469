"""Captures of serial consoles: started, found and stopped by whoever has the run, from whatever process."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from roboticks_tasks import processes
from roboticks_tasks.errors import BoardError, ConfigError
from roboticks_tasks.models import Capture
from roboticks_tasks.redaction import NOTHING, Redactor, is_secret
from roboticks_tasks.serial_console import reasons, registration, rotation
from roboticks_tasks.serial_console.registration import find_capture, is_capturing

__all__ = ["find_capture", "is_capturing", "start_capture", "stop_capture"]

START_TIMEOUT = 30.0
"""Seconds for a capture to open its port: a console server that is far away takes several, a real port a tenth."""


class Answer(msgspec.Struct, frozen=True):
    """What a capture says when its port is open, or why it is not."""

    error: str = ""
    remedy: str = ""
    config: bool = False


def start_capture(
    console: reasons.Console,
    *,
    log: Path,
    size: int = rotation.SIZE,
    keep: int = rotation.KEEP,
    redactor: Redactor = NOTHING,
) -> Capture:
    """Start to capture a console into `log`; return when the port is open: a board may be powered on from then on.

    `size`: bytes of a part of the log, of which `keep` older ones stay beside it. What `redactor` takes out does not
    reach it; who listens to the console gets every byte. BoardError when the port cannot be
    opened, and who has it when it is busy; ConfigError when the port's name or the installation is at fault.
    """
    running = find_capture(console.port)
    if running is not None:
        raise reasons.captured(console.port, pid=running.process.pid, log=running.log)
    log = log.absolute()
    log.parent.mkdir(parents=True, exist_ok=True)
    reader, writer = os.pipe()
    settings = {"port": console.port, "baudrate": console.baudrate, "log": str(log), "size": size, "keep": keep}
    with os.fdopen(reader, "rb") as answer:
        try:
            pid = _spawn({**settings, "ready": writer}, redactor, inherit=writer)
        finally:
            os.close(writer)
        try:
            _check(_read(answer.fileno()), console)
            capture = find_capture(console.port)
            if capture is None or capture.process.pid != pid:
                raise BoardError(f"the capture of the console {console.port} ended at once", remedy=f"see {log}")
        except BaseException:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
    return capture


def stop_capture(capture: Capture, *, grace: float = 2.0) -> str:
    """End a capture, so that its log is complete and its port free; return "stopped", "gone" or "killed".

    It has `grace` seconds until it is killed. BoardError when even that does not end it.
    """
    pid, started = capture.process.pid, capture.process.start_time
    if not is_capturing(capture):
        _reap(pid)
        registration.forget(capture)
        return "gone"
    # What it leaves behind tells a capture that ended by itself from one that had to be killed.
    path = Path(capture.socket)
    if not processes.stop(pid, started, grace=grace):
        raise BoardError(f"the capture of the console {capture.port} (pid {pid}) does not end")
    if not path.exists():
        return "stopped"
    registration.forget(capture)
    if find_capture(capture.port) is None:
        path.unlink(missing_ok=True)
    return "killed"


def _spawn(settings: dict[str, object], redactor: Redactor, *, inherit: int) -> int:
    """Start a capture that outlives this process, with a session of its own: Ctrl-C is for the run, not for it.

    What it has to redact stands in neither its arguments nor its environment, but in a file without a name.
    """
    os.set_inheritable(inherit, True)
    command = [sys.executable, "-m", "roboticks_tasks.serial_console.capture", msgspec.json.encode(settings).decode()]
    secrets = {"secrets": redactor.secrets, "files": [str(path.absolute()) for path in redactor.files]}
    with os.fdopen(os.memfd_create("secrets"), "w+b") as told:
        told.write(msgspec.json.encode(secrets))
        told.seek(0)
        files = [
            (os.POSIX_SPAWN_DUP2, told.fileno(), 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, inherit, 2),
        ]
        environment = {name: value for name, value in os.environ.items() if not is_secret(name)}
        return os.posix_spawn(command[0], command, environment, file_actions=files, setsid=True)


def _read(channel: int) -> bytes:
    """Return all that a starting capture says, to the end of the pipe; it closes it when it is ready."""
    import select
    import time

    deadline = time.monotonic() + START_TIMEOUT
    said = b""
    while select.select([channel], [], [], max(0.0, deadline - time.monotonic()))[0]:
        if not (data := os.read(channel, 65536)):
            return said
        said += data
    return said


def _check(said: bytes, console: reasons.Console) -> None:
    lines = said.decode("utf-8", "replace").strip().splitlines()
    try:
        answer = msgspec.json.decode(lines[-1] if lines else "", type=Answer)
    except msgspec.DecodeError as error:
        last = lines[-1] if lines else f"it said nothing in {START_TIMEOUT:g} s"
        raise BoardError(f"the capture of the console {console.port} does not start: {last}") from error
    if answer.error:
        raise (ConfigError if answer.config else BoardError)(answer.error, remedy=answer.remedy)


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
