"""The tests of a run as the page has them: those that failed in full, as far as there is room, the others in a row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from roboticks_tasks.reporting.page.attached import Attached, attached, linked
from roboticks_tasks.reporting.page.logs import LEAST, SLICE, Slice, Timeline, around
from roboticks_tasks.reporting.page.text import Budget, Cut, anchor_of, shorten, size
from roboticks_tasks.reporting.page.wording import seconds
from roboticks_tasks.reporting.values import Case, Finished, Line

FULL = 250
"""Failed tests that are shown with all there is of them."""

OPEN = 3
"""Failed tests whose traceback and log need no click."""

TEXTS, TEXT = 900_000, 24_000
"""Bytes of messages, tracebacks, output and attached texts in a page, and of one of them."""

IMAGES = 700_000
"""Bytes of images in a page."""

ROWS, ROW = 1_600_000, 170
"""Bytes of tests that are told in a row, and what one takes besides its name and words."""

FAILURE = 1_000
"""Bytes of a failed test in full besides its texts."""

NAME, WORDS = 240, 240
"""Characters of a test's name, and of the words beside it."""

RESULTS = "results.xml"


class Failure(NamedTuple):
    """A failed test in full."""

    case: Case
    anchor: str
    name: str
    place: str
    facts: str
    is_open: bool
    message: Cut = Cut("")
    detail: Cut = Cut("")
    output: Cut = Cut("")
    log: Slice | None = None
    attachments: Sequence[Attached] = ()
    unlisted: int = 0


class Row(NamedTuple):
    """A test in a row; `words` is the reason or the message."""

    anchor: str
    where: str
    name: str
    words: str
    duration: str
    attachments: list[Attached]


class Group(NamedTuple):
    """The rows of an outcome; `total` of its tests, of which `left_out` have no row."""

    outcome: str
    title: str
    total: int
    rows: list[Row]
    left_out: int


class Page(NamedTuple):
    """All tests: the failures in full, groups of rows, and how many there are of each outcome."""

    failures: list[Failure]
    groups: list[Group]
    counts: list[tuple[str, int]]
    total: int


def arrange(
    artifacts: Path, finished: Finished, timeline: Timeline | None, evidence: Sequence[Line] = (), *, log: Budget
) -> Page:
    """Return the tests in the order in which they are read: failed, flaky, skipped, passed."""
    of: dict[str, list[Case]] = {"failed": [], "flaky": [], "skipped": [], "passed": []}
    for case in finished.cases:
        of[_outcome(case)].append(case)
    anchors = _Anchors()
    texts, images = Budget(TEXTS), Budget(IMAGES)
    failed = of["failed"]
    failures: list[Failure] = []
    for number, case in enumerate(failed[:FULL]):
        head = _failure(case, anchors.next(case), is_open=number < OPEN)
        if not texts.spend(FAILURE + size(head.name) + size(head.place) + size(head.facts)):
            break
        failures.append(head)
    for number, head in enumerate(failures):
        left = len(failures) - number
        lines = around(head.case, timeline, evidence, log, most=log.share(left, most=SLICE, least=LEAST))
        failures[number] = _filled(
            head, artifacts, lines, texts, images, most=texts.share(3 * left, most=TEXT, least=0)
        )
    rows = Budget(ROWS)
    groups = [
        _group("failed", "Failed, in short", failed[len(failures) :], rows, anchors, artifacts),
        _group("flaky", "Flaky: passed, but not at once", of["flaky"], rows, anchors, artifacts),
        _group("skipped", "Skipped", of["skipped"], rows, anchors, artifacts),
        _group("passed", "Passed", of["passed"], rows, anchors, artifacts),
    ]
    counts = [(outcome, len(cases)) for outcome, cases in of.items() if cases]
    return Page(failures, [group for group in groups if group.total], counts, len(finished.cases))


class _Anchors:
    """Fragments that are each there once, also when a test is there twice."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def next(self, case: Case) -> str:
        anchor = anchor_of(case.nodeid)
        count = self._seen[anchor] = self._seen.get(anchor, 0) + 1
        return anchor if count == 1 else f"{anchor}-{count}"


def _outcome(case: Case) -> str:
    if case.outcome in {"failed", "error"}:
        return "failed"
    return "flaky" if case.outcome == "passed" and case.attempts > 1 else case.outcome


def _failure(case: Case, anchor: str, *, is_open: bool) -> Failure:
    """Return what is told of a failed test in any case."""
    facts = [seconds(case.duration)]
    if case.attempts > 1:
        facts.append(f"{case.attempts} attempts")
    if case.worker:
        facts.append(f"worker {shorten(case.worker, 40)}")
    told = [(name, value) for name, value in case.properties if value != case.nodeid]
    facts += [shorten(f"{name}: {value}", 100) for name, value in told[:8]]
    place = shorten(case.file or "", NAME) + (f":{case.line}" if case.file and case.line else "")
    return Failure(case, anchor, shorten(case.nodeid, NAME), place, " · ".join(facts), is_open)


def _filled(head: Failure, artifacts: Path, log: Slice | None, texts: Budget, images: Budget, *, most: int) -> Failure:
    """Return a failed test with as much of what is known of it as there is room for."""
    case = head.case
    files = attached(artifacts, case.attachments, images=images, texts=texts)
    # pytest says at the end of a traceback what went wrong, and a program at the end of its output.
    return head._replace(
        message=texts.take(case.message, most=min(most, 4000), keep="start"),
        detail=texts.take(case.detail, most=most, keep="ends"),
        output=texts.take(case.output, most=most, keep="end"),
        log=log,
        attachments=files,
        unlisted=len(case.attachments) - len(files),
    )


def _group(
    outcome: str, title: str, cases: Sequence[Case], budget: Budget, anchors: _Anchors, artifacts: Path
) -> Group:
    rows: list[Row] = []
    for case in cases:
        row = _row(case, anchors.next(case), artifacts)
        links = sum(120 + size(each.name) + len(each.href or "") for each in row.attachments)
        if not budget.spend(ROW + size(row.where) + size(row.name) + size(row.words) + links):
            break
        rows.append(row)
    return Group(outcome, title, len(cases), rows, len(cases) - len(rows))


def _row(case: Case, anchor: str, artifacts: Path) -> Row:
    where, _, name = shorten(case.nodeid, NAME).rpartition("::")
    attempts = [f"{case.attempts} attempts"] if case.attempts > 1 else []
    words = ": ".join([*attempts, *([shorten(case.message, WORDS)] if case.message else [])])
    files = linked(artifacts, case.attachments, most=3) if case.attachments else []
    return Row(anchor, where and f"{where}::", name, words, seconds(case.duration), files)
