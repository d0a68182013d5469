"""A target that another process may use: a serial console takes one shell client, and the run's own process is it.

Whoever has the target serves a Unix socket in the user's own folder. A request is a command, the reply what it did; a
connection for each, so that nothing is left half-way when either side dies.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgspec

from roboticks_tasks.bench import private_folder
from roboticks_tasks.errors import BoardError, RoboticksError, TargetError
from roboticks_tasks.profiles import Profile
from roboticks_tasks.targets.opening import open_target
from roboticks_tasks.targets.protocol import Completed, Target

log = logging.getLogger(__name__)

SUFFIX = ".target"
HEAD = struct.Struct("!Q")


class Request(msgspec.Struct, frozen=True):
    """A command; its words are bytes, as a file's name may be no text."""

    argv: tuple[bytes, ...]
    stdin: bytes
    timeout: float
    repeatable: bool


class Reply(msgspec.Struct, frozen=True):
    """What a command did, or why it could not be run."""

    exit_code: int = 0
    stdout: bytes = b""
    stderr: bytes = b""
    error: str = ""
    remedy: str = ""
    is_board: bool = False


class LentTarget:
    """The target that the process behind `address` has; commands of several clients are run one after the other."""

    def __init__(self, address: str) -> None:
        self._address = address

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        """Run a command to its end; the errors of the target itself, TargetError when its process is gone."""
        request = Request(tuple(map(os.fsencode, argv)), stdin, timeout, repeatable)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(self._address)
                _send(connection, msgspec.msgpack.encode(request))
                reply = msgspec.msgpack.decode(_receive(connection), type=Reply)
        except (OSError, EOFError, msgspec.DecodeError) as error:
            raise TargetError(
                f"the run's own process, which has the board's console, does not answer: {error}",
                remedy="a shell on a console can be used only as long as the run that has it",
            ) from error
        if reply.error:
            raise (BoardError if reply.is_board else TargetError)(reply.error, remedy=reply.remedy)
        return Completed(reply.exit_code, reply.stdout, reply.stderr)


@contextmanager
def open_shared(profile: Profile, artifacts: Path) -> Iterator[Target]:
    """Lend for the block what the run in `artifacts` lends, or open the profile's own target where nothing is lent."""
    path = _address(artifacts)
    if _is_lent(profile) and path.exists():
        yield LentTarget(str(path))
        return
    with open_target(profile) as target:
        yield target


@contextmanager
def lending(profile: Profile, artifacts: Path, target: Target | None = None) -> Iterator[None]:
    """Let other processes of the run in `artifacts` use the board's console for the block, with `open_shared`.

    They share `target`, or one of this process's own that is opened when it is first asked for. Where everybody can
    have a connection of his own, nothing is lent.
    """
    if not _is_lent(profile):
        yield
        return
    path = _address(artifacts)
    new = path.with_suffix(f".{os.getpid()}")
    _sweep(path.parent)
    with ExitStack() as stack, socket.socket(socket.AF_UNIX) as listener:
        lender = _Lender(profile, target, stack)
        new.unlink(missing_ok=True)
        listener.bind(str(new))
        listener.listen()
        new.rename(path)  # nobody finds it before it listens
        stack.callback(path.unlink, missing_ok=True)
        acceptor = threading.Thread(target=lender.accept, args=(listener,), name="lending", daemon=True)
        acceptor.start()
        try:
            yield
        finally:
            lender.end()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the acceptor, as a close does not
            acceptor.join()


class _Lender:
    """The process's end of it: a thread for each client, one command at a time."""

    def __init__(self, profile: Profile, target: Target | None, stack: ExitStack) -> None:
        self._profile = profile
        self._target = target
        self._stack = stack
        self._lock = threading.Lock()
        self._over = False

    def accept(self, listener: socket.socket) -> None:
        """Serve whoever connects, until the listener is shut down."""
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._serve, args=(connection,), name="lent", daemon=True).start()

    def end(self) -> None:
        """Run no more commands; one that is under way keeps its target until it ends, or until that is closed."""
        self._over = True

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, EOFError):  # a client that is gone has nothing to be told
            request = msgspec.msgpack.decode(_receive(connection), type=Request)
            _send(connection, msgspec.msgpack.encode(self._answer(request)))

    def _answer(self, request: Request) -> Reply:
        argv = list(map(os.fsdecode, request.argv))
        try:
            with self._lock:
                done = self._opened().run(
                    argv, stdin=request.stdin, timeout=request.timeout, repeatable=request.repeatable
                )
        except RoboticksError as error:
            return Reply(error=str(error.args[0]), remedy=error.remedy, is_board=isinstance(error, BoardError))
        except Exception as error:
            log.exception("a command of the tests could not be run")
            return Reply(error=f"{type(error).__name__}: {error}")
        return Reply(done.exit_code, done.stdout, done.stderr)

    def _opened(self) -> Target:
        if self._over:
            raise TargetError("the tests have ended")
        if self._target is None:
            self._target = self._stack.enter_context(open_target(self._profile))
        return self._target


def _send(connection: socket.socket, data: bytes) -> None:
    connection.sendall(HEAD.pack(len(data)) + data)


def _receive(connection: socket.socket) -> bytes:
    (size,) = HEAD.unpack(_exactly(connection, HEAD.size))
    return _exactly(connection, size)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        if not (more := connection.recv(min(size - len(data), 1 << 20))):
            raise EOFError("it has ended")
        data += more
    return bytes(data)


def _is_lent(profile: Profile) -> bool:
    return profile.target.kind == "serial" and profile.device_manager.kind != "firmware"


def _address(artifacts: Path) -> Path:
    """Return the socket of the run in a folder; its name is short, however long the folder's is."""
    digest = hashlib.sha256(os.fsencode(artifacts.absolute())).hexdigest()
    return private_folder() / f"{digest:.16}{SUFFIX}"


def _sweep(folder: Path) -> None:
    """Remove the sockets of processes that were killed."""
    for path in folder.glob(f"*{SUFFIX}"):
        with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
