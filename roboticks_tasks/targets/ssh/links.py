"""Tunnels between this machine and the board, over a connection that lasts as long as the run."""

from __future__ import annotations

import logging
import os
import re
import select
import shutil
import socket
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec

from roboticks_tasks import bench, processes
from roboticks_tasks.errors import BoardError, TargetError
from roboticks_tasks.models import Link, Process
from roboticks_tasks.profiles.boards import board_of
from roboticks_tasks.profiles.values import Profile
from roboticks_tasks.targets.ssh import invocation, reasons
from roboticks_tasks.waiting import Deadline, first

log = logging.getLogger(__name__)

REQUEST = 10.0
"""Seconds for the board to answer one request for a tunnel."""

GREETING = 2.0
"""Seconds for the other end of a tunnel to speak or to hang up; it is one round trip."""

PATIENCE = 0.01
"""Seconds between two looks whether the connection is up."""

KNOWN = "profile.json"
"""In a link's folder: what the profile says of the board."""

UP = "up"
"""In a link's folder: the connection has been up."""

FORBIDDEN = "allow it in the board's sshd_config: AllowTcpForwarding yes"


def open_link(profile: Profile) -> Link:
    """Start to connect to the board and return at once; the connection outlives this process, until `close_link`.

    Whoever calls this has the board alone: a link to it that is still there is what a killed run has left, and is
    closed. What goes wrong later is told by whoever uses it. BoardError when a file that the profile names cannot be
    read.
    """
    invocation.sweep_folders()
    reasons.check_files(profile)
    for left in open_links(profile):
        outcome = close_link(left)
        log.warning("an earlier run has left its link to %s (pid %d): %s", left.destination, left.process.pid, outcome)
    destination = invocation.host_of(profile)
    folder = invocation.make_folder("ssh-link")
    argv = [invocation.program(), "-M", "-N", "-S", str(folder / "s")]
    argv += [*invocation.options(profile, known_hosts=Path(profile.target.known_hosts)), "--", destination]
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        process = invocation.spawn(argv, log=folder / "log")
        undo.callback(invocation.end, process, grace=0.2)
        invocation.give_folder(folder, process)
        # Whoever uses the link has no profile at hand, but shall hear what the profile's mistakes are.
        known = Profile(name=profile.name, target=profile.target, boards=profile.boards)
        (folder / KNOWN).write_bytes(msgspec.json.encode(known))
        undo.pop_all()
    return Link(process=process, control=str(folder / "s"), destination=destination)


def reach_from_device(link: Link, port: int) -> int:
    """Let the device reach our 127.0.0.1:`port`; return the port on its own 127.0.0.1 that leads there.

    BoardError when the connection is not up in time, TargetError when the board's sshd does not allow it.
    """
    _await_up(link)
    answer = _request(link, "-R", f"127.0.0.1:0:127.0.0.1:{port}")
    found = re.search(r"\d+", answer)
    if found is None:
        raise TargetError(f"{link.destination} names no port for the tunnel: {answer!r}", remedy=FORBIDDEN)
    return int(found[0])


def reach_device(link: Link, endpoint: str) -> str:
    """Return how we reach a ZeroMQ `endpoint` of the device: a tcp one through a socket of ours, any other as it is.

    BoardError when the connection is not up in time, TargetError when the board's sshd does not allow it.
    """
    found = re.fullmatch(r"tcp://(?P<host>\[[^]]+\]|[^:/]+):(?P<port>\d+)", endpoint)
    if found is None:
        return endpoint
    _await_up(link)
    host = "127.0.0.1" if found["host"] in {"*", "0.0.0.0", "localhost"} else found["host"]  # noqa: S104 - is compared
    path = Path(link.control).parent / f"{bench.file_name(host)[-8:]}-{found['port']}"
    if not path.exists():
        _request(link, "-L", f"{path}:{host}:{found['port']}")
        _try(path)
    if "administratively prohibited" in _log(link):
        raise TargetError(f"{link.destination} lets nothing through its tunnel", remedy=FORBIDDEN)
    return f"ipc://{path}"


def close_link(link: Link) -> str:
    """End the connection with all its tunnels: "stopped", or "gone" when it had ended before."""
    was_alive = invocation.end(link.process, grace=1.0)
    folder = Path(link.control).parent
    if folder.name.startswith("ssh-link-"):
        shutil.rmtree(folder, ignore_errors=True)
    return "stopped" if was_alive else "gone"


def open_links(profile: Profile) -> list[Link]:
    """Return this user's links to the profile's board, whatever has become of their runs.

    The processes are asked: a run that was killed may have noted nothing, and its folder of sockets may be gone.
    """
    if profile.target.kind != "ssh":
        return []
    board = board_of(profile)
    address = invocation.host_of(profile).lower(), str(board.port or profile.target.port or 22)
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().decode("utf-8", "surrogateescape").split("\0")[:-1]
            if entry.stat().st_uid == os.getuid() and _is_link(words) and _address(words) == address:
                pid = int(entry.name)
                process = Process(pid=pid, start_time=processes.start_time(pid) or 0)
                found.append(Link(process=process, control=words[4], destination=words[-1]))
    return found


def _is_link(words: list[str]) -> bool:
    """Tell whether these are the arguments with which `open_link` starts one."""
    return words[1:4] == ["-M", "-N", "-S"] and len(words) > 5 and Path(words[4]).parent.name.startswith("ssh-link-")


def _address(words: list[str]) -> tuple[str, str]:
    return words[-1].lower(), words[words.index("-p") + 1] if "-p" in words else "22"


def check_link(link: Link) -> None:
    """TargetError when the connection has ended, and every tunnel with it."""
    if not processes.is_alive(link.process.pid, link.process.start_time):
        words = reasons.last_line(_log(link)) or "its ssh was closed or killed"
        raise TargetError(
            f"the connection to {link.destination} that carried the run's tunnels has ended: {words}",
            remedy="look at the board's power and network, then start the run again",
        )


def _await_up(link: Link) -> None:
    folder = Path(link.control).parent
    if (folder / UP).exists():
        check_link(link)
        return
    try:
        profile = msgspec.json.decode((folder / KNOWN).read_bytes(), type=Profile)
    except FileNotFoundError as error:
        raise BoardError(f"the connection to {link.destination} was closed", remedy="start the run again") from error
    up = first(lambda: _is_up(link), deadline=Deadline(profile.target.connect_timeout), interval=PATIENCE)
    if not up:
        raise reasons.explain(profile, _log(link), late=up is None)
    (folder / UP).touch()


def _log(link: Link) -> str:
    """Return what the link's ssh has said, "" once the link was closed."""
    with suppress(OSError):
        return (Path(link.control).parent / "log").read_text(encoding="utf-8", errors="replace")
    return ""


def _is_up(link: Link) -> bool | None:
    """Tell whether the link is up, False when it never will be, None when that is open."""
    if not processes.is_alive(link.process.pid, link.process.start_time):
        return False
    return True if Path(link.control).exists() else None


def _request(link: Link, *tunnel: str) -> str:
    """Have the connection make a tunnel, and return what it says."""
    argv = [invocation.program(), "-F", os.devnull, "-S", link.control, "-O", "forward", *tunnel]
    try:
        done = subprocess.run(
            [*argv, "--", "board"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=REQUEST,
            env=invocation.environment(),
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TargetError(f"{link.destination} does not answer the request for a tunnel") from error
    if done.returncode != 0:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["ssh said nothing"]
        raise TargetError(f"{link.destination} makes no tunnel: {words[-1]}", remedy=FORBIDDEN)
    return done.stdout.decode("utf-8", "replace")


def _try(path: Path) -> None:
    """Go through a tunnel once: that sshd forbids it, only a connection through it shows, in the log.

    That nobody listens at its other end yet is no error. A ZeroMQ endpoint greets at once.
    """
    with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
        probe.settimeout(GREETING)
        probe.connect(str(path))
        select.select([probe], [], [], GREETING)
