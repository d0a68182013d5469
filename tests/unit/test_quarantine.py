"""Boards that fail again and again are parked: counted over all runs, for a time, and never for ever by mistake."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roboticks_tasks import bench
from roboticks_tasks.boards import quarantine
from roboticks_tasks.boards.quarantine import Parked, free, note_failure, note_success, parked
from roboticks_tasks.boards.resources import quarantine_name
from roboticks_tasks.profiles import Profile

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)

FAILER = """
import json, os, sys, time, msgspec
from roboticks_tasks.boards.quarantine import note_failure
from roboticks_tasks.profiles import Profile
profile = msgspec.convert(json.loads(sys.argv[1]), Profile)
read = os.pread
def slowly(*arguments):
    content = read(*arguments)
    time.sleep(0.001)  # so that the others come in between, if they can
    return content
os.pread = slowly
print("ready", flush=True)
sys.stdin.read(1)
for _ in range(25):
    note_failure(profile, "x" * 500)
"""


class Clock:
    """The wall clock, where a test puts it."""

    def __init__(self) -> None:
        self.now = NOON

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a bench of its own."""
    monkeypatch.setenv(bench.VARIABLE, str(tmp_path / "bench"))
    return tmp_path / "bench"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(quarantine, "_now", lambda: clock.now)
    return clock


def board(host: str = "a.lab", *, failures: int = 2, expiry: float = 3600, name: str = "jetson") -> Profile:
    document = {
        "name": name,
        "target": {"kind": "ssh"},
        "boards": [{"id": "a", "host": host}],
        "quarantine": {"failures": failures, "expiry": expiry},
    }
    return msgspec.convert(document, Profile)


def file_of(profile: Profile) -> Path:
    return bench.shared_folder() / quarantine_name(profile)


def test_a_board_is_parked_by_as_many_failures_in_a_row_as_the_profile_says(clock: Clock) -> None:
    assert note_failure(board(), "no ssh") is None
    assert parked(board()) is None
    found = note_failure(board(), "no  answer\nby ssh")
    assert found == Parked(reason="no answer by ssh", since=NOON, until=NOON + timedelta(hours=1), failures=2)
    assert parked(board()) == found
    assert str(found) == "parked until 2030-01-01 13:00:00 UTC after 2 failures in a row: no answer by ssh"


def test_a_success_in_between_starts_the_count_anew() -> None:
    note_failure(board(), "no ssh")
    note_success(board())
    assert note_failure(board(), "no ssh") is None
    assert note_failure(board(), "no ssh") is not None


def test_one_failure_can_be_enough() -> None:
    found = note_failure(board(failures=1), "no ssh")
    assert "after 1 failure: no ssh" in str(found)


def test_a_board_that_was_freed_is_parked_no_more_and_its_failures_are_forgotten() -> None:
    note_failure(board(), "no ssh")
    note_failure(board(), "no ssh")
    assert free(board())
    assert parked(board()) is None
    assert note_failure(board(), "no ssh") is None
    assert not free(board())


def test_two_profiles_of_one_board_count_together_and_two_boards_apart() -> None:
    note_failure(board(), "no ssh")
    assert note_failure(board("A.lab", name="nightly"), "no ssh") is not None
    assert note_failure(board("b.lab"), "no ssh") is None


# --- time -------------------------------------------------------------------------------------------------------------


def test_a_parked_board_is_free_again_after_its_time_and_not_before(clock: Clock) -> None:
    note_failure(board(failures=1), "no ssh")
    clock.forward(seconds=3599)
    assert parked(board()) is not None
    clock.forward(seconds=1)
    assert parked(board()) is None
    assert not free(board())


def test_a_board_that_fails_again_after_its_time_is_parked_again_at_once(clock: Clock) -> None:
    note_failure(board(), "no ssh")
    note_failure(board(), "no ssh")
    clock.forward(hours=2)
    assert note_failure(board(), "still no ssh") == Parked(
        reason="still no ssh", since=clock.now, until=clock.now + timedelta(hours=1), failures=3
    )


def test_a_clock_that_was_set_back_parks_for_the_time_that_was_meant_and_no_longer(clock: Clock) -> None:
    note_failure(board(failures=1), "no ssh")
    clock.forward(days=-3650)
    found = parked(board())
    assert found is not None
    assert (found.since, found.until) == (clock.now, clock.now + timedelta(hours=1))
    clock.forward(minutes=59)
    assert parked(board()) is not None
    clock.forward(minutes=1)
    assert parked(board()) is None


def test_a_clock_that_was_set_back_and_a_file_that_cannot_be_written_park_nobody(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    note_failure(board(failures=1), "no ssh")
    clock.forward(days=-1)

    def refuse(*_: object) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "pwrite", refuse)
    assert parked(board()) is None
    assert "Read-only file system" in caplog.text


def test_a_profile_with_less_patience_lets_the_board_go_earlier(clock: Clock) -> None:
    note_failure(board(failures=1, expiry=3600), "no ssh")
    clock.forward(seconds=61)
    assert parked(board(expiry=60)) is None
    assert parked(board(expiry=3600)) is not None


# --- the file ---------------------------------------------------------------------------------------------------------


def test_a_plain_run_that_succeeds_makes_no_file(tmp_path: Path, folder: Path) -> None:
    plain = msgspec.convert({"name": "sim", "device_manager": {"root": str(tmp_path / "root")}}, Profile)
    assert parked(plain) is None
    note_success(plain)
    assert not free(plain)
    assert not folder.exists()


def test_a_machine_without_boards_is_known_by_its_folder_whatever_leads_there(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("root")
    one, other, third = (
        msgspec.convert({"name": name, "device_manager": {"root": str(tmp_path / name)}}, Profile)
        for name in ("root", "link", "third")
    )
    for _ in range(3):
        note_failure(one, "no mosquitto")
    assert parked(other) is not None
    assert parked(third) is None


DAMAGED = [
    b"{", b"null", b"[]", b"\xff\xfe", b'{"failures": "many"}', b"\0" * 4096, b'{"failures": 3, "since": "yesterday"}',
    b'{"failures": 3, "reason": "x", "since": "2030-01-01T12:00:00", "until": "2031-01-01T12:00:00"}',
]  # fmt: skip


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_file_parks_nobody_is_told_of_and_is_mended_by_the_next_failure(
    content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file_of(board()).write_bytes(content)
    assert parked(board()) is None
    assert [each.levelname for each in caplog.records] == ["WARNING"]
    assert f"{file_of(board())} is damaged, its board counts as not parked" in caplog.text
    assert note_failure(board(), "no ssh") is None
    assert note_failure(board(), "no ssh") is not None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=200) | st.sampled_from(DAMAGED))
def test_nothing_in_the_file_can_break_a_run(content: bytes) -> None:
    file_of(board()).write_bytes(content)
    parked(board())
    note_failure(board(), "no ssh")
    note_success(board())
    assert parked(board()) is None


@pytest.mark.parametrize("year", ["0001", "1970", "9999"])
def test_times_at_the_end_of_the_calendar_break_nothing(year: str) -> None:
    record = {"failures": 9, "reason": "x", "since": f"{year}-12-31T00:00:00Z", "until": "9999-12-31T23:59:59Z"}
    file_of(board()).write_text(json.dumps(record))
    found = parked(board())
    assert found is None or found.until <= datetime.now(UTC) + timedelta(hours=1)
    note_failure(board(), "no ssh")


def test_the_words_of_another_user_move_no_cursor() -> None:
    note_failure(board(failures=1), "no ssh")
    file = file_of(board())
    file.write_bytes(file.read_bytes().replace(b"no ssh", b"\\u001b[2J"))
    assert str(parked(board())).endswith("after 1 failure: ?[2J")


def test_an_empty_file_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    file_of(board()).touch()
    assert parked(board()) is None
    assert not caplog.records


def test_the_longest_reason_fits_into_the_file() -> None:
    found = note_failure(board(failures=1), '\x1b\ud800"\\\u2603' * 50 + "\U0001f916" * 5000)
    assert found is not None
    assert found.reason.startswith('??"\\\u2603??')
    assert parked(board()) == found
    assert file_of(board()).stat().st_size == quarantine.SIZE


def test_processes_that_fail_at_once_are_all_counted() -> None:
    limited = board(failures=1000)
    words = [sys.executable, "-c", FAILER, json.dumps(msgspec.to_builtins(limited))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipe = subprocess.PIPE
    runs = [subprocess.Popen(words, stdin=pipe, stdout=pipe, env=environment) for _ in range(4)]
    for run in runs:
        assert run.stdout is not None
        assert run.stdout.readline() == b"ready\n"
    for run in runs:
        assert run.stdin is not None
        run.stdin.write(b"x")
        run.stdin.flush()
    for run in runs:
        run.communicate(timeout=120)
    assert json.loads(file_of(limited).read_bytes())["failures"] == 100


def test_the_file_can_be_written_by_every_user() -> None:
    before = os.umask(0o077)
    try:
        note_failure(board(), "no ssh")
    finally:
        os.umask(before)
    assert file_of(board()).stat().st_mode & 0o777 == 0o666


def test_where_the_folder_cannot_be_used_it_is_logged_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    (tmp_path / "file").touch()
    monkeypatch.setenv(bench.VARIABLE, str(tmp_path / "file"))
    assert note_failure(board(failures=1), "no ssh") is None
    assert "what becomes of board a cannot be noted: " in caplog.text
    assert parked(board()) is None
    note_success(board())


def test_a_link_in_the_files_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    file_of(board()).symlink_to(tmp_path / "victim")
    note_failure(board(failures=1), "no ssh")
    assert parked(board()) is None
    assert (tmp_path / "victim").read_text() == "precious"
