"""What no type can say of a profile: which keys need, exclude or repeat each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from roboticks_tasks.errors import ConfigError
from roboticks_tasks.profiles import check_boards, check_manager
from roboticks_tasks.profiles.explain import locate, read_place
from roboticks_tasks.profiles.problem import Problem
from roboticks_tasks.profiles.values import Profile


def check(profile: Profile, *, path: Path, text: str, sources: Mapping[str, str] | None = None) -> None:
    """Raise ConfigError for the first problem of a profile that was read from `text` of the file `path`.

    `sources` says which keys were set from elsewhere, and by what: that is named then instead of a line.
    """
    for problem in problems(profile):
        named = (source for key, source in (sources or {}).items() if key in {problem.key, *problem.involved})
        source = next(named, None)
        place = locate(path, text, read_place(problem.key)) if source is None else f"{source}: profile {path}"
        raise ConfigError(f"{place}: {problem.message}", remedy=problem.remedy)


def problems(profile: Profile) -> Iterator[Problem]:
    """Yield whatever cannot work in a profile, the most basic first."""
    yield from check_boards.reach(profile)
    yield from check_boards.repetitions(profile)
    for index, board in enumerate(profile.boards):
        yield from check_boards.one_board(board, f"boards[{index}]")
    yield from check_manager.device_manager(profile)
    yield from check_manager.patterns(profile)
