"""Runs whose processes are gone are torn down by others, who touch nothing of the runs that live."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from roboticks_tasks import ledger, processes, state
from roboticks_tasks.boards import lease
from roboticks_tasks.errors import ConfigError
from roboticks_tasks.events import ignore
from roboticks_tasks.lifecycle import salvage
from roboticks_tasks.lifecycle.support.group import TESTS_PID
from roboticks_tasks.lifecycle.support.record import Record
from roboticks_tasks.models import Process
from roboticks_tasks.profiles import Profile, load_profile


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def living() -> Iterator[Process]:
    """A process that lives."""
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    yield Process(pid=child.pid, start_time=processes.start_time(child.pid) or 0)
    child.kill()
    child.wait()


def board(folder: Path, name: str) -> Profile:
    """A board that is a folder of this machine."""
    profile = load_profile("sim", environ={})
    platform = msgspec.structs.replace(profile.local_platform, directory=str(folder / "platform"))
    manager = msgspec.structs.replace(profile.device_manager, root=str(folder / name))
    return msgspec.structs.replace(profile, local_platform=platform, device_manager=manager)


def begin(profile: Profile, artifacts: Path, *, process: Process | None = None, whole: bool = True) -> state.RunState:
    """Begin a run that is dead, or that of a process."""
    record = Record.begin(profile, artifacts, sink=ignore, whole=whole)
    dead = Process(pid=1, start_time=1)
    state.save(artifacts, msgspec.structs.replace(record.run, process=process or dead))
    [entry] = [each for each in ledger.entries() if each.run_id == record.run.run_id]
    path = Path(os.environ["XDG_STATE_HOME"]) / "roboticks" / "runs" / f"{entry.run_id}.json"
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(entry, process=process or dead)))
    return record.run


def test_a_folder_that_another_run_has_by_now_is_left_alone(tmp_path: Path, living: Process) -> None:
    dead = begin(board(tmp_path, "a"), tmp_path / "run")
    other = begin(board(tmp_path, "b"), tmp_path / "run", process=living)
    (tmp_path / "run" / TESTS_PID).write_text(f"{living.pid} {living.start_time}\n")
    assert {entry.run_id: words for entry, words in salvage.reap()} == {
        dead.run_id: "torn down",
        other.run_id: "left alone: it is running",
    }
    assert salvage.is_alive(living)
    assert state.load(tmp_path / "run").run_id == other.run_id
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_run_whose_record_is_damaged_is_torn_down_all_the_same(tmp_path: Path) -> None:
    begin(board(tmp_path, "a"), tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text("{")
    assert [words for _, words in salvage.reap()] == ["torn down"]
    assert ledger.entries() == []


def test_a_run_whose_folder_is_gone_is_torn_down_all_the_same(tmp_path: Path) -> None:
    begin(board(tmp_path, "a"), tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    assert [words for _, words in salvage.reap()] == ["torn down"]
    assert ledger.entries() == []


def test_a_run_whose_step_ends_while_its_board_is_taken_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(board(tmp_path, "a"), tmp_path / "run", whole=False)
    state.save(tmp_path / "run", msgspec.structs.replace(run, running="launch_dm"))

    def when_the_step_has_ended(*words: object, **options: object) -> object:
        state.save(tmp_path / "run", run)
        return lease(*words, **options)  # type: ignore[arg-type] # those of `lease`

    monkeypatch.setattr(salvage, "lease", when_the_step_has_ended)
    assert [words for _, words in salvage.reap()] == ["left alone: it is between its steps"]


def test_nothing_is_asked_of_a_run_of_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "another-bench")
    begin(board(tmp_path, "a"), tmp_path / "run")
    monkeypatch.undo()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))  # one home for both machines
    assert salvage.reap() == []
    salvage.clear_board(board(tmp_path, "a"))
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_folder_in_which_a_run_goes_on_is_not_had_for_another_one(tmp_path: Path, living: Process) -> None:
    run = begin(board(tmp_path, "a"), tmp_path / "run", process=living)
    with pytest.raises(ConfigError, match=rf"{tmp_path}/run is the folder of a run that goes on \(pid {living.pid}\)"):
        Record.begin(board(tmp_path, "b"), tmp_path / "run", sink=ignore)
    assert state.load(tmp_path / "run").run_id == run.run_id


def test_a_folder_that_is_kept_to_be_looked_at_is_not_had_for_another_run(tmp_path: Path, living: Process) -> None:
    run = begin(board(tmp_path, "a"), tmp_path / "run")
    state.save(tmp_path / "run", msgspec.structs.replace(run, guard=living, kept_until="tomorrow"))
    (tmp_path / "run" / "result.json").touch()
    with pytest.raises(ConfigError, match="is kept until tomorrow"):
        Record.begin(board(tmp_path, "b"), tmp_path / "run", sink=ignore)


def test_a_folder_whose_run_has_ended_is_had_again_though_its_process_lives(tmp_path: Path, living: Process) -> None:
    begin(board(tmp_path, "a"), tmp_path / "run", process=living)
    (tmp_path / "run" / "result.json").touch()
    assert Record.begin(board(tmp_path, "a"), tmp_path / "run", sink=ignore).run.steps == ()


def test_a_guard_that_does_not_come_to_an_end_is_killed(tmp_path: Path, living: Process) -> None:
    profile = board(tmp_path, "a")
    hurried = msgspec.structs.replace(profile.timeouts, teardown=0.01)
    run = begin(profile, tmp_path / "run")
    subprocess.run(["kill", "-STOP", str(living.pid)], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(salvage, "SLOWNESS", 0.0)
        guarded = msgspec.structs.replace(run, process=Process(pid=1, start_time=1), guard=living)
        salvage.await_guard(msgspec.structs.replace(profile, timeouts=hurried), guarded)
    assert not salvage.is_alive(living)
