"""A diagnosis for people, and for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

import msgspec

from roboticks_tasks.doctor.findings import Diagnosis, Finding

MARKS = {"ok": "+ ok", "warning": "! warning", "failed": "x FAILED", "skipped": "- skipped"}
COLOURS = {"ok": "32", "warning": "33", "failed": "31;1", "skipped": "2"}
TITLES = {"machine": "this machine and the profile", "platform": "the platform"}
LEAST_WIDTH = 40
"""Columns; on a narrower terminal lines are broken as if it had so many."""


def table(diagnosis: Diagnosis, *, width: int = 120, colour: bool = False) -> str:
    """Return the findings as an aligned table, each remedy below what it is for; `width` in columns."""
    margin = max((len(finding.name) for finding in diagnosis.findings if finding.outcome != "skipped"), default=0)
    lines: list[str] = []
    for title, findings in _sections(diagnosis):
        lines.append(f"{title}:")
        for finding in _merged(findings):
            lines += _lines(finding, margin, max(LEAST_WIDTH, width), colour=colour)
        lines.append("")
    counts = ", ".join(f"{count} {outcome}" for outcome, count in diagnosis.summary.items() if count)
    lines.append(f"profile {diagnosis.profile}: {counts or 'nothing to look at'}, in {diagnosis.duration:.2f} s")
    return "\n".join(lines)


def document(diagnosis: Diagnosis) -> str:
    """Return the diagnosis as JSON: profile, boards, exit_code, summary, duration, findings (as `Finding`)."""
    content = {
        "profile": diagnosis.profile,
        "boards": diagnosis.boards,
        "exit_code": diagnosis.exit_code,
        "summary": diagnosis.summary,
        "duration": diagnosis.duration,
        "findings": diagnosis.findings,
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=2).decode()


def _sections(diagnosis: Diagnosis) -> Iterator[tuple[str, Sequence[Finding]]]:
    shared = [finding for finding in diagnosis.findings if finding.board is None]
    for area, title in TITLES.items():
        if chosen := [finding for finding in shared if finding.area == area]:
            yield title, chosen
    for board in diagnosis.boards:
        yield f"board {board}", [finding for finding in diagnosis.findings if finding.board == board]


def _merged(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Yield the findings, those that were skipped for the same reason as one, in the place of the first."""
    reasons: dict[str, list[str]] = {}
    for finding in findings:
        if finding.outcome == "skipped":
            reasons.setdefault(finding.detail, []).append(finding.name)
    for finding in findings:
        if finding.outcome != "skipped":
            yield finding
        elif names := reasons.pop(finding.detail, None):
            detail = f"{', '.join(names)}: {finding.detail}"
            yield msgspec.structs.replace(finding, name="", detail=detail)


def _lines(finding: Finding, margin: int, width: int, *, colour: bool) -> Iterator[str]:
    mark = f"{MARKS[finding.outcome]:9}"
    if colour:
        mark = f"\x1b[{COLOURS[finding.outcome]}m{mark}\x1b[0m"
    indent = " " * (2 + 9 + 2 + margin + 2)
    space = max(width - len(indent), LEAST_WIDTH // 2)
    first, *rest = textwrap.wrap(_printable(finding.detail), space) or [""]
    yield f"  {mark}  {finding.name:{margin}}  {first}".rstrip()
    yield from (f"{indent}{line}" for line in rest)
    for number, line in enumerate(textwrap.wrap(_printable(finding.remedy), space - 3)):
        yield f"{indent}{'-> ' if number == 0 else '   '}{line}"


def _printable(text: str) -> str:
    """Return the text without what a terminal would obey: a board may have said it."""
    return "".join(letter if letter.isprintable() else " " if letter.isspace() else "?" for letter in text)
