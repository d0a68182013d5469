"""Logs that do not grow beyond a size: both ends are kept, in order, whatever disk and process do meanwhile."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from roboticks_tasks.bounded import LAST, WIDEST, BoundedLog, assemble, gap, last_lines
from tests.contract.small_disk import SmallDisk, open_small_disk

GAP = re.compile(rb"\n--- (\d+) bytes left out ---\n")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pytest.log"


def write(path: Path, pieces: list[bytes], limit: int) -> None:
    with BoundedLog(path, limit=limit) as log:
        for piece in pieces:
            log.write(piece)


@given(lengths=st.lists(st.integers(0, 130), max_size=20))
@example(lengths=[100] * 20)
def test_what_fits_is_kept_whole_and_of_the_rest_both_ends(
    lengths: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path, limit = tmp_path_factory.mktemp("log") / "log", 160
    numbers = b" ".join(b"%d" % number for number in range(1_000))
    ends = list(accumulate(lengths))
    write(path, [numbers[end - length : end] for length, end in zip(lengths, ends, strict=True)], limit)
    whole, kept = numbers[: sum(lengths)], path.read_bytes()
    if len(whole) <= limit:
        assert kept == whole
    elif len(whole) > limit + 60:
        found = GAP.search(kept)
        assert found
        head, end = kept[: found.start()], kept[found.end() :]
        assert head == whole[:40]
        assert 60 <= len(end) <= 120
        assert whole.endswith(end)
        assert len(head) + int(found.group(1)) + len(end) == len(whole)
    assert [each.name for each in path.parent.iterdir()] == ["log"]


def test_the_log_of_a_killed_program_is_put_together_by_whoever_comes_next(path: Path) -> None:
    program = """
import os, sys
from pathlib import Path
from roboticks_tasks.bounded import BoundedLog
log = BoundedLog(Path(sys.argv[1]), limit=160)
for number in range(100):
    log.write(b"%09d\\n" % number)
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", program, path], check=False).returncode == -9
    assert path.read_bytes() == b"".join(b"%09d\n" % number for number in range(4))
    assemble(path)
    numbers = [int(line) for line in path.read_text().splitlines() if line.isdecimal()]
    assert numbers == [0, 1, 2, 3, *range(numbers[4], 100)]
    assert len(numbers) >= 10
    before = path.read_bytes()
    assemble(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_new_log_has_nothing_of_an_older_one(path: Path) -> None:
    (path.parent / ".pytest.log.from-40").write_bytes(b"old")
    path.write_bytes(b"old")
    write(path, [b"new"], 160)
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_to_put_nothing_together_needs_no_file(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assemble(path)
    assert not path.exists()
    assert caplog.text == ""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with open_small_disk(tmp_path, size="1m") as mounted:
        if mounted is None:
            pytest.skip("this machine allows no mounts")
        yield mounted


def test_a_full_disk_loses_bytes_says_so_once_and_is_written_again_when_it_has_room(
    disk: SmallDisk, caplog: pytest.LogCaptureFixture
) -> None:
    path = disk.folder / "pytest.log"
    with BoundedLog(path) as log:
        log.write(b"before\n")
        disk.fill()
        for _ in range(3):
            log.write(b"lost\n" * 2_000)
        disk.empty()
        log.write(b"after\n")
    kept = path.read_bytes()
    assert kept.startswith(b"before\n")
    assert kept.endswith(b"after\n")
    found = re.search(rb"\n--- (\d+) bytes lost: the disk did not take them ---\n", kept)
    assert found
    assert len(kept) - len(found.group()) + int(found.group(1)) == len(b"before\nafter\n") + 30_000
    assert caplog.messages == [f"{path} is cut off: No space left on device"]


def test_a_flood_on_a_full_disk_ends_with_its_beginning_and_no_error(disk: SmallDisk) -> None:
    path = disk.folder / "pytest.log"
    with BoundedLog(path, limit=4 << 20) as log:
        for _ in range(100):
            log.write(bytes(100_000))
    assert path.read_bytes().startswith(bytes(500_000))


def test_the_last_lines_of_a_large_file_are_read_from_its_end(path: Path) -> None:
    path.write_bytes(b"x" * (LAST * 3) + b"\n" + b"y" * 5_000 + b"\n" + b"\xff one\ntwo\n")
    wide, one, two = last_lines(path)[-3:]
    assert wide == "y" * WIDEST + "\u2026 (5000 characters)"
    assert (one, two) == ("\N{REPLACEMENT CHARACTER} one", "two")
    assert last_lines(path, 1) == ["two"]


def test_the_last_line_of_a_file_that_is_one_line_is_its_end(path: Path) -> None:
    path.write_bytes(b"x" * (LAST * 2))
    assert last_lines(path) == ["x" * WIDEST + f"\u2026 ({LAST} characters)"]
    path.write_bytes(b"one\ntwo")
    assert last_lines(path) == ["one", "two"]
    path.write_bytes(b"")
    assert last_lines(path) == []


def test_a_gap_is_a_line_of_its_own() -> None:
    assert gap(7) == b"\n--- 7 bytes left out ---\n"
