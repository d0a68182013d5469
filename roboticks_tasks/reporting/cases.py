"""The tests of a run: outcomes as the JUnit file has them; times, places and attempts as the plugin noted them."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from roboticks_tasks.events import CaseFinished, CaseStarted, read_events
from roboticks_tasks.reporting.junit import MERGED, TESTS, is_stand_in
from roboticks_tasks.reporting.junit_cases import MOST_CASES, Reading, read_cases
from roboticks_tasks.reporting.values import Case

NOTES = "tests.jsonl"

MOST_BYTES = 256 * 1024 * 1024
"""Of the plugin's notes; a file that is larger is not of our plugin."""

UNENDED = "it began and did not end"


class Noted(NamedTuple):
    """A test as the plugin noted it: its last attempt, None when that has not ended, and how many there were."""

    nodeid: str
    last: CaseFinished | None
    attempts: int
    begin: float
    worker: str | None


def read_all(artifacts: Path) -> Reading:
    """Return the tests of the run in `artifacts` in the order they ran in, and why they are not all."""
    notes, trouble = _read_notes(artifacts / NOTES)
    path = next((artifacts / name for name in (TESTS, MERGED) if (artifacts / name).is_file()), artifacts / TESTS)
    reading = None if is_stand_in(path) else read_cases(path)
    told = reading if reading is not None else Reading([])
    cases = _joined(told.cases, notes, whole=reading is not None and told.problem is None)
    problems = filter(None, (told.problem, trouble))
    return Reading(_in_order(cases)[:MOST_CASES], "; ".join(problems) or None)


def _read_notes(path: Path) -> tuple[list[Noted], str | None]:
    try:
        if path.stat().st_size > MOST_BYTES:
            return [], f"{path.name} has more than {MOST_BYTES} bytes and is not read"
    except OSError:
        return [], None
    begun: dict[str, CaseStarted] = {}
    ended: dict[str, list[CaseFinished]] = defaultdict(list)
    starts: dict[str, int] = defaultdict(int)
    for event in read_events(path):
        if isinstance(event, CaseStarted):
            begun[event.nodeid] = event
            starts[event.nodeid] += 1
        elif isinstance(event, CaseFinished):
            begun.setdefault(event.nodeid, CaseStarted(nodeid=event.nodeid, at=event.begin, worker=event.worker))
            ended[event.nodeid].append(event)
    return [_noted(start, ended[nodeid], starts[nodeid]) for nodeid, start in begun.items()], None


def _noted(start: CaseStarted, ended: list[CaseFinished], starts: int) -> Noted:
    last = ended[-1] if ended and ended[-1].outcome != "rerun" and len(ended) >= starts else None
    begin = start.at if last is None else last.begin
    attempts = max(1, len(ended) + (last is None))
    return Noted(start.nodeid, last, attempts, begin, start.worker if last is None else last.worker)


def _joined(cases: list[Case], notes: Iterable[Noted], *, whole: bool) -> list[Case]:
    """Return the file's cases with what was noted of each, and, unless the file is whole, those it does not have."""
    by_nodeid = {noted.nodeid: noted for noted in notes}
    by_names: dict[tuple[str, str], deque[Noted]] = defaultdict(deque)
    for noted in by_nodeid.values():
        if noted.last is not None:
            by_names[noted.last.classname, noted.last.name].extend([noted] * noted.attempts)
    joined: list[Case] = []
    seen: dict[str, int] = {}  # the number in `joined`
    for case in cases:
        same = by_names.get((case.classname, case.name))
        noted_here = by_nodeid.get(case.nodeid) or (same.popleft() if same else None)
        if noted_here is None or (noted_here.nodeid in seen and noted_here.attempts == 1):
            joined.append(case)
        elif noted_here.nodeid in seen:  # pytest's file has a case for each attempt: the last one counts
            joined[seen[noted_here.nodeid]] = _with_notes(case, noted_here)
        else:
            seen[noted_here.nodeid] = len(joined)
            joined.append(_with_notes(case, noted_here))
    if not whole:
        joined += [_from_notes(noted) for noted in by_nodeid.values() if noted.nodeid not in seen]
    return joined


def _with_notes(case: Case, noted: Noted) -> Case:
    last = noted.last
    if last is None:
        return msgspec.structs.replace(case, nodeid=noted.nodeid, attempts=noted.attempts, begin=noted.begin)
    return msgspec.structs.replace(
        case,
        nodeid=noted.nodeid,
        duration=last.duration,
        message=case.message or last.message or "",
        file=last.file or case.file,
        line=last.line if last.file else case.line,
        begin=last.begin,
        end=last.begin + last.duration,
        worker=last.worker,
        attempts=noted.attempts,
        attachments=last.attachments,
    )


def _from_notes(noted: Noted) -> Case:
    last = noted.last
    if last is None or last.outcome == "rerun":
        name = noted.nodeid.rpartition("::")[2] or noted.nodeid
        case = Case(nodeid=noted.nodeid, classname="", name=name, outcome="error", duration=0.0, message=UNENDED)
        return msgspec.structs.replace(case, begin=noted.begin, worker=noted.worker, attempts=noted.attempts)
    case = Case(
        nodeid=noted.nodeid, classname=last.classname, name=last.name, outcome=last.outcome, duration=last.duration
    )
    return _with_notes(case, noted)


def _in_order(cases: list[Case]) -> list[Case]:
    """Return the cases by the time they began; one of which nobody knows stays behind the one before it."""
    keys, latest = [], float("-inf")
    for case in cases:
        latest = latest if case.begin is None else case.begin
        keys.append(latest)
    order = sorted(range(len(cases)), key=keys.__getitem__)
    return [cases[number] for number in order]
