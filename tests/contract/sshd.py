"""A real sshd on the loopback, for one user: the one who runs the tests."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from roboticks_tasks.profiles.values import Board, Profile, Target
from tests.conditions import until
from tests.parts import require

ALIAS = "board-1"
"""Under which its key is pinned, and the id of the board in its profiles."""

CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey "{folder}/host_key"
PidFile "{folder}/sshd.pid"
AuthorizedKeysFile "{folder}/authorized_keys"
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
LogLevel VERBOSE
# The start files of the user's shell are slow on some machines, and none of the tests' business.
SetEnv "HOME={folder}/home"
"""
"""No subsystem at all: a board may have no sftp."""


class Sshd:
    """An sshd with one host key, one user's key and one pinned line; it can be stopped and started on its port."""

    def __init__(self, folder: Path, *, more: str = "") -> None:
        self.folder = folder
        self.user = getpass.getuser()
        self.key = folder / "key"
        self.known_hosts = folder / "known_hosts"
        self.home = folder / "home"
        self.port = 0
        self._more = more
        self._process: subprocess.Popen[bytes] | None = None
        self._orphans: list[int] = []

    def prepare(self) -> None:
        """Make its keys and files."""
        self.home.mkdir(parents=True)
        for path in (self.key, self.folder / "host_key"):
            make_key(path)
        shutil.copy(f"{self.key}.pub", self.folder / "authorized_keys")
        self.known_hosts.write_text(f"{ALIAS} {self.host_key}\n")
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where its unprivileged half is locked up

    @property
    def host_key(self) -> str:
        """Return its public host key: kind and key."""
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    def start(self) -> None:
        """Start it, on the port that it had before, and wait until it answers; AssertionError when it does not."""
        for _ in range(1 if self.port else 20):
            port = self.port or free_port()
            if self._try(port):
                self.port = port
                return
        raise AssertionError(f"sshd does not start: {self.log}")

    def stop(self) -> None:
        """Stop it: nobody can connect any more, and connections are left alone."""
        if self._process is not None:
            self._orphans = children(self._process.pid)
            self._process.terminate()
            self._process.wait()
            self._process = None

    def kill_sessions(self) -> None:
        """Kill the processes that serve its connections, as a board that crashes does."""
        for pid in self.sessions():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def sessions(self) -> list[int]:
        """Return the processes that serve its connections, and those they have split off."""
        direct = children(self._process.pid) if self._process is not None else self._orphans
        return [*direct, *(pid for each in direct for pid in children(each) if name(pid).startswith("sshd"))]

    @property
    def log(self) -> str:
        """Return what it has logged."""
        path = self.folder / "sshd.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def target(self, **more: Any) -> dict[str, Any]:
        """Return [target] of a profile that reaches it."""
        return {
            "kind": "ssh",
            "user": self.user,
            "port": self.port,
            "identity_file": str(self.key),
            "known_hosts": str(self.known_hosts),
        } | more

    def profile(self, *, board: dict[str, Any] | None = None, **more: Any) -> Profile:
        """Return a profile with one board, which is this sshd; `more` are keys of [target]."""
        boards = (Board(**({"id": ALIAS, "host": "127.0.0.1"} | (board or {}))),)
        return Profile(name="bench", target=Target(**self.target(**more)), boards=boards)

    def profile_text(self, **more: Any) -> str:
        """Return the [target] and [[boards]] of a profile file that reaches it."""
        values = self.target(**more).items()
        lines = [f"{name} = {_toml(value)}" for name, value in values if value is not None]
        return "\n".join(["[target]", *lines, "", "[[boards]]", f'id = "{ALIAS}"', 'host = "127.0.0.1"', ""])

    def _try(self, port: int) -> bool:
        config = self.folder / "sshd_config"
        config.write_text(CONFIG.format(port=port, folder=self.folder) + self._more)
        command = [require("sshd"), "-D", "-f", str(config), "-E", str(self.folder / "sshd.log")]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        process = self._process
        until(lambda: process.poll() is not None or answers(port), "sshd answers")
        if process.poll() is None:
            return True
        self._process = None
        return False


@contextmanager
def running_sshd(folder: Path, *, more: str = "") -> Iterator[Sshd]:
    """Run an sshd for the block, its files in `folder` (made); `more` are lines for its config."""
    require("sshd")
    require("ssh")
    sshd = Sshd(folder, more=more)
    sshd.prepare()
    sshd.start()
    try:
        yield sshd
    finally:
        sshd.kill_sessions()
        sshd.stop()


def make_key(path: Path) -> None:
    """Make a key pair without a passphrase."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)


def free_port() -> int:
    """Return a port of the loopback that nobody has at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def answers(port: int) -> bool:
    """Tell whether an sshd greets at this port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """Return the processes that `pid` has started and that run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent, *_ = stat.read_text(errors="replace").rpartition(")")[2].split()
            if int(parent) == pid and state != "Z":
                found.append(int(stat.parent.name))
    return found


def name(pid: int) -> str:
    """Return the name of a process, "" when it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else '"' + str(value).replace("\\", "\\\\") + '"'
