"""Open the target that a profile names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import msgspec

from roboticks_tasks.models import Link
from roboticks_tasks.profiles import Profile
from roboticks_tasks.targets.limited import Limited
from roboticks_tasks.targets.protocol import Target


@contextmanager
def open_target(
    profile: Profile, target: Target | None = None, *, limit: Callable[[], float] | None = None
) -> Iterator[Target]:
    """Lend `target`, or open the profile's own for the block and close it afterwards.

    A target of one's own is a board that has been asked who it is: BoardError when it is another one than the profile
    names, or cannot be reached. No command takes longer than `limit` returns, in seconds, when it begins.
    """
    if target is not None:
        yield target if limit is None else Limited(target, limit)
        return
    with connect(profile) as opened:
        own = opened if limit is None else Limited(opened, limit)
        if profile.device_manager.kind != "firmware" and any(board.identity for board in profile.boards):
            from roboticks_tasks.targets.identity import check_identity

            check_identity(profile, own)
        yield own


def open_link_of(profile: Profile) -> Link | None:
    """Begin a connection for tunnels, if the profile's target is one that needs them; it does not wait."""
    if profile.target.kind != "ssh":
        return None
    from roboticks_tasks.targets.ssh.links import open_link

    return open_link(profile)


def hurried(profile: Profile, seconds: float) -> Profile:
    """Return the profile with at most `seconds` to connect, and without patience for a board that boots or reboots."""
    replace = msgspec.structs.replace
    limit = round(max(0.5, min(profile.target.connect_timeout, seconds)), 1)  # as people read it
    target = replace(profile.target, connect_timeout=limit, reboot_timeout=None)
    # Without power there is no boot to wait for: a console that says nothing has `connect_timeout`.
    boards = tuple(replace(board, power=None) for board in profile.boards)
    return replace(profile, target=target, boards=boards)


def connect(profile: Profile) -> AbstractContextManager[Target]:
    """Return the profile's own target, of which nobody knows yet whether it is the right board."""
    # A microcontroller has no shell: what runs for it runs here.
    kind = "local" if profile.device_manager.kind == "firmware" else profile.target.kind
    if kind == "ssh":
        from roboticks_tasks.targets.ssh import open_ssh

        return open_ssh(profile)
    if kind == "serial":
        from roboticks_tasks.targets.serial import open_serial

        return open_serial(profile)
    from roboticks_tasks.targets.local import LocalTarget

    return nullcontext(LocalTarget())
