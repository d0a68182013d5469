"""One connection to a board: an ssh that stays, and the commands that go through it."""

from __future__ import annotations

import os
import secrets
import select
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NamedTuple

from roboticks_tasks.errors import TargetError
from roboticks_tasks.models import Process
from roboticks_tasks.profiles.values import Profile
from roboticks_tasks.targets.local import postponed
from roboticks_tasks.targets.protocol import Completed
from roboticks_tasks.targets.ssh import invocation, reasons, remote
from roboticks_tasks.targets.ssh.remote import Heard, Leader
from roboticks_tasks.waiting import Deadline

ENDING = 2.0
"""Seconds that ending a command on the board may take; over a link that works it is one round trip."""

NOT_SENT = "roboticks-not-sent"
"""What our ssh says when there is no connection to go through: it must not make one of its own."""


class Lost(Exception):  # noqa: N818 - it says what happened; whether that is an error, the target decides
    """The connection broke under a command; `sent` tells whether the board may have begun it."""

    def __init__(self, words: str, *, sent: bool, leader: Leader | None = None) -> None:
        super().__init__(words)
        self.sent = sent
        self.leader = leader


class Said(NamedTuple):
    """How a client of the connection ended: None when it did not in time."""

    code: int | None
    heard: Heard
    words: str


class Connection:
    """A connection that is up; it ends when `close` is called, and when this process ends, however it ends."""

    def __init__(self, folder: Path, process: Process, *, stdin: int, mark: str) -> None:
        self._folder = folder
        self._process = process
        self._stdin = stdin
        self._mark = mark
        self._handle = os.fdopen(os.pidfd_open(process.pid), "rb", buffering=0)

    def run(self, argv: Sequence[str], *, stdin: bytes, timeout: float) -> Completed:
        """Run a command to its end; TargetError when it takes too long, Lost when the connection breaks."""
        said = self._ask(argv, stdin, Deadline(timeout))
        if said.code == 0 and said.heard.exit_code is not None:
            return Completed(said.heard.exit_code, said.heard.stdout, _explained(said.heard, argv[0]))
        if said.code is None:
            raise TargetError(f"`{reasons.shown(argv)}` did not end within {timeout:g} s")
        # After "read from master failed" it does say so, although the board may have got the request.
        unsent = NOT_SENT in said.words and "read from master failed" not in said.words
        sent = said.heard.leader is not None or not unsent
        # The end of the connection may become known here a moment later than to the command.
        if self._has_ended(0.3):
            words = reasons.last_line(self.log) or reasons.last_line(said.words)
            raise Lost(words or "ssh has ended", sent=sent, leader=said.heard.leader)
        if "Session open refused by peer" in said.words:
            raise TargetError(
                "the board's sshd allows too few sessions on one connection",
                remedy="set MaxSessions in its sshd_config to 3 or more",
            )
        words = reasons.last_line(said.words.replace(NOT_SENT, "")) or f"ssh ended with {said.code}"
        raise TargetError(
            f"the board's shell did not run `{reasons.shown(argv)}` to its end: {words}",
            remedy="something on the board may end the user's processes",
        )

    def end_leftover(self, leader: Leader) -> None:
        """Kill what `leader` started, if it still runs."""
        with suppress(TargetError, Lost):
            self._ask(["sh", "-c", remote.END_ONE, "sh", *leader], b"", Deadline(ENDING), ends=False)

    @property
    def is_alive(self) -> bool:
        """Tell whether the connection is not known to have ended."""
        return not self._has_ended(0.0)

    @property
    def log(self) -> str:
        """Return what ssh has said about the connection, "" once it was closed."""
        with suppress(FileNotFoundError):
            return (self._folder / "log").read_text(encoding="utf-8", errors="replace")
        return ""

    def close(self) -> None:
        """End the connection and remove its socket."""
        with suppress(OSError):
            os.close(self._stdin)
        invocation.end(self._process)
        self._handle.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @cached_property
    def _client(self) -> list[str]:
        # Nothing of the user's config matters to what only goes through the connection; without one it must fail.
        # The inner shell keeps ssh's end open until it has spoken: ssh kills its proxy as soon as that is closed.
        words = ["-F", os.devnull, "-S", str(self._folder / "s"), "-T", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes"]
        proxy = f"ProxyCommand=sh -c 'echo {NOT_SENT} >&2'"
        return [invocation.program(), *words, "-o", proxy, "--", "board"]

    def _ask(self, argv: Sequence[str], stdin: bytes, deadline: Deadline, *, ends: bool = True) -> Said:
        """Run a command through the connection; with `ends` it is ended on the board when its time is over."""
        command = remote.framed(argv, self._mark)
        if len(command) > remote.LONGEST_COMMAND:
            stdin, command = command + stdin, remote.by_stdin(command)
        with ExitStack() as stack:
            # Files, not pipes: no thread has to copy, and nobody blocks on a full one.
            source, out, err = (stack.enter_context(_memory()) for _ in range(3))
            source.write(stdin)
            source.seek(0)
            client = None
            try:
                with postponed():
                    client = subprocess.Popen(
                        [*self._client, command],
                        stdin=source,
                        stdout=out,
                        stderr=err,
                        env=invocation.environment(),
                        start_new_session=True,
                    )
                ended = _await(client.pid, deadline.remaining)
            except BaseException:
                if client is not None:
                    self._abandon(client, self._read(out, err).leader if ends else None)
                raise
            if not ended:
                self._abandon(client, self._read(out, err).leader if ends else None)
                return Said(None, self._read(out, err), "")
            result = self._read(out, err)
            return Said(client.wait(), result, result.stderr.decode("utf-8", "replace"))

    def _has_ended(self, patience: float) -> bool:
        try:
            return bool(select.select([self._handle], [], [], patience)[0])
        except (OSError, ValueError):  # another thread has closed it
            return True

    def _read(self, out: BinaryIO, err: BinaryIO) -> Heard:
        return remote.heard(_content(out), _content(err), self._mark)

    def _abandon(self, client: subprocess.Popen[bytes], leader: Leader | None) -> None:
        try:
            if leader is not None:
                self.end_leftover(leader)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(client.pid, signal.SIGKILL)
            client.wait()


def connect(profile: Profile) -> Connection:
    """Connect to the board; BoardError, within `target.connect_timeout` seconds, when that cannot be done."""
    reasons.check_files(profile)
    mark = f"roboticks-{secrets.token_hex(8)}"
    argv = [invocation.program(), "-M", "-S"]
    folder = invocation.make_folder("ssh")
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        argv += [str(folder / "s"), *invocation.options(profile, known_hosts=Path(profile.target.known_hosts))]
        argv += ["--", invocation.host_of(profile), remote.hold(mark)]
        stdin, hold = os.pipe()
        undo.callback(os.close, hold)
        answer, stdout = os.pipe()
        try:
            process = invocation.spawn(argv, log=folder / "log", stdin=stdin, stdout=stdout)
            undo.callback(invocation.end, process, grace=0.2)
        finally:
            os.close(stdin)
            os.close(stdout)
        with os.fdopen(answer, "rb", buffering=0) as lines:
            deadline = Deadline(profile.target.connect_timeout)
            said = _read_until(lines, mark.encode(), deadline)
        if mark.encode() not in said:
            words = (folder / "log").read_text(encoding="utf-8", errors="replace")
            entered = (folder / "s").exists()
            raise reasons.explain(profile, words, said=said, late=deadline.expired, entered=entered)
        connection = Connection(folder, process, stdin=hold, mark=mark)
        undo.pop_all()
    return connection


def _read_until(lines: BinaryIO, mark: bytes, deadline: Deadline) -> bytes:
    said = b""
    while mark not in said and select.select([lines], [], [], deadline.remaining)[0]:
        chunk = os.read(lines.fileno(), 65536)
        if not chunk:
            break
        said += chunk
    return said


def _memory() -> BinaryIO:
    return os.fdopen(os.memfd_create("ssh"), "r+b", buffering=0)


def _content(file: BinaryIO) -> bytes:
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)


def _await(pid: int, seconds: float) -> bool:
    handle = os.pidfd_open(pid)  # it is our child, and stays until we have waited for it
    try:
        return bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)


def _explained(heard: Heard, program: str) -> bytes:
    """Return stderr; bash does not say "not found" of a path, and so that all boards do, we do."""
    if heard.exit_code == 127 and os.fsencode(program) in heard.stderr and b"not found" not in heard.stderr:
        return heard.stderr + os.fsencode(f"{program}: not found\n")
    return heard.stderr
