"""Files are whole or as they were before, and on a full disk there is room for what was promised room."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from roboticks_tasks.disk import RESERVE, SLOT, SLOTS, give_back, replacing, reserve, write_atomically
from roboticks_tasks.errors import ConfigError
from tests.contract.small_disk import SmallDisk, open_small_disk


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallDisk]:
    path = tmp_path / "disk"
    path.mkdir()
    with open_small_disk(path, size="1m") as mounted:
        if mounted is None:
            pytest.skip("this machine allows no mounts")
        yield mounted


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_reserve_is_really_allocated_and_given_back(tmp_path: Path) -> None:
    reserve(tmp_path)
    slots = list(tmp_path.iterdir())
    assert len(slots) == SLOTS
    assert sum(slot.stat().st_blocks * 512 for slot in slots) >= SLOTS * SLOT
    reserve(tmp_path)
    give_back(tmp_path)
    assert names(tmp_path) == set()


def test_where_nothing_can_be_allocated_zeros_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    reserve(tmp_path)
    assert {slot.stat().st_size for slot in tmp_path.iterdir()} == {SLOT}


def test_a_disk_without_room_for_the_reserve_is_said_and_left_as_it_was(small: SmallDisk) -> None:
    small.fill()
    with pytest.raises(ConfigError, match="cannot be written: No space left on device; free space"):
        reserve(small.folder)
    assert names(small.folder) == {"fill"}


def test_on_a_full_disk_the_reserve_takes_as_many_files_as_a_run_ends_with(small: SmallDisk) -> None:
    reserve(small.folder)
    small.fill()
    for number in range(SLOTS):
        write_atomically(small.folder / f"file-{number}", b"%d" % number * 5_000)
        small.fill()  # somebody takes whatever becomes free
    assert [(small.folder / f"file-{number}").read_bytes() for number in range(SLOTS)] == [
        b"%d" % number * 5_000 for number in range(SLOTS)
    ]
    with pytest.raises(ConfigError, match="No space left on device"):
        write_atomically(small.folder / "one-more", b"x" * 5_000)
    assert names(small.folder) == {"fill", *(f"file-{number}" for number in range(SLOTS))}


def test_what_is_larger_than_a_part_of_the_reserve_has_several(small: SmallDisk) -> None:
    reserve(small.folder)
    small.fill()
    content = os.urandom(SLOT * 3)
    write_atomically(small.folder / "file", content)
    assert (small.folder / "file").read_bytes() == content


def test_what_is_larger_than_the_reserve_leaves_the_old_file(small: SmallDisk) -> None:
    (small.folder / "file").write_text("old")
    reserve(small.folder)
    small.fill()
    with pytest.raises(ConfigError, match="No space left on device"):
        write_atomically(small.folder / "file", bytes(SLOT * SLOTS * 3))
    assert (small.folder / "file").read_text() == "old"
    assert not [name for name in names(small.folder) if name.endswith(".new")]


def test_the_reserve_is_only_for_what_has_to_last(small: SmallDisk) -> None:
    reserve(small.folder)
    small.fill()
    with pytest.raises(ConfigError, match="No space left on device"):
        write_atomically(small.folder / "file", bytes(5_000), durable=False)
    assert len([name for name in names(small.folder) if name.startswith(RESERVE)]) == SLOTS


def test_room_that_becomes_free_goes_back_into_the_reserve(small: SmallDisk) -> None:
    reserve(small.folder)
    (small.folder / "file").write_bytes(bytes(2 * SLOT))
    small.fill()
    write_atomically(small.folder / "file", b"new")  # the old one is gone by then
    assert len([name for name in names(small.folder) if name.startswith(RESERVE)]) == SLOTS


def test_what_a_killed_writer_has_left_goes_with_the_next_write_and_a_living_ones_stays(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = tmp_path / f".run.json.{ended.pid}.new"
    living = tmp_path / f".run.json.{os.getppid()}.new"
    other = tmp_path / f".other.json.{ended.pid}.new"
    for path in (dead, living, other):
        path.write_text("half")
    write_atomically(tmp_path / "run.json", b"whole")
    assert names(tmp_path) == {"run.json", living.name, other.name}


def test_what_a_killed_writer_has_left_goes_before_its_parent_knows_of_its_death(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "600"]) as killed:
        left = tmp_path / f".run.json.{killed.pid}.new"
        left.touch()
        killed.kill()
        os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)
        write_atomically(tmp_path / "run.json", b"{}")
        assert not left.exists()


def test_a_writer_that_is_killed_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    program = """
import os, sys
from pathlib import Path
from roboticks_tasks.disk import replacing
with replacing(Path(sys.argv[1])) as stream:
    stream.write(b"half")
    stream.flush()
    os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", program, path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    write_atomically(path, b"new")
    assert names(tmp_path) == {"file"}


def test_a_write_that_is_given_up_leaves_the_old_file_and_its_own_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as stream:
        stream.write(b"half" * (1 // 0))
    assert path.read_text() == "old"
    assert names(tmp_path) == {"file"}


def test_file_and_folder_are_on_the_disk_before_a_durable_write_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(str(Path(f"/proc/self/fd/{handle}").readlink())))
    write_atomically(tmp_path / "file", b"x", durable=False)
    assert synced == []
    write_atomically(tmp_path / "file", b"x")
    assert synced == [str(tmp_path / f".file.{os.getpid()}.new"), str(tmp_path)]


def test_a_read_only_folder_is_said(small: SmallDisk) -> None:
    small.remount("ro")
    with pytest.raises(ConfigError, match="cannot be written: Read-only file system"):
        write_atomically(small.folder / "file", b"x")
    give_back(small.folder)


def test_nothing_else_than_a_full_disk_takes_from_the_reserve(tmp_path: Path) -> None:
    reserve(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="Is a directory"):
        write_atomically(tmp_path / "folder", b"x")
    assert len(names(tmp_path)) == SLOTS + 1
