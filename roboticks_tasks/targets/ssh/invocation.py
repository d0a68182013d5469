"""How our ssh is called: which options, which environment, which folder for its sockets."""

from __future__ import annotations

import os
import select
import shutil
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

from roboticks_tasks import bench, processes
from roboticks_tasks.errors import BoardError, ConfigError
from roboticks_tasks.models import Process
from roboticks_tasks.profiles.boards import board_of
from roboticks_tasks.profiles.values import Profile
from roboticks_tasks.redaction import without_ours

OWNER = "owner"
"""In a folder of sockets: the process with whose end it has no use any more, "PID START"."""

PROMPTS = ("DISPLAY", "WAYLAND_DISPLAY", "SSH_ASKPASS")
"""What lets ssh ask a question in a window."""


def program() -> str:
    """Return the path of `ssh`; BoardError when there is none."""
    path = shutil.which("ssh")
    if path is None:
        raise BoardError("this machine has no `ssh`", remedy="install OpenSSH's client (openssh-client)")
    return path


def environment() -> dict[str, str]:
    """Return our environment without what lets ssh, or the ssh to a jump host, ask anybody anything.

    Nor has it the platform's secrets: what the config's SendEnv names is sent, whatever our own options say.
    """
    kept = {name: value for name, value in without_ours(processes.unmarked(os.environ)).items() if name not in PROMPTS}
    return kept | {"SSH_ASKPASS_REQUIRE": "never"}


def host_of(profile: Profile) -> str:
    """Return the host of the profile's board; ConfigError when it names none."""
    board = board_of(profile)
    if board.host is None:
        raise ConfigError(f"board {board.id!r} has no host, so ssh cannot reach it", remedy="set `host` in [[boards]]")
    return board.host


def alias_of(profile: Profile) -> str:
    """Return the name under which the board's key is pinned: its address may change, its id does not."""
    return board_of(profile).id.lower()


def options(profile: Profile, *, known_hosts: Path, checking: str = "yes") -> list[str]:
    """Return ssh's arguments up to the destination; what they do not say, the user's own ssh config does.

    `checking` is StrictHostKeyChecking. No question is asked, nothing is forwarded and no command of the config runs.
    """
    target, board = profile.target, board_of(profile)
    said = {
        "IgnoreUnknown": "*",  # an older ssh has not all of these, and the config's own IgnoreUnknown counts no more
        "BatchMode": "yes",
        "ConnectTimeout": str(max(1, round(target.connect_timeout))),
        "ServerAliveInterval": str(max(1, round(target.keep_alive))),
        "ServerAliveCountMax": "3",
        "StrictHostKeyChecking": checking,
        "UserKnownHostsFile": quoted(known_hosts),
        "GlobalKnownHostsFile": os.devnull,
        "KnownHostsCommand": "none",
        "HostKeyAlias": alias_of(profile),  # it also keeps NoHostAuthenticationForLocalhost from skipping the check
        "CheckHostIP": "no",
        "UpdateHostKeys": "no",
        "VerifyHostKeyDNS": "no",
        "HashKnownHosts": "no",
        "VisualHostKey": "no",
        "FingerprintHash": "sha256",
        "RemoteCommand": "none",
        "SessionType": "default",
        "StdinNull": "no",
        "ForkAfterAuthentication": "no",
        "RequestTTY": "no",
        "PermitLocalCommand": "no",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "Tunnel": "no",
        "ClearAllForwardings": "yes",
        "ControlPersist": "no",
        "AddKeysToAgent": "no",
        "LogLevel": "INFO",
    }
    if target.identity_file is not None:
        said |= {"IdentityFile": quoted(Path(target.identity_file).expanduser()), "IdentitiesOnly": "yes"}
    if target.jump is not None:
        said["ProxyJump"] = target.jump
    arguments = [word for name, value in said.items() for word in ("-o", f"{name}={value}")]
    port = board.port or target.port
    arguments += ["-p", str(port)] if port else []
    return arguments + (["-l", target.user] if target.user else [])


def quoted(path: Path) -> str:
    """Return `path` as the value of an ssh option that expands % and splits at blanks."""
    text = os.path.abspath(path).replace("%", "%%")  # noqa: PTH100 - a link stays the link that was named
    return f'"{text}"'


def spawn(argv: list[str], *, log: Path, stdin: int | None = None, stdout: int | None = None) -> Process:
    """Start `argv` without a terminal, in a session of its own, with what it says on stderr in `log`.

    posix_spawn, not fork: other threads may live. Our own descriptors are closed in it, but for the two given.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 2, str(log), flags, 0o600),
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0) if stdin is None else (os.POSIX_SPAWN_DUP2, stdin, 0),
        (os.POSIX_SPAWN_DUP2, 2, 1) if stdout is None else (os.POSIX_SPAWN_DUP2, stdout, 1),
    ]
    pid = os.posix_spawn(argv[0], argv, environment(), file_actions=actions, setsid=True)
    return Process(pid=pid, start_time=processes.start_time(pid) or 0)


def make_folder(kind: str) -> Path:
    """Make a folder for sockets, with a path short enough for them, that belongs to this process for now."""
    folder = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=bench.private_folder()))
    give_folder(folder, Process(pid=os.getpid(), start_time=processes.start_time(os.getpid()) or 0))
    return folder


def give_folder(folder: Path, owner: Process) -> None:
    """Let the folder be swept once `owner` has ended."""
    new = folder / f"{OWNER}.new"
    new.write_text(f"{owner.pid} {owner.start_time}", encoding="ascii")
    new.rename(folder / OWNER)


def sweep_folders() -> None:
    """Remove the folders of processes that were killed and could not do it themselves."""
    for file in bench.private_folder().glob(f"ssh*-*/{OWNER}"):
        try:
            pid, started = map(int, file.read_text(encoding="ascii").split())
        except (OSError, ValueError):
            continue
        if not processes.is_alive(pid, started):
            shutil.rmtree(file.parent, ignore_errors=True)


def end(process: Process, *, grace: float = 2.0) -> bool:
    """End an ssh of ours with the ssh to its jump host, kill them after `grace` seconds; tell whether it was alive."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        if not processes.is_alive(process.pid, process.start_time):
            return False
        signal.pidfd_send_signal(handle, signal.SIGTERM)  # it then removes its socket
        select.select([handle], [], [], grace)
        # One that is still connecting leaves its jump behind; both are one group, as it was started by `spawn`.
        os.killpg(process.pid, signal.SIGKILL)
        select.select([handle], [], [], 1.0)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)
        with suppress(ChildProcessError):  # it may have been started by another process
            os.waitpid(process.pid, os.WNOHANG)
    return True
