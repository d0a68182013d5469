"""The lease on a board: one run has it, the next one hears who, and any death of the holder frees it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from roboticks_tasks.boards import lease
from roboticks_tasks.errors import BoardInUseError
from roboticks_tasks.profiles import Profile
from roboticks_tasks.profiles.values import DeviceManagerSpec

HOLDER = """
import sys
from pathlib import Path
from roboticks_tasks.boards import lease
from roboticks_tasks.profiles import Profile
from roboticks_tasks.profiles.values import DeviceManagerSpec
with lease(Profile(name="theirs", device_manager=DeviceManagerSpec(root=sys.argv[1])), run=Path("their run")):
    print("held", flush=True)
    sys.stdin.read()
"""


def board(root: Path) -> Profile:
    return Profile(name="mine", device_manager=DeviceManagerSpec(root=str(root)))


@contextmanager
def held_elsewhere(root: Path) -> Iterator[subprocess.Popen[str]]:
    """Have another process hold the board."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(root)], stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_second_process_is_refused_with_the_words_of_the_first(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as holder:
        with pytest.raises(BoardInUseError) as refused, lease(board(tmp_path), run=Path("mine")):
            pytest.fail("the board was had twice")
        message = str(refused.value)
        assert refused.value.exit_code == 20
        assert f"the board of profile 'mine' ({tmp_path}) is in use by run {Path('their run').absolute()}, " in message
        assert f"pid {holder.pid}, " in message
        assert "wait for that run to end" in message


@pytest.mark.parametrize("variable", ["XDG_RUNTIME_DIR", "TMPDIR", "HOME"])
def test_nothing_in_the_environment_makes_two_boards_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    with held_elsewhere(tmp_path / "root"):
        monkeypatch.setenv(variable, str(tmp_path))
        with pytest.raises(BoardInUseError), lease(board(tmp_path / "root"), run=Path("mine")):
            pytest.fail("the board was had twice")


def test_a_link_to_the_root_is_the_same_board(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("root")
    refused = pytest.raises(BoardInUseError)
    with held_elsewhere(tmp_path / "root"), refused, lease(board(tmp_path / "link"), run=Path("mine")):
        pytest.fail("the board was had twice")


def test_a_holder_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as holder:
        holder.kill()
        holder.wait()
        with lease(board(tmp_path), run=Path("mine")):
            pass


def test_a_child_that_outlives_the_holder_does_not_keep_the_board(tmp_path: Path) -> None:
    # `sleep` has nothing of ours open: the lock is closed when a program is started.
    with lease(board(tmp_path), run=Path("one")):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with lease(board(tmp_path), run=Path("two")):
            pass
    finally:
        child.kill()
        child.wait()


def test_two_boards_are_had_at_the_same_time(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path / "a"), lease(board(tmp_path / "b"), run=Path("mine")):
        pass


def test_it_is_free_again_after_a_failure_within(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lease(board(tmp_path), run=Path("one")):
        raise ZeroDivisionError
    with lease(board(tmp_path), run=Path("two")):
        pass


def test_one_process_cannot_have_it_twice_either(tmp_path: Path) -> None:
    refused = pytest.raises(BoardInUseError, match=rf"in use by run .*/one, pid {os.getpid()}, ")
    with lease(board(tmp_path), run=Path("one")), refused, lease(board(tmp_path), run=Path("two")):
        pytest.fail("the board was had twice")


def test_whoever_held_it_last_is_not_blamed_for_the_next_holder(tmp_path: Path) -> None:
    file = tmp_path / "run" / "lease"
    with lease(board(tmp_path), run=Path("a run with a very long name")):
        pass
    with lease(board(tmp_path), run=Path("b")):
        assert file.read_text().startswith(f"run {Path('b').absolute()}, pid ")
        assert file.read_text().count("\n") == 2
    assert file.read_text() == ""


def test_a_link_in_the_locks_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "root" / "run").mkdir(parents=True)
    (tmp_path / "root" / "run" / "lease").symlink_to(tmp_path / "victim")
    with lease(board(tmp_path / "root"), run=Path("one")):
        pass
    assert (tmp_path / "victim").read_text() == "precious"


def test_where_nothing_can_be_written_there_is_nothing_to_lock(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with lease(board(tmp_path / "file"), run=Path("one")):
        pass
