"""What earlier runs have left behind on this machine for a board: a connection that nobody uses any more."""

from __future__ import annotations

from contextlib import suppress

import msgspec

from roboticks_tasks import bench, processes
from roboticks_tasks.doctor.findings import Seen, ok, warning
from roboticks_tasks.profiles import Profile, board_of


def left_link(profile: Profile, in_use: str | None) -> Seen:
    """Look for a connection for tunnels to the board, which should not outlive its run."""
    pid = _find_link(profile)
    if pid is None:
        return ok("no connection is open")
    if in_use is not None:
        return ok(f"a connection is open (pid {pid}), it belongs to the run that has the board")
    return warning(
        f"a connection of an earlier run is still open (pid {pid})",
        f"`roboticks-tasks teardown --profile {profile.name}` closes it, or `kill {pid}`",
    )


def _find_link(profile: Profile) -> int | None:
    """Return the process of this user's connection to the board, None when there is none."""
    for folder in bench.private_folder().glob("ssh-link-*"):
        with suppress(OSError, ValueError, msgspec.DecodeError):
            pid, started = map(int, (folder / "owner").read_text(encoding="ascii").split())
            known = msgspec.json.decode((folder / "profile.json").read_bytes(), type=Profile)
            if processes.is_alive(pid, started) and _address(known) == _address(profile):
                return pid
    return None


def _address(profile: Profile) -> tuple[str, int]:
    board = board_of(profile)
    return (board.host or "").lower(), board.port or profile.target.port or 22
