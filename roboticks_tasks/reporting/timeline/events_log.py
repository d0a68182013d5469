"""What the run itself has noted: its steps, the boundaries of its tests, and what the tests did on the target."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

import msgspec

from roboticks_tasks.events import (
    AnyEvent,
    CaseFinished,
    CaseStarted,
    Commanded,
    RunFinished,
    RunStarted,
    StepFinished,
    StepStarted,
)
from roboticks_tasks.reporting.timeline.board_log import Entry
from roboticks_tasks.reporting.timeline.lines import Part, as_line
from roboticks_tasks.reporting.timeline.segments import BACKWARD, Anchor, Run
from roboticks_tasks.reporting.values import Case, Level
from roboticks_tasks.state import RunState

T = TypeVar("T")

LONGEST = 4 << 20
"""Bytes of a line of JSON; what is longer was written by nobody of ours."""

WINDOW = 1_000
"""Commands that are sorted by their begin; they are noted at their end."""

LAST_WORDS = 20
"""Lines of a command's output that are shown."""

LEVELS: dict[str, Level] = {"passed": "info", "skipped": "info", "rerun": "warning"}


class Spell(NamedTuple):
    """When a test began, and when it ended; None: it did not."""

    begin: float
    end: float | None


def read_json(parts: Sequence[Part], kind: type[T]) -> Iterator[T]:
    """Yield the objects in files of JSON lines; what is none is passed over, a file that cannot be read holds none."""
    decoder = msgspec.json.Decoder(kind)
    for part in parts:
        with suppress(OSError), part.path.open("rb") as stream:
            stream.seek(part.begin)
            while stream.tell() < part.end and (line := stream.readline(LONGEST)):
                with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    yield decoder.decode(line)


def read_events(parts: Sequence[Part]) -> Iterator[AnyEvent]:
    """Yield the events of a file."""
    return read_json(parts, AnyEvent)  # type: ignore[arg-type]  # a union is no class, and decoded all the same


class Onward:
    """Moments of this machine's clock in the order of a file: where somebody set it back, it goes on from there."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._shift = 0.0

    def __call__(self, at: float) -> float:
        """Return the moment of the next stamp, never before the last one."""
        moment = at + self._shift
        if self._last is not None and moment < self._last:
            if moment < self._last - BACKWARD:
                self._shift += self._last - moment
            moment = self._last
        self._last = moment
        return moment


def run_of(parts: Sequence[Part], state: RunState | None, *, near: float) -> Run:
    """Return the span of a run from the launch to its last event, and what it has seen of the device.

    `near` stands for it where there is no event.
    """
    begin, last, seen = None, None, dict[str, float]()
    for event in read_events(parts):
        is_launch = isinstance(event, StepStarted) and event.name == "launch_dm"
        begin = event.at if begin is None or is_launch else min(begin, event.at) if "launch_dm" in seen else begin
        last = event.at if last is None else max(last, event.at)
        if isinstance(event, StepFinished) and event.outcome == "ok":
            seen[event.name] = event.at
    if begin is None or last is None:
        return Run(near, near, is_known=False)
    texts = {
        "await_dsn": state.dsn.value if state and state.dsn else "",
        "await_session": state.session.id if state and state.session else "",
    }
    anchors = tuple(Anchor(text, seen[step]) for step, text in texts.items() if text and step in seen)
    return Run(begin, last, anchors, tests_end=seen.get("pytest_session"))


def step_entries(events: Iterable[AnyEvent]) -> Iterator[Entry]:
    """Yield the run's steps."""
    onward = Onward()
    for event in events:
        at = onward(event.at)
        match event:
            case RunStarted():
                yield at, f"run {event.run_id} of profile {as_line(event.profile)} began", "info"
            case StepStarted():
                limit = "" if event.timeout is None else f" (it may take {event.timeout:g} s)"
                yield at, f"{as_line(event.name)} began{limit}", "info"
            case StepFinished():
                why = f": {event.error}" if event.error else ""
                said = as_line(f"{event.name} {event.outcome} after {event.duration:.2f} s{why}")
                yield at, said, "info" if event.outcome == "ok" else "error"
            case RunFinished():
                level: Level = "info" if event.verdict == "passed" else "error"
                yield at, as_line(f"the run ended: {event.verdict} ({event.exit_code}): {event.reason}"), level
            case _:
                pass


def case_entries(events: Iterable[AnyEvent], spells: dict[str, Spell]) -> Iterator[Entry]:
    """Yield where tests began and ended, and note it in `spells`: of several attempts the last one."""
    onward = Onward()
    for event in events:
        at = onward(event.at)
        match event:
            case CaseStarted():
                spells[event.nodeid] = Spell(at, None)
                yield at, f"{as_line(event.nodeid)} began", "info"
            case CaseFinished():
                begun = spells.get(event.nodeid)
                spells[event.nodeid] = Spell(begun.begin if begun else at - max(0.0, event.duration), at)
                why = f": {event.message}" if event.message else ""
                said = as_line(f"{event.nodeid} {event.outcome} after {event.duration:.2f} s{why}")
                yield at, said, LEVELS.get(event.outcome, "error")
            case _:
                pass


def entries_of_cases(cases: Sequence[Case]) -> Iterator[Entry]:
    """Yield the boundaries of tests that nobody noted while they ran, as far as they are known."""
    found: list[Entry] = []
    for case in cases:
        if case.begin is not None:
            found.append((case.begin, f"{as_line(case.nodeid)} began", "info"))
        if case.end is not None:
            why = f": {case.message}" if case.message else ""
            said = as_line(f"{case.nodeid} {case.outcome} after {case.duration:.2f} s{why}")
            found.append((case.end, said, LEVELS.get(case.outcome, "error")))
    yield from sorted(found, key=lambda entry: entry[0])


def command_entries(events: Iterable[AnyEvent]) -> Iterator[Entry]:
    """Yield what tests ran on the target: the command where it began, its end and last words where it ended."""
    waiting: list[tuple[float, int, Entry]] = []
    count = 0
    for event in events:
        if isinstance(event, Commanded):
            for entry in _command(event):
                count += 1
                heapq.heappush(waiting, (entry[0], count, entry))
        while len(waiting) > WINDOW:
            yield heapq.heappop(waiting)[2]
    while waiting:
        yield heapq.heappop(waiting)[2]


def _command(event: Commanded) -> Iterator[Entry]:
    yield event.begin, f"$ {as_line(event.command)}", "info"
    end = event.begin + max(0.0, event.duration)
    lines = [line for line in event.output.splitlines() if line.strip()]
    for line in lines[-LAST_WORDS:]:
        yield end, as_line(line), None
    code = "no exit code" if event.exit_code is None else f"exit code {event.exit_code}"
    yield end, f"= {code} after {event.duration:.2f} s", "warning" if event.exit_code else "info"
