"""Eclipse mosquitto as the local platform's broker, with the same rules as our own.

Measured with mosquitto 2.0: a denied publish is acknowledged, a denied subscribe is "granted" but gets nothing, and a
client id other than the certificate's common name is replaced by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import logging
import os
import shutil
import signal
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import cast

from roboticks_tasks.sim import topics

SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin")
"""Where distributions put the daemon; often not on an ordinary user's PATH."""
READY = "running"
"""The last word of what mosquitto logs once its port is open: "mosquitto version 2.0.11 running"."""
START_SECONDS = 5.0
ATTEMPTS = 5
PR_SET_PDEATHSIG = 1

CONFIGURATION = """\
listener {port} {host}
cafile {ca}
certfile {certificate}
keyfile {key}
require_certificate true
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
acl_file {acl}
persistence false
set_tcp_nodelay true
max_packet_size 262144
max_queued_bytes 16777216
max_queued_messages 40000
max_connections 1000
log_dest stderr
log_timestamp false
log_type error
log_type warning
log_type information
connection_messages false
"""

log = logging.getLogger(__name__)


class Mosquitto:
    """A running mosquitto; made by `start`."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.port = port
        self.pid = process.pid
        self.last_words: deque[str] = deque(maxlen=20)
        self.ready = asyncio.get_running_loop().create_future()
        self._process = process
        self._stopping = False
        self.ended = asyncio.get_running_loop().create_task(self._read())
        """Done once mosquitto has ended, whoever ended it, with its exit code."""

    async def _read(self) -> int:
        """Pass on what mosquitto logs until it ends, and return its exit code."""
        async for raw in cast("asyncio.StreamReader", self._process.stderr):
            line = raw.decode(errors="replace").strip()
            self.last_words.append(line)
            log.log(logging.WARNING if line.startswith("Error") else logging.DEBUG, "mosquitto: %s", line)
            if line.endswith(READY) and not self.ready.done():
                self.ready.set_result(None)
        code = await self._process.wait()
        if not self.ready.done():
            self.ready.set_exception(_failure(self.port, code, self.last_words))
        elif not self._stopping:
            log.error("mosquitto ended by itself with code %s: %s", code, " / ".join(self.last_words))
        return code

    async def stop(self) -> None:
        """End mosquitto and wait until it is gone."""
        self._stopping = True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()  # it has nothing to save, and takes 0.1 s to see a SIGTERM
        await asyncio.wait([self.ended])


def find() -> str | None:
    """Return the path of mosquitto, on PATH or in the system folders, or None."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path=os.pathsep.join(SYSTEM_FOLDERS))


async def start(
    *, host: str, port: int, directory: Path, ca: Path, certificate: Path, key: Path, program: str
) -> Mosquitto:
    """Run mosquitto with its files in `directory` and return when its port is open; `port` 0 takes any free one.

    It dies with the thread that calls this, so call it from the main one. Raises OSError (EADDRINUSE) when the port is
    taken, and RuntimeError with mosquitto's last words when it does not start.
    """
    for attempt in range(ATTEMPTS):
        try:
            number = port or _free_port(host)
            files = {"ca": ca, "certificate": certificate, "key": key}
            return await _launch(program, _configure(directory, host, number, files), number)
        except OSError as error:
            # somebody else took the free port first
            if port or error.errno != errno.EADDRINUSE or attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


async def _launch(program: str, configuration: Path, port: int) -> Mosquitto:
    process = await asyncio.create_subprocess_exec(
        program,
        "-c",
        str(configuration),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        preexec_fn=_die_with(os.getpid()),
    )
    broker = Mosquitto(process, port)
    try:
        await asyncio.wait_for(broker.ready, START_SECONDS)
    except TimeoutError:
        await broker.stop()
        words = " / ".join(broker.last_words)
        raise RuntimeError(f"mosquitto was not ready after {START_SECONDS} s: {words}") from None
    except BaseException:
        await broker.stop()
        raise
    return broker


def acl() -> str:
    """Return the rules of `topics` in the language of mosquitto's ACL file."""
    verbs = {"publish": "write", "subscribe": "read"}
    rules = [f"pattern {verbs[action]} {pattern.format(dsn='%u')}" for action, pattern in topics.DEVICE_RULES]
    return "\n".join((f"user {topics.PLATFORM_ID}", f"topic readwrite {topics.ROOT}#", *rules, ""))


def _configure(directory: Path, host: str, port: int, files: dict[str, Path]) -> Path:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    rules, configuration = directory / "acl", directory / "mosquitto.conf"
    paths = {name: path.resolve() for name, path in {**files, "acl": rules}.items()}
    if any("\n" in str(path) for path in paths.values()):
        raise ValueError("mosquitto cannot be configured with a path that has a line break")
    # As root it would change to another user, who cannot read our files.
    user = "user root\n" if os.geteuid() == 0 else ""
    _write(rules, acl())
    _write(configuration, CONFIGURATION.format(host=host, port=port, **paths) + user)
    return configuration


def _write(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def _free_port(host: str) -> int:
    """Return a port that was free a moment ago: mosquitto cannot choose one itself."""
    with socket.create_server((host, 0)) as probe:
        return int(probe.getsockname()[1])


def _die_with(parent: int) -> Callable[[], None]:
    """Return what a child runs before its program, so that the kernel kills it when `parent` is gone."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up before the fork

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # gone before we asked
            os._exit(1)

    return ask


def _failure(port: int, code: int, words: deque[str]) -> Exception:
    said = " / ".join(words) or "(it said nothing)"
    if "Address already in use" in said:
        return OSError(errno.EADDRINUSE, f"port {port} is in use")
    return RuntimeError(f"mosquitto ended with code {code} at its start: {said}")
