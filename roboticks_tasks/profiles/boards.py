"""Which of a profile's boards is meant."""

from __future__ import annotations

import difflib

import msgspec

from roboticks_tasks.errors import ConfigError
from roboticks_tasks.profiles.values import Board, Profile


def board_of(profile: Profile) -> Board:
    """Return the one board that `profile` means; ConfigError when it names several and none was chosen.

    A profile without boards means the machine that it runs on, under the profile's own name.
    """
    if len(profile.boards) > 1:
        names = ", ".join(board.id for board in profile.boards)
        raise ConfigError(
            f"profile {profile.name!r} names {len(profile.boards)} boards ({names})", remedy="choose one with --board"
        )
    return profile.boards[0] if profile.boards else Board(id=profile.name or "local")


def candidates(profile: Profile, board: str | None = None) -> list[Profile]:
    """Return a profile for each board that may be used, `board` alone if given; ConfigError for an unknown one."""
    chosen = [each for each in profile.boards if board in {None, each.id}]
    if board is not None and not chosen:
        known = [each.id for each in profile.boards]
        near = difflib.get_close_matches(board, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known) or 'none'}"
        raise ConfigError(f"profile {profile.name!r} has no board {board!r}", remedy=hint)
    return [_narrow(profile, each) for each in chosen] or [profile]


def _narrow(profile: Profile, board: Board) -> Profile:
    replace = msgspec.structs.replace
    root = profile.device_manager.root.replace("{board}", board.id)
    return replace(profile, boards=(board,), device_manager=replace(profile.device_manager, root=root))
