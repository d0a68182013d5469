"""Tests that failed: whether the change did it, the tests themselves, or a bench that broke under them."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache

from roboticks_tasks.events import StepFinished
from roboticks_tasks.reporting.junit_cases import UNCOLLECTED
from roboticks_tasks.reporting.reasons import added, broken, broken_off, command, failing_step, reason, remedy
from roboticks_tasks.reporting.signs import (
    NEAR,
    Timeline,
    alike,
    bench_error,
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

AT_ONCE = 0.05
"""Seconds between two things that happened together."""


def diagnose_tests(finished: Finished, timeline: Timeline | None, flaky: Callable[[str], str | None]) -> Diagnosis:
    """Return who is to blame for a run with the verdict `failed`."""
    cases = broken(finished)
    flaky = cache(flaky)
    step = failing_step(finished)
    if step is not None:
        return _hung(finished, timeline) if step.name == "pytest_session" else _does_not_run(finished, timeline)
    if not cases:
        return Diagnosis(
            cause="change",
            sentence=f"The change failed its tests: {reason(finished)}",
            advice="see the end of pytest.log",
        )
    return (
        _uncollected(cases)
        or _lost_connection(finished, timeline, cases)
        or _broken_bench(finished, timeline, cases)
        or _restarted(finished, timeline, cases)
        or _same_fixture(finished, cases)
        or _flaky(finished, cases, flaky)
        or _change(finished, timeline, cases, flaky)
    )


def _hung(finished: Finished, timeline: Timeline | None) -> Diagnosis:
    """Return the diagnosis of tests that came to no end in their time."""
    hung = broken_off(finished)
    if hung is None:
        sentence = f"The change or its tests are too slow, or hang: {reason(finished)}"
        return Diagnosis(cause="change", sentence=sentence, advice=remedy(finished))
    lines = _slice(timeline, hung)
    word = worst_word(lines, at=lines[-1].at) if lines else None
    return Diagnosis(
        cause="change",
        sentence=f"The change or its test hung in {harmless(hung.nodeid)}, which began {_clock(hung.begin)}: "
        f"{reason(finished)}{_said(word)}",
        advice=_again(finished, hung),
        evidence=_evidence(word),
    )


def _does_not_run(finished: Finished, timeline: Timeline | None) -> Diagnosis:
    tail = timeline.tail("device", LINES) if timeline is not None else ()
    word = worst_word(tail, at=tail[-1].at) if tail else None
    why = reason(finished).removeprefix("deploy failed: ")
    return Diagnosis(
        cause="change",
        sentence=f"The change does not run: {why}{added(word, why)}",
        advice=remedy(finished) or "see device-manager.log",
        evidence=_evidence(word),
    )


def _uncollected(cases: Sequence[Case]) -> Diagnosis | None:
    """Return the diagnosis of test files that cannot be imported: pytest runs no test then."""
    found = [case for case in cases if case.message.startswith(UNCOLLECTED)]
    if not found:
        return None
    more = f", nor can {len(found) - 1} more" if len(found) > 1 else ""
    why = _words(found[0]).removeprefix(f"{UNCOLLECTED}: ")
    return Diagnosis(
        cause="change",
        sentence=f"The change or its tests: {harmless(found[0].nodeid)} cannot be imported{more}: {why!r}",
        advice="`pytest --collect-only` says it again, without a board",
    )


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
    what = f"from {_clock(gone[0].begin) or 'one moment on'} on {_all_of(gone, rest)} failed alike: {_words(gone[0])!r}"
    return _bench(finished, what.replace("from at ", "from "), _word(timeline, gone[0]))


def _broken_bench(finished: Finished, timeline: Timeline | None, cases: Sequence[Case]) -> Diagnosis | None:
    """Return the bench's diagnosis when it is our own fixtures that failed, and nothing else did."""
    found = [bench_error(case) for case in cases]
    first = found[0]
    if first is None or None in found:
        return None
    more = f", and so were {len(cases) - 1} more" if len(cases) > 1 else ""
    what = f"{harmless(cases[0].nodeid)} was not tested{more}: {harmless(first, 300)}"
    return _bench(finished, what, _word(timeline, cases[0]))


def _restarted(finished: Finished, timeline: Timeline | None, cases: Sequence[Case]) -> Diagnosis | None:
    first = cases[0]
    if timeline is None or first.begin is None or first.end is None:
        return None
    end = min(first.end + NEAR, _end_of_tests(finished))  # teardown may switch the power
    lines = timeline.span(first.begin - NEAR, end, most=10 * LINES)
    line = restart(lines)
    if line is None or worst_word((each for each in lines if each.at < line.at), at=line.at) is not None:
        return None  # a board that crashed first was made to
    also = f"{len(cases)} tests failed from then on, first " if len(cases) > 1 else ""
    what = f"the board started anew {_clock(line.at)}, and {also}{harmless(first.nodeid)}"
    return _bench(finished, what if also else f"{what} failed then", line)


def _same_fixture(finished: Finished, cases: Sequence[Case]) -> Diagnosis | None:
    ran = [case for case in finished.cases if case.outcome != "skipped"]
    messages = {alike(case.message) for case in cases}
    if len(cases) < 2 or len(ran) != len(cases) or len(messages) != 1 or any(case.outcome != "error" for case in cases):
        return None
    place = f" ({harmless(cases[0].file)}:{cases[0].line})" if cases[0].file and cases[0].line else ""
    return Diagnosis(
        cause="test",
        sentence=f"The tests' own set-up, not the change: all {len(cases)} tests ended in the same error{place}: "
        f"{_words(cases[0])!r}",
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
    what = f"{harmless(first.nodeid)} failed{tries}{_place(first)}: {_words(first)!r}"
    if len(cases) > 1:
        reasons = len({alike(_words(case)) for case in cases})
        how = "alike" if reasons == 1 else f"for {reasons} reasons"
        what = f"{len(cases)} of {count(total, 'test')} failed {how}, first {what.replace(' failed', '', 1)}"
    aside = f"; {len(known)} of them {'is' if len(known) == 1 else 'are'} known to be flaky" if known else ""
    return Diagnosis(
        cause="change",
        sentence=f"The change is to blame: {what}{_said(word, first)}{aside}",
        advice=_again(finished, first),
        evidence=_evidence(word),
    )


def _bench(finished: Finished, what: str, word: Line | None) -> Diagnosis:
    board = f" ({harmless(finished.result.board_id, 80)})" if finished.result.board_id else ""
    return Diagnosis(
        cause="bench",
        sentence=f"The bench{board} is to blame, not the change: {what}",
        advice=f"`{command(finished, 'doctor')}`, then run the tests again",
        evidence=_evidence(word),
    )


def _end_of_tests(finished: Finished) -> float:
    ends = [event.at for event in finished.events if isinstance(event, StepFinished) and event.name == "pytest_session"]
    return ends[-1] if ends else float("inf")


def _slice(timeline: Timeline | None, case: Case) -> Sequence[Line]:
    return timeline.slice_of(case.nodeid, most=LINES) if timeline is not None else ()


def _word(timeline: Timeline | None, case: Case) -> Line | None:
    at = case.begin if case.end is None else case.end
    return None if at is None else worst_word(_slice(timeline, case), at=at)


def _said(word: Line | None, case: Case | None = None) -> str:
    if word is None:
        return ""
    if case is None or case.end is None:
        return f"; {quote(word)}"
    seconds = case.end - word.at
    if abs(seconds) < AT_ONCE:
        return f"; {quote(word)} as it failed"
    return f"; {quote(word)} {abs(seconds):.1f} s {'before' if seconds >= 0 else 'after'} it failed"


def _evidence(*words: Line | None) -> tuple[Line, ...]:
    return tuple(word for word in words[:EVIDENCE] if word is not None)


def _again(finished: Finished, case: Case) -> str:
    run = f"{command(finished, 'hil-test')} --keep-on-failure"
    file = case.nodeid.partition("::")[0]
    if case.nodeid.isprintable() and len(case.nodeid) < 300 and file.endswith(".py"):
        return f"`{run} -- -k {shlex.quote(case.name.partition('[')[0])}`"
    return f"`{run}` leaves the board as it is, for a look"


def _place(case: Case) -> str:
    """Return where a test failed, short where that is in its own file."""
    if not case.file or not case.line:
        return ""
    own = case.file == case.nodeid.partition("::")[0]
    return f" (line {case.line})" if own else f" ({harmless(case.file)}:{case.line})"


def _words(case: Case) -> str:
    """Return what a test said of its failure: the first line of it, which the others explain."""
    lines = [line for line in case.message.splitlines() if line.strip()]
    return harmless(" ".join(lines[: 2 if lines and lines[0].rstrip().endswith(":") else 1]))


def _all_of(some: Sequence[Case], every: Sequence[Case]) -> str:
    return f"all {len(every)} tests" if len(some) == len(every) else f"{len(some)} of {len(every)} tests"


def _clock(at: float | None) -> str:
    """Return a time of day, in UTC as CI systems have it; nothing where it is not known."""
    if at is None or not 0 <= at < 2**40:
        return ""
    return time.strftime("at %H:%M:%S UTC", time.gmtime(at))
