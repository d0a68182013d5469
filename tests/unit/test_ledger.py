"""The ledger of runs that are not torn down yet."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from roboticks_tasks import ledger, processes, state
from roboticks_tasks.models import Process
from roboticks_tasks.profiles import load_profile
from roboticks_tasks.profiles.values import Profile, Source


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "roboticks" / "runs"


@pytest.fixture
def profile() -> Profile:
    return load_profile("sim", environ={})


def begin(profile: Profile, folder: Path, *, resources: tuple[str, ...] = ("board",)) -> state.RunState:
    run = state.create(folder, profile)
    ledger.enter(profile, folder, run=run, resources=resources, whole=True)
    return run


def test_a_run_is_in_the_ledger_until_it_is_struck(profile: Profile, tmp_path: Path) -> None:
    run = begin(profile, tmp_path / "run")
    [entry] = ledger.entries()
    assert (entry.run_id, entry.artifacts, entry.profile) == (run.run_id, str(tmp_path / "run"), profile)
    assert entry.is_alive
    ledger.strike(run.run_id)
    assert ledger.entries() == []


def enter(profile: Profile, folder: Path, run_id: str, *resources: str) -> None:
    run = msgspec.structs.replace(state.create(folder / run_id, profile), run_id=run_id)
    ledger.enter(profile, folder / run_id, run=run, resources=resources, whole=True)


def test_a_teardown_settles_its_run_and_the_earlier_ones_of_its_board(profile: Profile, tmp_path: Path) -> None:
    enter(profile, tmp_path, "1-earlier", "board", "console")
    enter(profile, tmp_path, "2-another", "another")
    enter(profile, tmp_path, "3-own", "another name by now")
    enter(profile, tmp_path, "4-later", "console")
    ledger.settle(["console"], run_id="3-own")
    assert [entry.run_id for entry in ledger.entries()] == ["2-another", "4-later"]


def test_nobody_else_can_read_the_ledger(profile: Profile, tmp_path: Path, home: Path) -> None:
    begin(profile, tmp_path / "run")
    assert home.stat().st_mode & 0o077 == 0


def test_what_no_teardown_needs_is_not_in_it(profile: Profile, tmp_path: Path, home: Path) -> None:
    source = Source(url="https://user:hunter2-token@example.org/dm")
    manager = msgspec.structs.replace(profile.device_manager, source=source, flash=("tool", "hunter2-token"))
    begin(msgspec.structs.replace(profile, device_manager=manager), tmp_path / "run")
    [path] = home.iterdir()
    assert b"hunter2" not in path.read_bytes()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"run_id": "x"}', b"\xff\x00"])
def test_an_entry_that_cannot_be_read_is_passed_over_and_can_be_told(
    profile: Profile, tmp_path: Path, home: Path, content: bytes
) -> None:
    run = begin(profile, tmp_path / "run")
    (home / "0-damaged.json").write_bytes(content)
    assert [entry.run_id for entry in ledger.entries()] == [run.run_id]
    assert ledger.unreadable() == [home / "0-damaged.json"]


def test_a_ledger_that_cannot_be_written_does_not_end_the_run(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    begin(profile, tmp_path / "run")
    assert ledger.entries() == []
    assert "not in the ledger" in caplog.text


def test_a_process_of_an_earlier_boot_is_not_alive_whatever_has_its_number_now(
    profile: Profile, tmp_path: Path
) -> None:
    begin(profile, tmp_path / "run")
    [entry] = ledger.entries()
    assert not msgspec.structs.replace(entry, boot="another").is_alive
    stranger = Process(pid=entry.process.pid, start_time=entry.process.start_time + 1)
    assert not msgspec.structs.replace(entry, process=stranger).is_alive


def test_the_variable_for_a_home_that_is_relative_is_not_followed(
    monkeypatch: pytest.MonkeyPatch, profile: Profile, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    begin(profile, tmp_path / "run")
    assert not (tmp_path / "here").exists()
    assert len(list((tmp_path / "home" / ".local" / "state" / "roboticks" / "runs").iterdir())) == 1


def test_a_run_without_its_mark_carries_none() -> None:
    with processes.marked("some-run"):
        assert processes.unmarked({processes.COOKIE: "some-run", "HOME": "/"}) == {"HOME": "/"}
