"""The history under real trouble: writers at once, locks, damage, a full disk, death in the middle."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from roboticks_tasks.history import History, HistoryError
from roboticks_tasks.history.rows import Window, read_runs, read_table
from tests.conditions import until
from tests.contract.small_disk import open_small_disk
from tests.unit.made_history import Made, finished

ROOT = Path(__file__).parents[2]

WRITER = """
import sys
from pathlib import Path
from roboticks_tasks.history import History
from tests.unit.made_history import Made, finished
first, count, path = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
for number in range(first, first + count):
    with History.open(path) as history:
        history.record(finished(Made(1, 0, {test: (False, False) for test in range(40)}), number))
    if number == first:
        print("begun", flush=True)
"""


def writer(path: Path, first: int, count: int, enter: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    argv = [*enter, sys.executable, "-c", WRITER, str(first), str(count), str(path)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite3"


def whole(path: Path) -> int:
    """Return how many runs there are, each of them with all its tests, in a file that is sound."""
    with History.open(path) as history:
        assert history.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        runs = read_runs(history, Window(), 1)[0]
        assert sum(cell.runs for cell in read_table(history, Window()).cells) == 40 * runs
        return runs


def test_many_runs_write_at_once_into_a_file_that_none_of_them_has_made(path: Path) -> None:
    writers = [writer(path, 100 * number, 15) for number in range(6)]
    for each in writers:
        _, errors = each.communicate(timeout=60)
        assert (each.returncode, errors) == (0, "")
    assert whole(path) == 6 * 15


def test_a_writer_that_is_killed_leaves_the_file_whole(path: Path) -> None:
    for number in range(3):
        with writer(path, 10_000 * number, 10_000) as process:
            assert process.stdout
            assert process.stdout.readline() == "begun\n"
            until(partial(grown, path, size(path)), "another run")
            process.send_signal(signal.SIGKILL)
        assert whole(path) > 0


def grown(path: Path, before: int) -> bool:
    return size(path) != before


def size(path: Path) -> int:
    journal = path.with_name(f"{path.name}-wal")
    return path.stat().st_size + (journal.stat().st_size if journal.exists() else 0)


def test_a_locked_file_is_left_alone_and_said_so(path: Path) -> None:
    History.open(path).close()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with History.open(path, patience=0.1) as history:
        with pytest.raises(HistoryError, match="another program has it locked; try again"):
            history.record(finished(Made(1, 0, {}), 1))
        holder.execute("ROLLBACK")
        holder.close()
        history.record(finished(Made(1, 0, {}), 1))
        assert read_runs(history, Window(), 1)[0] == 1


@pytest.mark.parametrize(
    "content", [b"this is no database, but it has some length" * 50, b"SQLite format 3\0" + b"\xff" * 4000]
)
def test_a_damaged_file_is_left_as_it_is_and_said_so(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(HistoryError, match="cannot be used"):
        History.open(path)
    assert path.read_bytes() == content
    assert sorted(each.name for each in path.parent.iterdir()) == [path.name]


def test_a_file_whose_pages_are_damaged_is_a_sentence(path: Path) -> None:
    with History.open(path) as history:
        history.record(*(finished(Made(1, 0, dict.fromkeys(range(40), (False, False))), each) for each in range(50)))
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(HistoryError, match="cannot be used: it is damaged"), History.open(path) as history:
        history.record(finished(Made(1, 0, {0: (False, False)}), 99))
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("pragma", "words"), [("user_version = 99", "has version 99"), ("application_id = 1", "another program's")]
)
def test_a_newer_file_and_another_programs_are_left_as_they_are(path: Path, pragma: str, words: str) -> None:
    History.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA {pragma}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(HistoryError, match=words):
        History.open(path)
    assert path.read_bytes() == before


def test_a_folder_in_its_place_or_a_file_in_its_way_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "history"):
        with pytest.raises(HistoryError, match="cannot be used"):
            History.open(path)


def test_a_full_and_a_read_only_disk_lose_nothing(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    with open_small_disk(place, size="2m") as disk:
        if disk is None:
            pytest.skip("this machine allows no mounts")
        path = place / "history.sqlite3"
        enter = tuple(disk.enter)
        with writer(path, 0, 5, enter) as process:
            assert process.wait(60) == 0
        for trouble, words in ((disk.fill, "free space"), (lambda: disk.remount("ro"), "can be written")):
            trouble()
            with writer(path, 100, 1, enter) as process:
                assert process.stderr
                assert words in process.stderr.read()
        disk.remount("rw")
        disk.empty()
        with writer(path, 5, 5, enter) as process:
            assert process.wait(60) == 0
        copy = tmp_path / "copy"  # SQLite would follow the link into the other name space back into this one
        copy.write_bytes((disk.folder / path.name).read_bytes())
        assert whole(copy) == 10
