"""A run as Markdown, for a CI system's page: the diagnosis, the tests that failed, the times."""

from __future__ import annotations

import re
from collections.abc import Iterator

from roboticks_tasks.reporting.reasons import broken
from roboticks_tasks.reporting.values import Diagnosis, Finished
from roboticks_tasks.reporting.words import harmless

SPECIAL = {letter: f"&#{ord(letter)};" for letter in "\\`*_[]<>|#@:~&!$\"'"}
"""What Markdown, HTML or GitHub would obey, as what every one of them only shows."""

COMMAND = re.compile(r"&#96;(.*?)&#96;")
"""What stands between two backticks, once they are escaped."""

ROWS = 200
"""Rows of a table that people read."""

SIGNS = {
    "none": "✅",
    "change": "❌",
    "test": "⚠️",
    "bench": "🔌",
    "platform": "🔌",
    "profile": "🔧",
    "cancelled": "🚫",
    "bug": "🐞",
}


def markdown(finished: Finished, diagnosis: Diagnosis) -> str:
    """Return the whole text; nothing that a test or a device has said can become markup in it."""
    return "\n".join(_lines(finished, diagnosis)) + "\n"


def escaped(text: str, most: int = 300) -> str:
    """Return `text` as one cell: a line, cut, without markup."""
    return "".join(SPECIAL.get(letter, letter) for letter in harmless(text, most))


def _lines(finished: Finished, diagnosis: Diagnosis) -> Iterator[str]:
    result = finished.result
    yield f"### {SIGNS.get(diagnosis.cause, '❔')} {escaped(result.profile)}: {escaped(result.verdict)}"
    yield ""
    yield f"**{escaped(diagnosis.sentence, 2_000)}**"
    if diagnosis.advice:
        yield ""
        yield COMMAND.sub(r"<code>\1</code>", f"Next: {escaped(diagnosis.advice, 1_000)}")
    for line in diagnosis.evidence:
        yield ""
        yield f"> {escaped(line.source)}: {escaped(line.text, 1_000)}"
    yield ""
    yield from _tests(finished)
    yield from _steps(finished)
    for problem in finished.problems:
        yield f"- {escaped(problem, 1_000)}"


def _tests(finished: Finished) -> Iterator[str]:
    failing = broken(finished)
    shaky = [case for case in finished.cases if case.attempts > 1 and case.outcome == "passed"]
    if not failing and not shaky:
        return
    yield "| test | outcome | time | message |"
    yield "|---|---|--:|---|"
    for case in (*failing, *shaky)[:ROWS]:
        outcome = case.outcome if case.attempts == 1 else f"{case.outcome} at attempt {case.attempts}"
        yield f"| {escaped(case.nodeid)} | {outcome} | {case.duration:.2f} s | {escaped(case.message)} |"
    rest = len(failing) + len(shaky) - ROWS
    if rest > 0:
        yield f"| and {rest} more | | | |"
    yield ""


def _steps(finished: Finished) -> Iterator[str]:
    steps = finished.result.steps
    if not steps:
        return
    yield "<details><summary>Lifecycle</summary>"
    yield ""
    yield "| step | outcome | time | |"
    yield "|---|---|--:|---|"
    for step in steps[:ROWS]:
        yield f"| {escaped(step.name)} | {step.outcome} | {step.duration:.2f} s | {escaped(step.error or '')} |"
    yield ""
    yield "</details>"
    yield ""
