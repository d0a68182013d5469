"""What is brought to a target arrives right whatever breaks on the way, and is not brought twice."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboticks_tasks.errors import TargetError
from roboticks_tasks.targets import Completed, Target
from roboticks_tasks.targets.batch import run_all
from roboticks_tasks.targets.detached import spawn_detached
from roboticks_tasks.targets.files import Synced, put, sync_tree
from roboticks_tasks.targets.local import LocalTarget
from roboticks_tasks.targets.staging import BLOCK, FIRST
from tests.contract.flaky import BREAKS, FlakyTarget
from tests.contract.shells import open_tiny

T = TypeVar("T")

LARGE = random.Random(1).randbytes(2 * FIRST + BLOCK + 1)
"""More than two portions."""

SOME = [dict(zip(where, how, strict=True)) for where in [(0, 1), (1, 2), (2, 3), (3, 4)] for how in [("half", "after")]]
FOLDER = [*({where: how} for where in range(5) for how in BREAKS), *SOME]
FILES = [
    *((b"small", {0: how}) for how in BREAKS),
    (b"small", SOME[0]),
    *((LARGE, {where: how}) for where in range(4) for how in BREAKS),
    *((LARGE, how) for how in SOME),
]
"""Breaks under each of the commands that it takes."""

PLACES = st.dictionaries(st.integers(0, 12), st.sampled_from(BREAKS), max_size=4)


@pytest.fixture(params=["local", "busybox"])
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    if request.param == "local":
        yield LocalTarget()
        return
    with open_tiny() as tiny:
        yield tiny


def plant(here: Path, there: Path) -> None:
    """Make a folder and an older version of it, that differ in everything that may differ."""
    files = {
        "same": b"same",
        "changed": b"new",
        "large": LARGE,
        "twin": LARGE,
        "a/b/deep": b"deep",
        "was a folder": b"",
    }
    for name, content in files.items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(content)
    (here / "twin").chmod(0o755)
    for name in ("same", "changed", "stale/file", "was a folder/file", "a"):
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).write_text("same" if name == "same" else "old")


def contents(folder: Path) -> dict[str, tuple[bytes, bool]]:
    """Return what a folder holds, empty folders included."""
    return {
        str(path.relative_to(folder)): (path.read_bytes() if path.is_file() else b"", os.access(path, os.X_OK))
        for path in folder.rglob("*")
    }


def insist(deed: Callable[[], T], *, breaks: int, gives_up: bool) -> T:
    """Try again after each break; where the transport does so itself there must be nothing to try again."""
    for _ in range(breaks if gives_up else 0):
        with suppress(TargetError):
            return deed()
    return deed()


def check_sync(target: Target, folder: Path, breaks: dict[int, str], *, gives_up: bool) -> None:
    """Bring a folder over a link that breaks, as often as it takes."""
    here, there = folder / "here", folder / "there"
    plant(here, there)
    link = FlakyTarget(target, breaks, gives_up=gives_up)
    synced = insist(lambda: sync_tree(link, here, str(there)), breaks=len(breaks), gives_up=gives_up)
    assert contents(there) == contents(here)
    if not gives_up:
        assert synced == Synced(sent=5, removed=3, unchanged=1)


@pytest.mark.parametrize("gives_up", [False, True])
@pytest.mark.parametrize("breaks", FOLDER, ids=str)
def test_a_folder_is_equal_in_the_end_wherever_the_link_breaks(
    target: Target, tmp_path: Path, breaks: dict[int, str], gives_up: bool
) -> None:
    check_sync(target, tmp_path, breaks, gives_up=gives_up)


@settings(max_examples=30, deadline=None)
@given(breaks=PLACES, gives_up=st.booleans())
def test_a_folder_is_equal_in_the_end_however_often_the_link_breaks(breaks: dict[int, str], gives_up: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check_sync(LocalTarget(), Path(folder), breaks, gives_up=gives_up)


@pytest.mark.parametrize("gives_up", [False, True])
@pytest.mark.parametrize(("content", "breaks"), FILES, ids=[f"{len(content)} bytes-{how}" for content, how in FILES])
def test_a_file_is_whole_in_the_end_wherever_the_link_breaks(
    target: Target, tmp_path: Path, breaks: dict[int, str], gives_up: bool, content: bytes
) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    link = FlakyTarget(target, breaks, gives_up=gives_up)
    with path.open("rb") as reader:
        insist(lambda: put(link, content, str(path), mode=0o750), breaks=len(breaks), gives_up=gives_up)
        assert reader.read() == b"old"
    assert link.commands > min(breaks), "it has broken"
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o750
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_what_arrived_of_a_file_before_a_break_is_not_sent_again(target: Target, tmp_path: Path) -> None:
    path = tmp_path / "file"
    first = FlakyTarget(target, {2: "half"}, gives_up=True)
    with pytest.raises(TargetError, match=r"file could not be written: the link broke; look at the cable"):
        put(first, LARGE, str(path))
    assert not path.exists()
    arrived = next(tmp_path.glob("file.incoming.*")).stat().st_size
    assert FIRST < arrived < len(LARGE)
    again = FlakyTarget(target, {})
    put(again, LARGE, str(path))
    assert path.read_bytes() == LARGE
    assert again.sent == len(LARGE) - arrived // BLOCK * BLOCK


def test_a_large_file_may_be_read_from_disk_and_is_not_sent_when_it_is_there(target: Target, tmp_path: Path) -> None:
    (tmp_path / "ours").write_bytes(LARGE)
    link = FlakyTarget(target, {})
    put(link, tmp_path / "ours", str(tmp_path / "theirs"))
    assert (tmp_path / "theirs").read_bytes() == LARGE
    assert link.sent == len(LARGE)
    put(link, tmp_path / "ours", str(tmp_path / "theirs"), mode=0o755)
    assert link.sent == len(LARGE)
    assert (tmp_path / "theirs").stat().st_mode & 0o777 == 0o755


def test_what_arrived_of_another_version_is_removed(target: Target, tmp_path: Path) -> None:
    with pytest.raises(TargetError):
        put(FlakyTarget(target, {2: "before"}, gives_up=True), LARGE, str(tmp_path / "file"))
    put(target, LARGE[::-1], str(tmp_path / "file"))
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("damage", ["cut off", "other bytes", "too long"])
def test_what_was_damaged_of_a_file_while_it_waited_is_sent_again(target: Target, tmp_path: Path, damage: str) -> None:
    with pytest.raises(TargetError):
        put(FlakyTarget(target, {2: "before"}, gives_up=True), LARGE, str(tmp_path / "file"))
    (part,) = tmp_path.iterdir()
    arrived = part.read_bytes()
    part.write_bytes({"cut off": arrived[:-1], "too long": LARGE * 2}.get(damage, bytes(len(arrived))))
    put(target, LARGE, str(tmp_path / "file"))
    assert (tmp_path / "file").read_bytes() == LARGE
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_what_arrived_of_a_folder_before_a_break_is_not_sent_again(target: Target, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    plant(here, there)
    whole = FlakyTarget(target, {})
    shutil.copytree(there, tmp_path / "other")
    sync_tree(whole, here, str(tmp_path / "other"))
    before = contents(there)
    first = FlakyTarget(target, {3: "half"}, gives_up=True)
    with pytest.raises(TargetError, match=r"there could not be written: the link broke"):
        sync_tree(first, here, str(there))
    assert {name: each for name, each in contents(there).items() if ".incoming" not in name} == before
    again = FlakyTarget(target, {})
    assert sync_tree(again, here, str(there)) == Synced(sent=5, removed=3, unchanged=1)
    assert contents(there) == contents(here)
    assert 0 < first.sent - BLOCK <= whole.sent - again.sent + BLOCK


def test_when_all_has_arrived_only_the_order_to_put_it_into_place_is_sent_again(target: Target, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    (here / "small").write_bytes(LARGE[: FIRST // 2])
    with pytest.raises(TargetError):
        sync_tree(FlakyTarget(target, {2: "before"}, gives_up=True), here, str(there))
    again = FlakyTarget(target, {})
    sync_tree(again, here, str(there))
    assert contents(there) == contents(here)
    assert (again.commands, again.sent < BLOCK) == (2, True)


def test_what_is_the_same_travels_once(target: Target, tmp_path: Path) -> None:
    plant(tmp_path / "here", tmp_path / "there")
    link = FlakyTarget(target, {})
    sync_tree(link, tmp_path / "here", str(tmp_path / "there"))
    assert len(LARGE) < link.sent < len(LARGE) + BLOCK


def test_what_arrived_of_another_version_of_a_folder_is_removed(target: Target, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    plant(here, there)
    with pytest.raises(TargetError):
        sync_tree(FlakyTarget(target, {3: "before"}, gives_up=True), here, str(there))
    (here / "large").write_bytes(LARGE[::-1])
    sync_tree(target, here, str(there))
    assert contents(there) == contents(here)


@pytest.mark.parametrize("damage", ["cut off", "other bytes"])
def test_what_was_damaged_while_it_waited_is_sent_again(target: Target, tmp_path: Path, damage: str) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    plant(here, there)
    with pytest.raises(TargetError):
        sync_tree(FlakyTarget(target, {4: "before"}, gives_up=True), here, str(there))
    for path in (there / ".incoming").iterdir():
        path.write_bytes(path.read_bytes()[:-1] if damage == "cut off" else bytes(path.stat().st_size))
    sync_tree(target, here, str(there))
    assert contents(there) == contents(here)


def test_an_unchanged_folder_costs_one_command(target: Target, tmp_path: Path) -> None:
    plant(tmp_path / "here", tmp_path / "there")
    sync_tree(target, tmp_path / "here", str(tmp_path / "there"))
    link = FlakyTarget(target, {})
    assert sync_tree(link, tmp_path / "here", str(tmp_path / "there")) == Synced(sent=0, removed=0, unchanged=6)
    assert (link.commands, link.sent) == (1, 0)


def test_what_may_not_be_done_twice_is_not(target: Target, tmp_path: Path) -> None:
    link = FlakyTarget(target, {0: "after", 1: "after", 2: "after"})
    with pytest.raises(TargetError):
        spawn_detached(
            link,
            ["sh", "-c", f"echo once >>{tmp_path}/started"],
            environment={},
            log=f"{tmp_path}/log",
            pid_file=f"{tmp_path}/pid",
        )
    count = ["sh", "-c", f"echo once >>{tmp_path}/run"]
    for commands in ([count], [count, ["true"]]):
        with pytest.raises(TargetError):
            run_all(link, commands)
    assert (tmp_path / "run").read_text() == "once\nonce\n"
    link = FlakyTarget(target, {0: "after"})
    assert [each.exit_code for each in run_all(link, [count, ["true"]], repeatable=True)] == [0, 0]


class Rival:
    """Somebody who brings the same folder to the same place, in full, just before one of our commands."""

    def __init__(self, target: Target, here: Path, there: Path, *, before: int) -> None:
        self._target, self._here, self._there, self._before = target, here, there, before

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        """Run a command, after theirs."""
        self._before -= 1
        if self._before == -1:
            sync_tree(self._target, self._here, str(self._there))
        if self._before == -1 and argv[:2] == ["sh", "-s"]:  # they have taken a file away when all have been seen
            stdin = stdin.replace(b"[ $lacking = 0 ]", b"lacking=0")
        return self._target.run(argv, stdin=stdin, timeout=timeout, repeatable=repeatable)


@pytest.mark.parametrize("names", [["twin", "other twin"], ["one"]])
@pytest.mark.parametrize("before", range(3))
def test_two_who_bring_the_same_folder_at_once_do_no_harm(
    target: Target, tmp_path: Path, before: int, names: list[str]
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    for name in names:
        (here / name).write_text("content")
    sync_tree(Rival(target, here, there, before=before), here, str(there))
    assert contents(there) == contents(here)
