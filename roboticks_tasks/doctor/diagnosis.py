"""diagnose: every check that makes sense for a profile, on the boards that it names."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from roboticks_tasks.boards import lease
from roboticks_tasks.boards.quarantine import free, parked
from roboticks_tasks.doctor import hardware, leftovers, machine, reach
from roboticks_tasks.doctor.checks import Check, explain, run_check, run_checks, simple
from roboticks_tasks.doctor.findings import Diagnosis, Finding, Seen, is_sound, ok, warning
from roboticks_tasks.doctor.local_platform import local_checks
from roboticks_tasks.doctor.remote_platform import remote_check
from roboticks_tasks.errors import BoardInUseError, ConfigError
from roboticks_tasks.profiles import Profile, board_of, candidates

WORDS = Path("doctor")
"""What a run that is refused reads of us, in the place of a run's folder."""


def diagnose(
    profile: Profile, *, folder: Path, board: str | None = None, environ: Mapping[str, str] | None = None
) -> Diagnosis:
    """Look at this machine, the platform and each of the profile's boards, or at `board` alone.

    `folder` is where runs make their folders; credentials come from `environ` (default: the process's). A board is
    leased while it is looked at; one that a run has is only asked what does not disturb it. Nothing is switched, and
    nothing but the lease's own file is written. A board that is parked is freed when all of its checks could be made
    and none failed. Raises ConfigError for an unknown board; whatever else goes wrong is a finding.
    """
    begin = time.monotonic()
    environ = os.environ if environ is None else environ
    boards = candidates(profile, board)
    # ssh is called through forks, which threads of ours would make unsafe: the boards have their turn without any.
    found = [finding for each in boards for finding in look_at_board(each, environ)]
    shared = run_checks([*machine.machine_checks(profile, folder), *platform_checks(profile, environ)])
    return Diagnosis(
        profile=profile.name,
        boards=tuple(board_of(each).id for each in boards),
        findings=(*shared, *found),
        duration=round(time.monotonic() - begin, 3),
    )


def platform_checks(profile: Profile, environ: Mapping[str, str]) -> list[Check[Any]]:
    """Return the checks of the profile's platform; credentials are read from `environ`."""
    if profile.backend == "local":
        return list(local_checks(profile.local_platform))
    return [remote_check(profile, environ)]


def look_at_board(profile: Profile, environ: Mapping[str, str]) -> list[Finding]:
    """Return the findings of the narrowed profile's board, made under its lease where it is free."""
    name = board_of(profile).id
    with _leased(profile) as (seen, in_use):
        found = run_check(simple("lease", "board", lambda: seen), name)
        found += _look(profile, environ, name=name, in_use=in_use)
        may_free = seen.outcome == "ok" and is_sound(found, name)
        found += run_check(simple("quarantine", "board", lambda: _quarantine(profile, may_free=may_free)), name)
    return found


def _look(profile: Profile, environ: Mapping[str, str], *, name: str, in_use: str | None) -> list[Finding]:
    board = board_of(profile)
    first: list[Check[Any]] = list(hardware.power_checks(board))
    if board.console is not None:
        first.append(hardware.console_check(board.console, in_use))
    if profile.target.kind == "ssh":
        first.append(reach.pin_check(profile))
        first.append(simple("left connection", "board", lambda: leftovers.left_link(profile, in_use)))
    found = run_checks(first, name)
    if profile.device_manager.kind == "firmware":
        return found  # there is no shell to ask
    return found + run_check(reach.board_check(profile, environ, in_use=in_use, blocked=_blocked(profile, found)), name)


def _blocked(profile: Profile, found: list[Finding]) -> str | None:
    """Return why it would be of no use to connect, None when it may be."""
    outcomes = {each.name: each for each in found}
    power, pin, console = (outcomes.get(name) for name in ("power", "pinned host key", "console"))
    if power is not None and power.detail.startswith(hardware.OFF):
        return "the board has no power"
    if pin is not None and pin.outcome == "failed":
        return "no host key is pinned"
    if console is not None and console.outcome == "failed" and profile.target.kind == "serial":
        return "its console cannot be opened"
    return None


@contextmanager
def _leased(profile: Profile) -> Iterator[tuple[Seen, str | None]]:
    """Hold the board for the block if it is free; yield what was seen, and the words of who has it."""
    with ExitStack() as stack:
        seen, in_use = ok("free"), None
        try:
            stack.enter_context(lease(profile, run=WORDS, borrow_quarantined=True))
        except BoardInUseError as error:
            in_use = str(error).removesuffix(f"; {error.remedy}")
            remedy = "only what does not disturb that run was looked at: wait for its end to see the rest"
            seen = warning(in_use, remedy)
        except ConfigError as error:
            seen = explain(error)
        yield seen, in_use


def _quarantine(profile: Profile, *, may_free: bool) -> Seen:
    found = parked(profile)
    if found is None:
        return ok("not parked")
    if may_free and free(profile):
        return ok(f"it was {found}; freed, because nothing is wrong with it now")
    return warning(f"{found}", "mend what failed, then run doctor again: it frees the board when nothing does")
