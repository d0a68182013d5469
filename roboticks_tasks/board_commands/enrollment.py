"""`enroll`: trust a board's host key, once, when somebody has said that it is the right one."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from roboticks_tasks.board_commands.questions import ask
from roboticks_tasks.console import say
from roboticks_tasks.errors import EXIT_PASSED, BoardError, ConfigError, RoboticksError
from roboticks_tasks.profiles import Profile, board_of, candidates, load_profile
from roboticks_tasks.profiles.new import toml

if TYPE_CHECKING:
    from roboticks_tasks.targets.ssh.host_keys import HostKey


def enroll(options: argparse.Namespace) -> int:
    """Pin the host key of each board that is meant, once somebody has said that it is the right one.

    With several boards one that fails does not keep the others from it; the exit code is the first failure's.
    """
    profile = load_profile(options.profile, board=options.board)
    if profile.target.kind != "ssh":
        raise ConfigError(
            f"profile {profile.name!r} has no host key to pin: its target is {profile.target.kind}",
            remedy=f"go on with `roboticks-tasks doctor --profile {options.profile}`",
        )
    boards = candidates(profile)
    if options.fingerprint is not None and len(boards) > 1:
        raise ConfigError("--fingerprint is that of one board", remedy="name it with --board")
    failures = []
    for each in boards:
        try:
            _enroll(each, options)
        except RoboticksError as error:
            if len(boards) == 1:
                raise
            failures.append(error)
            say(f"board {board_of(each).id}: {error}")
    if failures:
        say(f"{len(failures)} of {len(boards)} boards could not be enrolled")
        return failures[0].exit_code
    return EXIT_PASSED


def _enroll(profile: Profile, options: argparse.Namespace) -> None:
    from roboticks_tasks.targets.ssh import host_keys

    board = board_of(profile)
    offered, pinned = host_keys.offered(profile), host_keys.pinned(profile)
    say(f"board {board.id} at {board.host} offers {_list(offered)}")
    change = _is_change(offered, pinned)
    wanted = options.fingerprint
    if wanted is not None:
        wanted = wanted if wanted.startswith("SHA256:") else f"SHA256:{wanted}"
        # One key vouches for no other: whoever is on the way could have added his own.
        offered = [key for key in offered if key.fingerprint == wanted]
    if not offered:
        raise BoardError(
            f"board {board.id} offers no host key{f' with the fingerprint {wanted}' if wanted else ''}",
            remedy="compare it with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the board's own console",
        )
    if pinned and not change:
        say(f"board {board.id} is already enrolled in {profile.target.known_hosts}")
    else:
        if change and not options.replace:
            raise BoardError(
                f"board {board.id} has changed its host key: pinned {_list(pinned)}, offered {_list(offered)}",
                remedy="if it was installed anew, compare the key on its own console and use --replace",
            )
        _consent(profile, options)
        host_keys.pin(profile, offered, replace=change)
        say(f"board {board.id} is enrolled in {profile.target.known_hosts}")
    _show_identity(profile)


def _is_change(offered: list[HostKey], pinned: list[HostKey]) -> bool:
    """Tell whether an enrolled board offers another key: another one of a kind that is pinned, or no kind that is."""
    kinds = {key.kind for key in pinned}
    known = {(key.kind, key.fingerprint) for key in pinned}
    same_kind = [(key.kind, key.fingerprint) for key in offered if key.kind in kinds]
    return bool(pinned) and (not same_kind or not known.issuperset(same_kind))


def _list(keys: list[HostKey]) -> str:
    return ", ".join(f"{key.fingerprint} ({key.kind})" for key in keys) or "no host key"


def _consent(profile: Profile, options: argparse.Namespace) -> None:
    """Return if somebody vouches for the keys that were shown; BoardError when he does not, ConfigError for nobody."""
    if options.yes or options.fingerprint is not None:
        return
    board = board_of(profile).id
    if not sys.stdin.isatty():
        raise ConfigError(
            f"nobody is here to say that these are the keys of board {board}",
            remedy="use --fingerprint SHA256:… as the board's own console shows it, or --yes on a network you trust",
        )
    if ask(f"pin them for board {board} in {profile.target.known_hosts}? yes or no", "no").lower() not in {"y", "yes"}:
        raise BoardError(f"board {board} is not enrolled", remedy="compare the fingerprint on the board's own console")


def _show_identity(profile: Profile) -> None:
    """Print what the board says of itself as a line for the profile, if it has none; whatever fails, it is enrolled."""
    if board_of(profile).identity is not None:
        return
    from roboticks_tasks.targets import open_target
    from roboticks_tasks.targets.identity import read_identity

    try:
        with open_target(profile) as target:
            identity = read_identity(profile, target)
    except RoboticksError as error:
        say(f"what it says of itself could not be read: {error}")
        return
    for name in ("serial", "mac", "dsn"):  # one is enough, and the first lasts longest
        if value := identity.get(name):
            say("a line for it in the profile, by which no run takes another board for it:")
            say(f"  identity = {toml({name: value})}")
            return
