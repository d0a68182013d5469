"""The history as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from roboticks_tasks.history.values import FlakyLine, Report, RunLine, StepLine
from roboticks_tasks.reporting.words import count, harmless

WAITS = ("await_dsn", "await_session")
"""Steps whose time is the device's and the platform's own."""

TREND = 0.01
"""Probability below which a trend is more than chance."""

EMPTY = "no run is in the history yet: each run of `roboticks-tasks hil-test` adds one, `--import` adds JUnit files"


def describe(report: Report, *, width: int = 120) -> str:
    """Return all of it, tables aligned and sentences in lines of `width`; an empty history is a sentence."""
    if not report.runs:
        return EMPTY
    verdicts = ", ".join(f"{number} {verdict}" for verdict, number in report.verdicts.items())
    parts = [
        [f"{count(report.runs, 'run')} in {report.history}: {verdicts}"],
        table(("began (UTC)", "verdict", "board", "commit", "time", "reason"), map(_run, report.latest)),
        table(
            ("step, slowest first", "runs", "median", "p95", "trend against the earlier half"),
            (
                (step.name, str(step.runs), f"{step.median:.2f} s", f"{step.p95:.2f} s", trend(step))
                for step in report.steps
            ),
        ),
        ["flaky tests", *_bulleted(flaky_tests(report) or ["none"], width)],
        ["flaky boards", *_bulleted(flaky_boards(report) or ["none"], width)],
        *([title, *_bulleted(lines, width)] for title, lines in others(report) if lines),
        [wrapped(report.method, width=width)],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def wrapped(text: str, *, width: int, indent: str = "") -> str:
    """Return prose in lines of at most `width` characters, but for words that are longer themselves."""
    return textwrap.fill(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the rows below each other, numbers to the right, nothing without rows."""
    body = [tuple(row) for row in rows]
    if not body:
        return []
    widths = [max(len(row[index]) for row in (head, *body)) for index in range(len(head))]
    right = [all(row[index][:1].isdigit() for row in body) for index in range(len(head))]

    def line(row: Sequence[str]) -> str:
        words = (
            word.rjust(width) if to_right else word.ljust(width)
            for word, width, to_right in zip(row, widths, right, strict=True)
        )
        return "  ".join(words).rstrip()

    return [line(head), *map(line, body)]


def trend(step: StepLine) -> str:
    """Say how a step's median has changed."""
    if step.p is None or step.earlier_median is None or step.later_median is None:
        return "too few runs"
    if step.p >= TREND:
        return f"steady ({chance(step.p)})"
    share = "" if step.change is None else f"{step.change:+.0%}, "
    return f"{share}{step.earlier_median:.2f} to {step.later_median:.2f} s ({chance(step.p)})"


def chance(p: float) -> str:
    """Return a probability as people read it."""
    if p < 1e-12:
        return "p < 1e-12"
    return f"p = {p:.2f}" if p >= 0.01 else f"p = {p:.1g}"


def percent(share: float) -> str:
    """Return a share as people read it."""
    return f"{100 * share:.1f} %" if share >= 0.001 or not share else f"{100 * share:.1g} %"


def flaky_tests(report: Report) -> list[str]:
    """Return a sentence for each test that is named."""
    return [
        f"{harmless(each.name)}: {_rate(each)}, the other tests in {_share(each.others_hits, each.others_runs)}"
        for each in report.tests
        if each.is_flaky
    ]


def flaky_boards(report: Report) -> list[str]:
    """Return a sentence for each board that is named, for its tests or its bench errors."""
    lines = [
        f"{harmless(each.name)}: {_rate(each)}, the other boards, at the same commits, in "
        f"{_share(each.others_hits, each.others_runs)}"
        + (
            f"; nearly all of it in {harmless(each.mainly)}: look at what that test needs of the board"
            if each.mainly
            else ""
        )
        for each in report.boards
        if each.is_flaky
    ]
    errors = [
        f"{harmless(each.name)}: bench errors; {_rate(each, 'ended so')}, the other boards, at the same commits, in "
        f"{_share(each.others_hits, each.others_runs)}"
        for each in report.bench_errors
        if each.is_flaky
    ]
    return lines + errors


def others(report: Report) -> list[tuple[str, list[str]]]:
    """Return the other findings, each kind with its title."""
    specific = [
        f"{harmless(each.test)} on {harmless(each.board)}: failed in {_of(each.failed, each.runs)} of "
        f"{count(each.commits, 'commit')}, on the other boards in {_of(each.others_failed, each.others_runs)}"
        for each in report.board_specific
    ]
    broken = [
        f"{harmless(each.test)}: failed in {_of(each.failed, each.runs)} of {harmless(each.commit[:12])}, the latest "
        "it ran in"
        for each in report.broken
    ]
    suspects = [f"{harmless(each.name)}: {_rate(each)}" for each in report.tests if not each.is_flaky]
    return [
        ("fail on one board alone: neither is flaky, look at what these tests need of that board", specific),
        ("broken: fail always, or nearly so; the change is to blame", broken),
        ("disagreed as well, but no more than chance explains", suspects),
    ]


def _run(run: RunLine) -> tuple[str, ...]:
    commit = f"{(run.commit or '')[:12]}{'+' if run.is_dirty else ''}"
    words = (
        run.began[:19].replace("T", " "),
        run.verdict,
        run.board or "",
        commit,
        f"{run.duration:.1f} s",
        run.reason,
    )
    return tuple(harmless(word, 60) for word in words)


def _rate(each: FlakyLine, verb: str = "disagreed") -> str:
    interval = f"{percent(each.low)} to {percent(each.high)}"
    return f"{verb} in {_share(each.hits, each.runs)} (95 %: {interval}, {chance(each.p)})"


def _of(failed: int, runs: int) -> str:
    runs_said = f"{runs:,} run{'' if runs == 1 else 's'}"
    return f"all {runs_said}" if failed == runs > 1 else f"{failed:,} of {runs_said}"


def _share(hits: int, runs: int) -> str:
    return _of(hits, runs) + (f", {percent(hits / runs)}" if runs else "")


def _bulleted(lines: list[str], width: int) -> list[str]:
    return [wrapped(f"  {line}", width=width, indent="    ") for line in lines]
