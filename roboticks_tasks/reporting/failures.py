"""Tests that failed: whether the change did it, the tests themselves, or a bench that broke under them."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache

from roboticks_tasks.reporting.signs import (
    NEAR,
    Timeline,
    alike,
    console_loss,
    is_connection_error,
    quote,
    restart,
    worst_word,
)
from roboticks_tasks.reporting.values import Case, Diagnosis, Finished, Line
from roboticks_tasks.reporting.words import count, harmless

MANY = 3
"""Tests that fail alike before it is not theirs."""

SHARE = 0.8
"""Of the tests that came after the first failure, how many fail when the bench is gone."""

LINES = 200
"""Lines around a test in which its explanation is looked for."""

EVIDENCE = 5

MOST_ASKED = 100
"""Tests of which the history is asked: where more have failed they are not flaky."""


def broken(finished: Finished) -> list[Case]:
    """Return the tests that did not pass and were to."""
    return [case for case in finished.cases if case.outcome in {"failed", "error"}]


def diagnose_tests(finished: Finished, timeline: Timeline | None, flaky: Callable[[str], str | None]) -> Diagnosis:
    """Return who is to blame for a run with the verdict `failed`."""
    cases = broken(finished)
    flaky = cache(flaky)
    step = next((each for each in finished.result.steps if each.outcome != "ok" and each.name != "teardown"), None)
    if step is not None:
        return _step(finished, timeline, step.name)
    if not cases:
        reason = harmless(finished.result.reason, 600)
        return Diagnosis(
            cause="change", sentence=f"The change failed its tests: {reason}", advice="see the end of pytest.log"
        )
    return (
        _lost_console(finished, timeline, cases)
        or _lost_connection(finished, timeline, cases)
        or _restarted(finished, timeline, cases)
        or _same_fixture(finished, cases)
        or _flaky(finished, cases, flaky)
        or _change(finished, timeline, cases, flaky)
    )


def _step(finished: Finished, timeline: Timeline | None, name: str) -> Diagnosis:
    reason = harmless(finished.result.reason, 600)
    hung = next((case for case in reversed(finished.cases) if case.begin is not None and case.end is None), None)
    if hung is not None:
        word = _word(timeline, hung)
        sentence = f"The change or its test hung in {harmless(hung.nodeid)} {_clock(hung.begin)}{_said(word)}: {reason}"
        return Diagnosis(cause="change", sentence=sentence, advice=_again(finished, hung), evidence=_evidence(word))
    tail = timeline.tail("device", LINES) if timeline is not None else ()
    word = worst_word(tail, at=tail[-1].at) if tail else None
    return Diagnosis(
        cause="change",
        sentence=f"The change does not run: {name} failed: {reason}{_said(word)}",
        advice="see device-manager.log",
        evidence=_evidence(word),
    )


def _lost_console(finished: Finished, timeline: Timeline | None, cases: Sequence[Case]) -> Diagnosis | None:
    lines = _around(timeline, cases)
    note = console_loss(lines)
    if note is None:
        return None
    after = [case for case in cases if case.end is None or case.end >= note.at - NEAR]
    if len(after) < len(cases):  # what had failed before is not the console's
        return None
    what = f"its console was lost {_clock(note.at)} ({harmless(note.text.removeprefix('--- '))})"
    return _bench(finished, f"{what}, and {_name(after)} failed then", note)


def _lost_connection(finished: Finished, timeline: Timeline | None, cases: Sequence[Case]) -> Diagnosis | None:
    """Return the bench's diagnosis when from one moment on nearly all tests fail with the same connection error."""
    ran = [case for case in finished.cases if case.outcome != "skipped"]
    first = next(number for number, case in enumerate(ran) if case.outcome != "passed")
    rest = ran[first:]
    same = Counter(alike(case.message) for case in cases if is_connection_error(case))
    [(_, most)] = same.most_common(1) or [("", 0)]
    gone = [case for case in rest if case.outcome != "passed" and is_connection_error(case)]
    if most < MANY or len(gone) < SHARE * len(rest) or len(gone) < len(cases):
        return None
    what = (
        f"from {_clock(gone[0].begin) or 'one moment on'} on {_all_of(gone, rest)} failed alike: "
        f"{harmless(gone[0].message)!r}"
    )
    return _bench(finished, what.replace("from at ", "from "), _word(timeline, gone[0]))


def _restarted(finished: Finished, timeline: Timeline | None, cases: Sequence[Case]) -> Diagnosis | None:
    lines = _around(timeline, cases[:1])
    line = restart(lines)
    if line is None or worst_word(each for each in lines if each.at < line.at) is not None:
        return None  # a board that crashed first was made to
    return _bench(
        finished, f"the board started anew {_clock(line.at)}, and {harmless(cases[0].nodeid)} failed then", line
    )


def _same_fixture(finished: Finished, cases: Sequence[Case]) -> Diagnosis | None:
    ran = [case for case in finished.cases if case.outcome != "skipped"]
    messages = {alike(case.message) for case in cases}
    if len(cases) < 2 or len(ran) != len(cases) or len(messages) != 1 or any(case.outcome != "error" for case in cases):
        return None
    place = f" ({harmless(cases[0].file)}:{cases[0].line})" if cases[0].file and cases[0].line else ""
    return Diagnosis(
        cause="test",
        sentence=f"The tests' own set-up, not the change: all {len(cases)} tests ended in the same error{place}: "
        f"{harmless(cases[0].message)!r}",
        advice="mend the fixture that they share",
    )


def _flaky(finished: Finished, cases: Sequence[Case], flaky: Callable[[str], str | None]) -> Diagnosis | None:
    word = flaky(cases[0].nodeid) if len(cases) <= MOST_ASKED else None
    if not word or not all(flaky(case.nodeid) for case in cases):
        return None
    more = f", and so are the {len(cases) - 1} others that failed" if len(cases) > 1 else ""
    name = harmless(cases[0].nodeid)
    return Diagnosis(
        cause="test",
        sentence=f"The test {name} is flaky, it is not the change: it {harmless(word, 200)}{more}",
        advice="mend the test; `roboticks-tasks history` says when it fails",
    )


def _change(
    finished: Finished, timeline: Timeline | None, cases: Sequence[Case], flaky: Callable[[str], str | None]
) -> Diagnosis:
    known = [case for case in cases[:MOST_ASKED] if flaky(case.nodeid)]
    blamed = [case for case in cases if case not in known] or list(cases)
    first = blamed[0]
    word = _word(timeline, first)
    total = sum(case.outcome != "skipped" for case in finished.cases)
    tries = f" in each of its {first.attempts} attempts" if first.attempts > 1 else ""
    place = f" ({harmless(first.file)}:{first.line})" if first.file and first.line else ""
    what = f"{harmless(first.nodeid)} failed{tries}{place}: {harmless(first.message)!r}"
    if len(cases) > 1:
        what = f"{len(cases)} of {count(total, 'test')} failed, first {what}"
    aside = f"; {count(len(known), 'test')} among them are known to be flaky" if known else ""
    return Diagnosis(
        cause="change",
        sentence=f"The change is to blame: {what}{_said(word, first)}{aside}",
        advice=_again(finished, first),
        evidence=_evidence(word),
    )


def _bench(finished: Finished, what: str, word: Line | None) -> Diagnosis:
    board = f" ({harmless(finished.result.board_id, 80)})" if finished.result.board_id else ""
    profile = shlex.quote(harmless(finished.result.profile, 200))
    return Diagnosis(
        cause="bench",
        sentence=f"The bench{board} is to blame, not the change: {what}",
        advice=f"`roboticks-tasks doctor --profile {profile}`, then run the tests again",
        evidence=_evidence(word),
    )


def _around(timeline: Timeline | None, cases: Sequence[Case]) -> list[Line]:
    """Return what was said around the tests that failed."""
    begins = [case.begin for case in cases if case.begin is not None]
    ends = [case.end for case in cases if case.end is not None]
    if timeline is None or not begins or not ends:
        return []
    return list(timeline.span(min(begins) - NEAR, max(ends) + NEAR, most=10 * LINES))


def _word(timeline: Timeline | None, case: Case) -> Line | None:
    if timeline is None:
        return None
    return worst_word(timeline.slice_of(case.nodeid, most=LINES), at=case.end or case.begin)


def _said(word: Line | None, case: Case | None = None) -> str:
    if word is None:
        return ""
    seconds = None if case is None or case.end is None else case.end - word.at
    when = "" if seconds is None else f" {abs(seconds):.1f} s {'before' if seconds >= 0 else 'after'} it failed"
    return f"; {quote(word)}{when}"


def _evidence(*words: Line | None) -> tuple[Line, ...]:
    return tuple(word for word in words[:EVIDENCE] if word is not None)


def _again(finished: Finished, case: Case) -> str:
    profile = shlex.quote(harmless(finished.result.profile, 200))
    file = case.nodeid.partition("::")[0]
    if case.nodeid.isprintable() and len(case.nodeid) < 300 and file.endswith(".py"):
        name = shlex.quote(case.name.partition("[")[0])
        return f"`roboticks-tasks hil-test --profile {profile} --keep-on-failure -- -k {name}`"
    return f"`roboticks-tasks hil-test --profile {profile} --keep-on-failure` leaves the board as it is, for a look"


def _name(cases: Sequence[Case]) -> str:
    return harmless(cases[0].nodeid) if len(cases) == 1 else count(len(cases), "test")


def _all_of(some: Sequence[Case], every: Sequence[Case]) -> str:
    return f"all {len(every)} tests" if len(some) == len(every) else f"{len(some)} of {len(every)} tests"


def _clock(at: float | None) -> str:
    """Return a time of day, in UTC as CI systems have it; nothing where it is not known."""
    if at is None or not 0 <= at < 2**40:
        return ""
    return time.strftime("at %H:%M:%S UTC", time.gmtime(at))
