"""What earlier runs have left behind on this machine for a board: a connection that nobody uses any more."""

from __future__ import annotations

from roboticks_tasks.doctor.findings import Seen, ok, warning
from roboticks_tasks.profiles import Profile, board_of
from roboticks_tasks.targets.ssh.links import open_links


def left_link(profile: Profile, in_use: str | None) -> Seen:
    """Look for a connection for tunnels to the board, which should not outlive its run."""
    links = open_links(profile)
    if not links:
        return ok("no connection is open")
    pid = links[0].process.pid
    if in_use is not None:
        return ok(f"a connection is open (pid {pid}), it belongs to the run that has the board")
    board = f" --board {board_of(profile).id}"
    return warning(
        f"a connection of an earlier run is still open (pid {pid})",
        f"`roboticks-tasks teardown --profile {profile.name}{board}` closes it, and so does the next run",
    )
