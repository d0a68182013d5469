"""Checks of one board: whether it can be reached and trusted, and what it then says of itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from roboticks_tasks.backend.credentials import project_secret
from roboticks_tasks.doctor import questions
from roboticks_tasks.doctor.board import JUDGEMENTS, Known
from roboticks_tasks.doctor.checks import DEADLINE, Check, explain, simple
from roboticks_tasks.doctor.facts import gather
from roboticks_tasks.doctor.findings import Seen, failed, ok, skipped
from roboticks_tasks.doctor.sizes import inspect
from roboticks_tasks.models import BackendRef
from roboticks_tasks.profiles import Profile, board_of
from roboticks_tasks.targets.limited import Limited
from roboticks_tasks.targets.opening import connect, hurried
from roboticks_tasks.targets.protocol import Target

SERIAL_DEADLINE = 20.0
"""Seconds for a script over a serial line; at 9600 bits per second it is on its way for four of them."""


def pin_check(profile: Profile) -> Check[Any]:
    """Return the check that the board's host key is pinned."""
    return simple("pinned host key", "board", lambda: pinned_key(profile))


def pinned_key(profile: Profile) -> Seen:
    """Look for the board's key in the profile's file; whether the board has it, the connection shows."""
    from roboticks_tasks.targets.ssh.host_keys import pinned

    keys = pinned(profile)
    if keys:
        return ok(", ".join(f"{key.kind} {key.fingerprint}" for key in keys))
    board = board_of(profile).id
    return failed(
        f"none for {board} in {profile.target.known_hosts}",
        f"look at the board's key and pin it: `roboticks-tasks enroll --profile {profile.name} --board {board}`",
    )


def board_check(
    profile: Profile, environ: Mapping[str, str], *, in_use: str | None, blocked: str | None = None
) -> Check[Known]:
    """Return the check that the board can be reached, and of all that it then says; `blocked` is why it need not try.

    `in_use` are the words of the run that has the board: nothing that is asked disturbs it.
    """

    def look() -> tuple[Seen, Known | None]:
        if blocked is not None:
            return skipped(blocked), None
        if profile.target.kind == "serial" and in_use is not None:
            return skipped("left alone: a run has the board's console"), None
        return reach(profile, environ, in_use=in_use)

    return Check("connection", "board", look, JUDGEMENTS)


def reach(profile: Profile, environ: Mapping[str, str], *, in_use: str | None) -> tuple[Seen, Known]:
    """Connect with the board and ask it everything; an error of the target says why it does not answer."""
    kind = profile.target.kind
    limit = SERIAL_DEADLINE if kind == "serial" else DEADLINE
    source = inspect(profile)
    begin = time.monotonic()
    with connect(hurried(profile, profile.target.connect_timeout)) as opened:
        target = Limited(opened, lambda: limit)
        seconds = time.monotonic() - begin
        facts = gather(profile, target, timeout=limit)
        header = source.header or facts.header
        known = Known(
            profile,
            facts,
            source,
            startup=_shell_startup(target) if kind == "ssh" else None,
            has_secret=bool(project_secret(BackendRef(url=profile.backend), environ)),
            in_use=in_use,
            asked={
                "identity": _explained(lambda: questions.identity(profile, target)),
                "C library": _explained(lambda: questions.c_library(profile, target, header, source.path)),
                "Python": _explained(lambda: questions.python(profile, target)),
            },
        )
    who = f"as {facts.user}" if facts.user else "as somebody"
    return ok(f"{'this machine' if kind == 'local' else f'connected in {seconds:.2f} s'}, {who}"), known


def _explained(question: Callable[[], Seen | None]) -> Seen | None:
    """Ask, and take an exception for the answer: the next question is asked all the same."""
    try:
        return question()
    except Exception as error:
        return explain(error)


def _shell_startup(target: Target) -> float:
    times = []
    for _ in range(3):
        begin = time.monotonic()
        target.run(["true"], timeout=DEADLINE, repeatable=True)
        times.append(time.monotonic() - begin)
    return min(times)
