"""Small files that others write, or that a death cuts off: any bytes give a value, or the error that is promised."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roboticks_tasks import bench
from roboticks_tasks.backend import users
from roboticks_tasks.backend.local import release_local
from roboticks_tasks.boards import locks, quarantine
from roboticks_tasks.boards.resources import quarantine_name
from roboticks_tasks.errors import TargetError
from roboticks_tasks.profiles import Profile
from roboticks_tasks.targets.detached import Detached, parse_pid_file

SIM = Profile(name="sim")
STAMPS = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC))
PAIRS = st.lists(st.tuples(st.integers(), st.integers()).map(list))
MARKS = PAIRS.map(lambda pairs: f'{{"processes":{pairs}}}'.encode())
PARKED = STAMPS.map(lambda at: f'{{"since":"{at.isoformat()}","until":"{at.isoformat()}"}}'.encode())
DAMAGE = st.sampled_from([b'{"x":' * 2000, b"[" * 5000, b"\xff", b"\0" * 4096, b"9" * 5000, b'{"pid": 1e400}'])
ANYTHING = st.one_of(st.binary(), DAMAGE)


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@given(st.one_of(st.text(), st.from_regex(r"\A[0-9]{0,12} ?[ -~]{0,9}\Z")))
def test_any_text_is_a_pid_file_or_said_to_be_none(text: str) -> None:
    try:
        found = parse_pid_file(text)
    except TargetError:
        return
    assert found.pid > 0
    assert found.identity


@given(st.builds(Detached, st.integers(1, 1 << 22), st.from_regex(r"\A[0-9]+-[0-9a-f-]+\Z")))
def test_what_the_start_writes_is_read(process: Detached) -> None:
    assert parse_pid_file(f"{process.pid} {process.identity}\n") == process


@given(st.one_of(ANYTHING, PARKED))
def test_any_quarantine_file_parks_a_board_or_does_not(content: bytes) -> None:
    with folder() as place, pytest.MonkeyPatch.context() as patch:
        patch.setenv(bench.VARIABLE, str(place / "bench"))
        path = bench.shared_folder() / quarantine_name(SIM)
        path.write_bytes(content)
        quarantine.parked(SIM)
        quarantine.note_failure(SIM, "it does not answer")
        quarantine.note_success(SIM)
        assert quarantine.parked(SIM) is None


@given(ANYTHING)
def test_any_words_of_a_holder_are_one_line_that_harms_no_terminal(content: bytes) -> None:
    with folder() as place:
        (place / "lock").write_bytes(content)
        lock = os.open(place / "lock", os.O_RDONLY)
        words = locks._read_words(lock)
        os.close(lock)
    assert words
    assert "\n" not in words
    assert words.isprintable()


@given(st.one_of(ANYTHING, MARKS), ANYTHING)
def test_any_mark_of_a_user_is_a_living_run_or_forgotten(mark: bytes, other: bytes) -> None:
    with folder() as place:
        (place / "users").mkdir()
        for name, content in (("one", mark), ("two", other)):
            (place / "users" / f"{name}.json").write_bytes(content)
        users.leave(place, place / "run")
        pid, started = users.own_process()
        users.join(place, place / "run", pid=pid, started=started)
        assert users.leave(place, place / "another run")


@given(ANYTHING)
def test_any_description_of_a_local_platform_is_one_that_runs_or_none(content: bytes) -> None:
    with folder() as place:
        (place / "platform.json").write_bytes(content)
        assert release_local(place, run=place / "run") == "not running"
