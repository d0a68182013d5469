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
from roboticks_tasks.errors import BoardInUseError, ConfigError
from roboticks_tasks.profiles import Profile
from roboticks_tasks.profiles.values import DeviceManagerSpec

HOLDER = """
import sys
from roboticks_tasks.boards import lease
from roboticks_tasks.profiles import Profile
from roboticks_tasks.profiles.values import DeviceManagerSpec
with lease(Profile(name="theirs", device_manager=DeviceManagerSpec(root=sys.argv[1])), run="their run"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def board(root: str) -> Profile:
    return Profile(name="mine", device_manager=DeviceManagerSpec(root=root))


@contextmanager
def held_elsewhere(root: str) -> Iterator[subprocess.Popen[str]]:
    """Have another process hold the board."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLDER, root], stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_second_process_is_refused_with_the_words_of_the_first() -> None:
    with held_elsewhere("/root/a") as holder:
        with pytest.raises(BoardInUseError) as refused, lease(board("/root/a"), run="my run"):
            pytest.fail("the board was had twice")
        message = str(refused.value)
        assert refused.value.exit_code == 20
        assert "the board of profile 'mine' (local:/root/a) is in use by run their run, " in message
        assert f"pid {holder.pid}, " in message
        assert "wait for that run to end" in message


def test_a_holder_that_was_killed_holds_nothing() -> None:
    with held_elsewhere("/root/a") as holder:
        holder.kill()
        holder.wait()
        with lease(board("/root/a"), run="my run"):
            pass


def test_a_child_that_outlives_the_holder_does_not_keep_the_board() -> None:
    # `sleep` has nothing of ours open: the lock is closed when a program is started.
    with lease(board("/root/a"), run="one"):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with lease(board("/root/a"), run="two"):
            pass
    finally:
        child.kill()
        child.wait()


def test_two_boards_are_had_at_the_same_time() -> None:
    with held_elsewhere("/root/a"), lease(board("/root/b"), run="my run"):
        pass


def test_it_is_free_again_after_a_failure_within() -> None:
    with pytest.raises(ZeroDivisionError), lease(board("/root/a"), run="one"):
        raise ZeroDivisionError
    with lease(board("/root/a"), run="two"):
        pass


def test_one_process_cannot_have_it_twice_either() -> None:
    refused = pytest.raises(BoardInUseError, match=rf"in use by run one, pid {os.getpid()}, ")
    with lease(board("/root/a"), run="one"), refused, lease(board("/root/a"), run="two"):
        pytest.fail("the board was had twice")


def test_whoever_held_it_last_is_not_blamed_for_the_next_holder(tmp_path: Path) -> None:
    with lease(board("/root/a"), run="a run with a very long name"):
        pass
    with lease(board("/root/a"), run="b"):
        (file,) = (tmp_path / "roboticks-tasks").iterdir()
        assert file.read_text().startswith("run b, pid ")
        assert file.read_text().count("\n") == 1
    assert file.read_text() == ""


def test_without_a_runtime_folder_the_temporary_one_is_shared_by_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with lease(board("/root/a"), run="one"):
        (folder,) = tmp_path.iterdir()
        assert folder.name == f"roboticks-tasks-{os.getuid()}"
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_used_is_no_bug_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "file"))
    refused = pytest.raises(ConfigError, match=r"the lock of the board cannot be written: .*XDG_RUNTIME_DIR")
    with refused, lease(board("/root/a"), run="one"):
        pytest.fail("there is no lock")
