"""Tunnels between this machine and the board, over a connection that lasts as long as the run."""

from __future__ import annotations

import os
import re
import select
import shutil
import socket
import subprocess
from pathlib import Path

import msgspec

from roboticks_tasks import bench, processes
from roboticks_tasks.errors import BoardError, TargetError
from roboticks_tasks.models import Link
from roboticks_tasks.profiles.values import Profile
from roboticks_tasks.targets import ssh_command, ssh_errors
from roboticks_tasks.waiting import Deadline, first

REQUEST = 10.0
"""Seconds for the board to answer one request for a tunnel."""

GREETING = 2.0
"""Seconds for the other end of a tunnel to speak or to hang up; it is one round trip."""

PATIENCE = 0.01
"""Seconds between two looks whether the connection is up."""

FORBIDDEN = "allow it in the board's sshd_config: AllowTcpForwarding yes"


def open_link(profile: Profile) -> Link:
    """Start to connect to the board and return at once; the connection outlives this process, until `close_link`.

    What goes wrong later is told by whoever uses it. BoardError when a file that the profile names cannot be read.
    """
    ssh_command.sweep_folders()
    ssh_errors.check_files(profile)
    folder = ssh_command.make_folder("ssh-link")
    control = folder / "s"
    # Whoever uses the link has no profile at hand, but shall hear what the profile's mistakes are.
    known = Profile(name=profile.name, target=profile.target, boards=profile.boards)
    (folder / "profile.json").write_bytes(msgspec.json.encode(known))
    destination = ssh_command.host_of(profile)
    argv = [ssh_command.program(), "-M", "-N", "-S", str(control)]
    argv += [*ssh_command.options(profile, known_hosts=Path(profile.target.known_hosts)), "--", destination]
    process = ssh_command.spawn(argv, log=folder / "log")
    ssh_command.give_folder(folder, process)
    return Link(process=process, control=str(control), destination=destination)


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
    log = (path.parent / "log").read_text(encoding="utf-8", errors="replace")
    if "administratively prohibited" in log:
        raise TargetError(f"{link.destination} lets nothing through its tunnel", remedy=FORBIDDEN)
    return f"ipc://{path}"


def close_link(link: Link) -> str:
    """End the connection with all its tunnels: "stopped", or "gone" when it had ended before."""
    was_alive = ssh_command.end(link.process, grace=1.0)
    folder = Path(link.control).parent
    if folder.name.startswith("ssh-link-"):
        shutil.rmtree(folder, ignore_errors=True)
    return "stopped" if was_alive else "gone"


def _await_up(link: Link) -> None:
    folder = Path(link.control).parent
    try:
        profile = msgspec.json.decode((folder / "profile.json").read_bytes(), type=Profile)
    except FileNotFoundError as error:
        raise BoardError(f"the connection to {link.destination} was closed", remedy="start the run again") from error
    deadline = Deadline(profile.target.connect_timeout)
    up = first(lambda: _is_up(link), deadline=deadline, interval=PATIENCE)
    if not up:
        log = (folder / "log").read_text(encoding="utf-8", errors="replace")
        raise ssh_errors.explain(profile, log, late=up is None)


def _is_up(link: Link) -> bool | None:
    """Tell whether the link is up, False when it never will be, None when that is open."""
    if not processes.is_alive(link.process.pid, link.process.start_time):
        return False
    return True if Path(link.control).exists() else None


def _request(link: Link, *tunnel: str) -> str:
    """Have the connection make a tunnel, and return what it says."""
    argv = [ssh_command.program(), "-F", os.devnull, "-S", link.control, "-O", "forward", *tunnel]
    try:
        done = subprocess.run(
            [*argv, "--", "board"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=REQUEST,
            env=ssh_command.environment(),
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
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(GREETING)
        probe.connect(str(path))
        select.select([probe], [], [], GREETING)
