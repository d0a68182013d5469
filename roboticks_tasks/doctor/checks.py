"""Run checks side by side, each with a deadline; whatever a check does, it ends in findings."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from roboticks_tasks.doctor.findings import Area, Finding, Seen, failed, skipped
from roboticks_tasks.errors import ConfigError, RoboticksError

T = TypeVar("T")

log = logging.getLogger(__name__)

DEADLINE = 5.0
"""Seconds for a check, unless it has reason to take longer."""

BUG = "report this as a bug of doctor, with these words"


class Check(NamedTuple, Generic[T]):
    """Something to look at, and what can be judged once it has been seen.

    `look` returns what it saw, and the facts that the checks in `then` judge: without them these are skipped. Whatever
    returns None instead of something seen does not apply. A `look` that hangs is given up after `deadline` seconds.
    """

    name: str
    area: Area
    look: Callable[[], tuple[Seen | None, T | None]]
    then: Mapping[str, Callable[[T], Seen | None]] = {}
    deadline: float = DEADLINE


def simple(name: str, area: Area, look: Callable[[], Seen | None], *, deadline: float = DEADLINE) -> Check[Any]:
    """Return a check that nothing else depends on."""
    return Check(name, area, lambda: (look(), None), deadline=deadline)


def run_check(check: Check[Any], board: str | None = None) -> list[Finding]:
    """Run one check here and now, and those that depend on it."""
    facts: list[Any] = []

    def look() -> Seen | None:
        seen, found = check.look()
        facts[:] = [] if found is None else [found]
        return seen

    findings = _judge(check, check.name, look, board)
    for name, judge in check.then.items():

        def judge_facts(judge: Callable[[Any], Seen | None] = judge) -> Seen | None:
            return judge(facts[0]) if facts else _not_seen(check)

        findings += _judge(check, name, judge_facts, board)
    return findings


def run_checks(checks: Sequence[Check[Any]], board: str | None = None) -> list[Finding]:
    """Run the checks side by side and return their findings in the order of the checks."""
    begin = time.monotonic()
    answers: queue.SimpleQueue[tuple[int, list[Finding]]] = queue.SimpleQueue()
    for number, check in enumerate(checks):

        def work(number: int = number, check: Check[Any] = check) -> None:
            answers.put((number, run_check(check, board)))

        # The interpreter waits at its end for the threads of an executor: a check that hangs would hang the command.
        threading.Thread(target=work, name=f"doctor: {check.name}", daemon=True).start()
    findings: dict[int, list[Finding]] = {}
    while missing := [number for number in range(len(checks)) if number not in findings]:
        nearest = min(missing, key=lambda number: checks[number].deadline)
        patience = begin + checks[nearest].deadline - time.monotonic()
        try:
            number, answer = answers.get(timeout=max(0.0, patience))
            findings.setdefault(number, answer)
        except queue.Empty:
            findings[nearest] = _give_up(checks[nearest], board)
    return [finding for number in range(len(checks)) for finding in findings[number]]


def explain(error: Exception) -> Seen:
    """Return the failure that an exception stands for: one sentence, and its remedy if it has one."""
    if isinstance(error, RoboticksError):
        text = str(error).removesuffix(f"; {error.remedy}") if error.remedy else str(error)
        return failed(text, error.remedy or "mend what these words say")
    log.debug("a check of doctor broke", exc_info=error)
    return failed(f"{type(error).__name__}: {error}", BUG)


def _judge(check: Check[Any], name: str, look: Callable[[], Seen | None], board: str | None) -> list[Finding]:
    """Look, and return what was seen as a finding; none when the check does not apply."""
    begin = time.monotonic()
    area = check.area
    try:
        seen = look()
    except ConfigError as error:  # the profile is to be mended, whatever it was that showed it
        seen, area = explain(error), "machine"
    except Exception as error:
        seen = explain(error)
    return [] if seen is None else [_finding(name, area, seen, board=board, duration=time.monotonic() - begin)]


def _give_up(check: Check[Any], board: str | None) -> list[Finding]:
    seen = failed(f"no answer within {check.deadline:g} s", "find out what hangs there, then run doctor again")
    findings = [_finding(check.name, check.area, seen, board=board, duration=check.deadline)]
    return findings + [_finding(name, check.area, _not_seen(check), board=board) for name in check.then]


def _not_seen(check: Check[Any]) -> Seen:
    return skipped(f"nothing to judge it by, see {check.name!r}")


def _finding(name: str, area: Area, seen: Seen, *, board: str | None, duration: float = 0.0) -> Finding:
    return Finding(
        name=name,
        area=area,
        outcome=seen.outcome,
        detail=seen.detail,
        remedy=seen.remedy,
        board=board,
        duration=round(duration, 4),
    )
