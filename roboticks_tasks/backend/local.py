"""The local platform: started when nobody runs it yet, found when somebody does, stopped by its last user."""

from __future__ import annotations

import importlib.util
import logging
import os
import selectors
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from roboticks_tasks import processes
from roboticks_tasks.backend import users
from roboticks_tasks.errors import BackendError, ConfigError
from roboticks_tasks.models import BackendRef, Process
from roboticks_tasks.profiles.values import LocalPlatform
from roboticks_tasks.redaction import without_ours
from roboticks_tasks.targets.local import postponed
from roboticks_tasks.waiting import Deadline

log = logging.getLogger(__name__)

ANSWER_TIMEOUT = 2.0
"""Seconds for the local platform to answer; it needs a few milliseconds."""

STOP_GRACE = 2.0
"""Seconds that it has to end; it needs half of one."""

START_TIMEOUT = 15.0
"""Seconds for the local platform to come up; it needs a fifth of one."""

STARTED_BY_RUN = "started-by-run"
"""Names, in the platform's folder, the process that a run has started: those that people start are left to them."""

HEALTHY = b"HTTP/1.1 200"

NEEDED = ("cryptography", "paho", "starlette", "uvicorn", "yaml", "zmq")
"""What the extra `sim` installs; looked for before anything starts, so that the remedy is one sentence."""


class Broker(msgspec.Struct, frozen=True):
    """Where the platform's broker listens."""

    port: int


class Address(msgspec.Struct, frozen=True):
    """What platform.json says of a platform that runs (it says more)."""

    pid: int
    start_time: int
    url: str
    mqtt: Broker
    organization: str
    project: str


class Problem(msgspec.Struct, frozen=True):
    """Why a platform could not start."""

    code: str
    message: str


class Answer(msgspec.Struct, frozen=True):
    """The line that a starting platform writes when it failed."""

    error: Problem | None = None


def ensure_local(options: LocalPlatform, *, run: Path) -> BackendRef:
    """Return the local platform of `options.directory`, started if need be; the run in folder `run` counts as its user.

    ConfigError when its parts are not installed, its folder cannot be written or a port is taken; BackendError when
    it does not come up.
    """
    directory = _prepare(options)
    with users.exclusive(directory):
        address = _running(directory)
        if address is None:
            address = _start(options, directory)
        else:
            check_local(address.url, address.pid)
        pid, started = users.own_process()
        users.join(directory, run, pid=pid, started=started)
    return BackendRef(
        kind="local",
        url=address.url,
        mqtt_port=address.mqtt.port,
        organization=address.organization,
        project=address.project,
        directory=str(directory),
        pid=address.pid,
        start_time=address.start_time,
        secret_file=str(directory / "project-secret"),
        api_key_file=str(directory / "api-key"),
    )


def join_local(backend: BackendRef, process: Process, *, run: Path) -> None:
    """Count a process of the run in folder `run` as a user: the platform stays as long as it lives."""
    if backend.directory is not None:
        directory = Path(backend.directory)
        with users.exclusive(directory):
            users.join(directory, run, pid=process.pid, started=process.start_time)


@contextmanager
def in_use(backend: BackendRef | None, *, run: Path) -> Iterator[None]:
    """Have a local platform stay for the block, whoever else leaves it; this process uses it under the name `run`.

    Where that cannot be had the block goes on without: nothing is raised, and nobody waits long.
    """
    if backend is None or backend.directory is None:
        yield
        return
    directory = Path(backend.directory)
    pid, started = users.own_process()
    try:
        with _warned(), users.exclusive(directory, timeout=ANSWER_TIMEOUT):
            users.join(directory, run, pid=pid, started=started)
        yield
    finally:
        with _warned():
            release_local(directory, run=run)


@contextmanager
def _warned() -> Iterator[None]:
    try:
        yield
    except (BackendError, OSError) as error:
        log.warning("the local platform may end too early, or not at all: %s", error)


def release_local(directory: Path, *, run: Path, grace: float = 2.0) -> str:
    """Leave the local platform and stop it when no living run uses it; return what was done, in words.

    A platform that somebody started by hand is left running. BackendError when it cannot be stopped.
    """
    if not directory.is_dir():
        return "none was started"
    with users.exclusive(directory, timeout=grace):
        if users.leave(directory, run):
            return "left running: it is still in use"
        address = _running(directory)
        if address is None:
            return "not running"
        if not _was_started_by_run(directory, address.pid):
            return "left running: it was started by hand"
        if not processes.stop(address.pid, address.start_time, grace=min(grace, STOP_GRACE)):
            raise BackendError(f"the local platform (pid {address.pid}) does not stop")
        (directory / "platform.json").unlink(missing_ok=True)
        (directory / STARTED_BY_RUN).unlink(missing_ok=True)
    return "stopped"


def check_local(url: str, pid: int) -> None:
    """Raise BackendError when the local platform at `url`, process `pid`, does not answer: it may have been stopped."""
    parts = urlsplit(url)
    deadline = Deadline(ANSWER_TIMEOUT)
    # By hand: this is asked by every run, and importing an HTTP library takes longer than the whole answer.
    question = f"GET /api/v1/health HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
    answer = b""
    try:
        with socket.create_connection((parts.hostname, parts.port), timeout=ANSWER_TIMEOUT) as connection:
            connection.sendall(question.encode("ascii"))
            while len(answer) < len(HEALTHY) and not deadline.expired:
                connection.settimeout(max(0.01, deadline.remaining))
                chunk = connection.recv(len(HEALTHY) - len(answer))
                if not chunk:
                    break
                answer += chunk
        seen = f"it answered {answer!r}"
    except OSError as error:
        seen = str(error)
    if answer != HEALTHY:
        raise BackendError(
            f"the local platform (pid {pid}) runs but does not answer at {url} ({seen})",
            remedy=f"`kill -KILL {pid}`: the next run starts it afresh",
        )


def _was_started_by_run(directory: Path, pid: int) -> bool:
    """Tell whether a run started this very platform; the mark of one that was killed says nothing of the next."""
    try:
        return (directory / STARTED_BY_RUN).read_text(encoding="ascii") == str(pid)
    except (OSError, UnicodeDecodeError):
        return False


def _prepare(options: LocalPlatform) -> Path:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"the local platform needs {', '.join(missing)}, which {sys.executable} does not have",
            remedy="install `roboticks-tasks[sim]`",
        )
    directory = Path(options.directory)
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        (directory / "users.lock").touch(mode=0o600)
    except OSError as error:
        raise ConfigError(
            f"the local platform's folder {directory} cannot be written: {error.strerror}",
            remedy="set `local_platform.directory` in the profile",
        ) from error
    return directory


def _running(directory: Path) -> Address | None:
    try:
        address = msgspec.json.decode((directory / "platform.json").read_bytes(), type=Address)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return address if processes.is_alive(address.pid, address.start_time) else None


def _start(options: LocalPlatform, directory: Path) -> Address:
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "roboticks_tasks.sim.platform", "--directory", str(directory)]
    command += ["--http-port", str(options.http_port), "--mqtt-port", str(options.mqtt_port)]
    command += ["--broker", options.broker, "--ready-fd", str(writer)]
    with os.fdopen(reader, "rb") as answer:
        pid = None
        try:
            with postponed():  # no signal comes between the process and the mark by which teardown knows it
                try:
                    pid = _spawn(command, log=directory / "platform.log", inherit=writer)
                finally:
                    os.close(writer)
                (directory / STARTED_BY_RUN).write_text(str(pid), encoding="ascii")
            return _read_answer(answer.fileno(), directory)
        except BaseException:
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            raise


def _spawn(command: list[str], *, log: Path, inherit: int) -> int:
    """Start a process that outlives this one, and with a session of its own: Ctrl-C is for the run, not for it."""
    os.set_inheritable(inherit, True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    files = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600)]
    return os.posix_spawn(
        command[0],
        command,
        without_ours(processes.unmarked(os.environ)),
        file_actions=[*files, (os.POSIX_SPAWN_DUP2, 1, 2)],
        setsid=True,
    )


def _read_answer(channel: int, directory: Path) -> Address:
    with selectors.DefaultSelector() as selector:
        selector.register(channel, selectors.EVENT_READ)
        line = os.read(channel, 65536) if selector.select(START_TIMEOUT) else b""
    if not line:
        log = directory / "platform.log"
        last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it logged nothing"]
        raise BackendError(f"the local platform did not come up; last in {log}: {last[0]}")
    problem = msgspec.json.decode(line, type=Answer).error
    if problem is None:
        return msgspec.json.decode(line, type=Address)
    if problem.code in {"port-in-use", "not-writable", "newer-state"}:
        raise ConfigError(f"the local platform cannot start: {problem.message}")
    raise BackendError(f"the local platform cannot start: {problem.message}")
