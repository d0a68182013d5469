"""Files that are brought from a target: whole where they fit, else both ends and an honest line in between."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from roboticks_tasks.disk import reserve
from roboticks_tasks.errors import ConfigError, TargetError
from roboticks_tasks.redaction import Redactor
from roboticks_tasks.targets import Completed, Target, fetching
from roboticks_tasks.targets.fetching import BLOCK, FIRST, MOST, Fetched, fetch
from roboticks_tasks.targets.local import LocalTarget
from roboticks_tasks.waiting import Deadline
from tests.contract.shells import SHELLS
from tests.contract.small_disk import open_small_disk

RANDOM = random.Random(1)
GAP = b"\n--- %d bytes left out ---\n"


@pytest.fixture(scope="module", params=list(SHELLS))
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    with SHELLS[request.param]() as opened:
        yield opened


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "it's a * log"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "copy"


class Watched:
    """This machine; counts the commands and the bytes that they return, and does something before each."""

    def __init__(self, before: Callable[[int], None] = lambda _: None) -> None:
        self._before = before
        self.commands = self.most = self.sum = 0

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        """Run a command."""
        self._before(self.commands)
        self.commands += 1
        done = LocalTarget().run(argv, stdin=stdin, timeout=timeout, repeatable=repeatable)
        self.most, self.sum = max(self.most, len(done.stdout)), self.sum + len(done.stdout)
        return done


@pytest.mark.parametrize("size", [0, 1, FIRST, FIRST + 1, 300_000])
def test_a_file_is_brought_whole(target: Target, source: Path, copy: Path, size: int) -> None:
    source.write_bytes(RANDOM.randbytes(size))
    copy.write_text("old")
    assert fetch(target, str(source), copy) == Fetched(size, size)
    assert copy.read_bytes() == source.read_bytes()
    assert str(Fetched(size, size)) == f"{size} bytes"


def test_no_file_is_none_and_leaves_what_there_was(target: Target, source: Path, copy: Path) -> None:
    copy.write_text("old")
    assert fetch(target, str(source), copy) is None
    assert fetch(target, str(source.parent), copy) is None
    assert copy.read_text() == "old"


def test_of_a_file_that_is_too_large_both_ends_are_kept(target: Target, source: Path, copy: Path) -> None:
    content = RANDOM.randbytes(1_000_000)
    source.write_bytes(content)
    fetched = fetch(target, str(source), copy, limit=100_000)
    assert fetched is not None
    left_out = 1_000_000 - fetched.kept
    head, end = copy.read_bytes().split(GAP % left_out)
    assert 25_000 <= len(head) <= 25_000 + BLOCK
    assert 75_000 - BLOCK <= len(end) <= 75_000
    assert content.startswith(head)
    assert content.endswith(end)
    assert str(fetched) == f"{fetched.kept} of 1000000 bytes"


def test_a_file_of_a_gigabyte_costs_no_more_than_what_is_kept(source: Path, copy: Path) -> None:
    with source.open("wb") as stream:
        stream.truncate(1 << 30)
    target = Watched()
    fetched = fetch(target, str(source), copy, limit=8 << 20)
    assert fetched is not None
    assert 8 << 20 >= fetched.kept > 7 << 20
    assert target.sum < 9 << 20
    assert target.most <= MOST + 20


def test_a_file_that_grows_while_it_is_read_ends_where_it_ended_at_first(source: Path, copy: Path) -> None:
    content = RANDOM.randbytes(200_000)
    source.write_bytes(content)

    def grow(_: int) -> None:
        with source.open("ab") as stream:
            stream.write(bytes(1_000_000))

    assert fetch(Watched(grow), str(source), copy) == Fetched(1_200_000, 1_200_000)
    assert copy.read_bytes() == content + bytes(1_000_000)


def test_a_file_that_is_emptied_while_it_is_read_is_kept_as_far_as_it_came(source: Path, copy: Path) -> None:
    content = RANDOM.randbytes(200_000)
    source.write_bytes(content)

    def empty(count: int) -> None:
        if count == 1:
            source.write_bytes(b"")

    assert fetch(Watched(empty), str(source), copy) == Fetched(200_000, FIRST)
    assert copy.read_bytes() == content[:FIRST] + GAP % (200_000 - FIRST)


def test_of_a_link_that_breaks_what_came_is_kept(source: Path, copy: Path) -> None:
    def tear(count: int) -> None:
        if count == 1:
            raise TargetError("the link broke")

    source.write_bytes(bytes(200_000))
    assert fetch(Watched(tear), str(source), copy) == Fetched(200_000, FIRST, "the link broke")
    assert copy.read_bytes() == bytes(FIRST) + GAP % (200_000 - FIRST)


def test_a_link_that_is_broken_from_the_beginning_leaves_what_there_was(source: Path, copy: Path) -> None:
    def tear(_: int) -> None:
        raise TargetError("the link broke")

    source.write_bytes(b"new")
    copy.write_text("old")
    with pytest.raises(TargetError, match="the link broke"):
        fetch(Watched(tear), str(source), copy)
    assert copy.read_text() == "old"


def test_on_a_slow_link_the_end_comes_within_the_time(
    source: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now

    class Slow(Watched):
        """A serial line of 8 kB/s."""

        def run(
            self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
        ) -> Completed:
            nonlocal now
            done = super().run(argv, stdin=stdin, timeout=timeout, repeatable=repeatable)
            now += len(done.stdout) / 8192
            return done

    monkeypatch.setattr(fetching, "time", Clock)
    monkeypatch.setattr(fetching, "Deadline", lambda seconds: Deadline(seconds, clock=Clock.monotonic))
    content = RANDOM.randbytes(10_000_000)
    source.write_bytes(content)
    fetched = fetch(Slow(), str(source), copy, timeout=8.0)
    assert now < 8.0
    assert fetched is not None
    assert 30_000 < fetched.kept < 65_000
    assert copy.read_bytes().endswith(content[-BLOCK:])


def test_a_secret_is_taken_out_also_where_two_portions_meet(source: Path, copy: Path) -> None:
    source.write_bytes(b"x" * (FIRST - 4) + b"hunter22" + b"x" * 100_000)
    fetch(LocalTarget(), str(source), copy, redactor=Redactor(["hunter22"]))
    assert copy.read_bytes() == b"x" * (FIRST - 4) + b"***" + b"x" * 100_000


@pytest.mark.parametrize("cut", range(1, 8))
def test_no_part_of_a_secret_shows_on_either_side_of_what_is_left_out(source: Path, copy: Path, cut: int) -> None:
    limit = 16 * BLOCK
    head, end = limit // 4, limit * 3 // 4
    content = bytearray(b"a line of the log\n" * (40 * BLOCK // 18 + 1))[: 40 * BLOCK]
    for place in (head, len(content) - end):
        content[place - cut : place - cut + 8] = b"hunter22"
    source.write_bytes(content)
    fetched = fetch(LocalTarget(), str(source), copy, limit=limit, redactor=Redactor(["hunter22"]))
    assert fetched is not None
    first, _, last = copy.read_bytes().partition(GAP % (fetched.size - fetched.kept))
    assert first == content[: head - cut]
    assert last == content[content.index(b"\n", len(content) - end) + 1 :]


def test_the_beginning_of_a_secret_does_not_show_where_the_link_broke(source: Path, copy: Path) -> None:
    def tear(count: int) -> None:
        if count == 1:
            raise TargetError("the link broke")

    source.write_bytes(b"x" * (FIRST - 4) + b"hunter22" + b"x" * 100_000)
    fetched = fetch(Watched(tear), str(source), copy, redactor=Redactor(["hunter22"]))
    assert fetched == Fetched(FIRST + 100_004, FIRST - 4, "the link broke")
    assert copy.read_bytes() == b"x" * (FIRST - 4) + GAP % 100_008


def test_a_file_that_cannot_be_read_is_said(source: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source.write_text("x")
    monkeypatch.setattr(fetching, "PORTION", fetching.PORTION.replace('[ -r "$1" ]', "false"))  # root reads all
    with pytest.raises(TargetError, match="log could not be read: it cannot be read"):
        fetch(LocalTarget(), str(source), copy)


def test_on_a_full_disk_the_reserve_takes_a_little_of_both_ends(source: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    content = RANDOM.randbytes(3_000_000)
    source.write_bytes(content)
    with open_small_disk(tmp_path / "disk", size="1m") as disk:
        if disk is None:
            pytest.skip("this machine allows no mounts")
        reserve(disk.folder)
        disk.fill()
        fetched = fetch(LocalTarget(), str(source), disk.folder / "copy")
        assert fetched is not None
        assert 16_000 < fetched.kept < 32_000
        assert "cannot be written: No space left on device" in fetched.note
        kept = (disk.folder / "copy").read_bytes()
        assert content.startswith(kept[:1000])
        assert content.endswith(kept[-1000:])


def test_a_folder_that_cannot_be_written_is_said(source: Path, tmp_path: Path) -> None:
    source.write_text("x")
    with pytest.raises(ConfigError, match="cannot be written: No such file or directory"):
        fetch(LocalTarget(), str(source), tmp_path / "none" / "copy")
