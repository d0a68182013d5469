"""Who uses a local platform: only living processes count, and the last run that leaves is told so."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from roboticks_tasks import processes
from roboticks_tasks.backend import users


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def born(process: subprocess.Popen[bytes]) -> int:
    started = processes.start_time(process.pid)
    assert started is not None
    return started


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def join(directory: Path, run: str, process: subprocess.Popen[bytes] | None = None) -> None:
    pid, started = users.own_process() if process is None else (process.pid, born(process))
    users.join(directory, Path(run), pid=pid, started=started)


def test_the_only_run_leaves_nobody_behind(directory: Path) -> None:
    join(directory, "a")
    assert not users.leave(directory, Path("a"))
    assert list((directory / "users").iterdir()) == []


def test_leaving_where_nobody_ever_was_is_no_error(directory: Path) -> None:
    assert not users.leave(directory, Path("a"))


def test_another_living_run_is_noticed(directory: Path, other: subprocess.Popen[bytes]) -> None:
    join(directory, "a")
    join(directory, "b", other)
    assert users.leave(directory, Path("a"))
    assert users.leave(directory, Path("a"))


def test_a_dead_run_does_not_count_and_is_forgotten(directory: Path, other: subprocess.Popen[bytes]) -> None:
    join(directory, "a")
    join(directory, "b", other)
    end(other)
    assert not users.leave(directory, Path("a"))
    assert list((directory / "users").iterdir()) == []


@pytest.mark.parametrize("short_first", [False, True])
def test_a_run_lives_as_long_as_one_of_its_processes(
    directory: Path, other: subprocess.Popen[bytes], short_first: bool
) -> None:
    with subprocess.Popen(["sleep", "60"]) as short:
        for process in (short, other) if short_first else (other, short):
            join(directory, "b", process)
        short.kill()
    assert users.leave(directory, Path("a"))
    end(other)
    assert not users.leave(directory, Path("a"))


def test_a_later_process_with_the_same_pid_is_a_stranger(directory: Path, other: subprocess.Popen[bytes]) -> None:
    users.join(directory, Path("b"), pid=other.pid, started=born(other) - 1)
    assert not users.leave(directory, Path("a"))


def test_a_run_is_the_same_from_whatever_folder_it_is_named(
    directory: Path, monkeypatch: pytest.MonkeyPatch, other: subprocess.Popen[bytes]
) -> None:
    monkeypatch.chdir(directory)
    join(directory, "run", other)
    assert not users.leave(directory, directory / "run")


@pytest.mark.parametrize("content", [b"", b"{", b'{"processes": "x"}', b'{"processes": "\xff"}'])
def test_a_damaged_mark_is_nobodys(directory: Path, content: bytes) -> None:
    join(directory, "a")
    (mark,) = (directory / "users").iterdir()
    mark.write_bytes(content)
    assert not users.leave(directory, Path("b"))
    assert not mark.exists()


def test_the_folder_is_held_for_the_block_and_free_after_it(directory: Path) -> None:
    def free() -> bool:
        with (directory / "users.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    with users.exclusive(directory):
        assert not free()
    assert free()


def test_our_own_process_is_alive() -> None:
    pid, started = users.own_process()
    assert pid == os.getpid()
    assert processes.is_alive(pid, started)


def test_what_a_killed_process_has_half_written_goes_with_the_next_that_leaves(directory: Path) -> None:
    join(directory, "a")
    (directory / "users" / "0123.new").touch()
    assert not users.leave(directory, Path("a"))
    assert list((directory / "users").iterdir()) == []
