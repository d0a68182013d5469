"""The journal of a run: whatever cuts or damages it, what was written whole is read, before the damage and after."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from roboticks_tasks import events
from roboticks_tasks.events import AnyEvent, Event, RunFinished, RunStarted, read_events, write_jsonl

SECONDS = st.floats(allow_nan=False, allow_infinity=False)
KINDS: tuple[type[Event], ...] = get_args(AnyEvent)
EVENTS = st.one_of([st.builds(kind, at=SECONDS) for kind in KINDS]).filter(
    lambda event: all(math.isfinite(each) for each in vars_of(event) if isinstance(each, float))
)
DAMAGE = [b"{}", b"\0" * 4096, b"[" * 5_000, b'{"event":"run-started","x":' * 999, b"\xff\n\n", b'{"event']
GARBAGE = st.one_of(st.binary(), st.sampled_from(DAMAGE))


def vars_of(event: Event) -> list[object]:
    return [getattr(event, name) for name in event.__struct_fields__]


@contextmanager
def journal(*written: Event) -> Iterator[Path]:
    """Lend a journal that holds what was written."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        path.touch()
        for event in written:
            write_jsonl(path)(event)
        yield path


def test_every_kind_of_event_can_be_read() -> None:
    kinds = {each for each in vars(events).values() if isinstance(each, type) and issubclass(each, Event)}
    assert set(KINDS) == kinds - {Event}


@given(st.lists(EVENTS, max_size=4), st.data())
def test_of_a_journal_that_is_cut_anywhere_the_whole_lines_come_back(written: list[Event], data: st.DataObject) -> None:
    with journal(*written) as path:
        content = path.read_bytes()
        cut = data.draw(st.integers(0, len(content)))
        path.write_bytes(content[:cut])
        whole = content[:cut].count(b"\n")
        found = read_events(path)
        assert found == written[: len(found)]
        # A line that lacks nothing but its end is whole, too.
        assert len(found) - whole in ({0, 1} if content[cut : cut + 1] == b"\n" else {0})


@given(st.lists(EVENTS, max_size=2), GARBAGE, st.lists(EVENTS, min_size=1, max_size=2))
def test_what_comes_after_garbage_is_read(before: list[Event], garbage: bytes, after: list[Event]) -> None:
    with journal(*before) as path:
        with path.open("ab") as stream:
            stream.write(garbage)
        for event in after:
            write_jsonl(path)(event)
        found = read_events(path)
        assert found[: len(before)] == before
        assert found[-len(after) :] == after


@given(st.binary(max_size=300))
def test_any_file_is_a_journal(content: bytes) -> None:
    with journal() as path:
        path.write_bytes(content)
        read_events(path)


def test_a_journal_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert read_events(tmp_path / "none") == []
    assert read_events(tmp_path) == []


def test_a_path_that_is_no_text_loses_no_event() -> None:
    finished = RunFinished(run_id="r", verdict="failed", exit_code=1, reason="b\udcfc\n", duration=0.5, at=1.0)
    with journal(RunStarted(run_id="r", profile="sim"), finished) as path:
        assert path.read_bytes().count(b"\n") == 2
        assert read_events(path)[1:] == [
            RunFinished(run_id="r", verdict="failed", exit_code=1, reason="b\\udcfc\n", duration=0.5, at=1.0)
        ]
