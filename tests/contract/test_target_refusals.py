"""What a target cannot do is said in its own words, and leaves everything as it was."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from roboticks_tasks.errors import ConfigError, TargetError
from roboticks_tasks.targets import Completed
from roboticks_tasks.targets.detached import spawn_detached, stop
from roboticks_tasks.targets.files import Synced, get, put, sync_tree
from roboticks_tasks.targets.local import LocalTarget
from roboticks_tasks.targets.watch import watch
from tests.contract.flaky import FlakyTarget
from tests.contract.shells import open_tiny
from tests.contract.small_disk import SmallDisk, open_small_disk

RANDOM = random.Random(1)


class CappedTarget:
    """This machine, on which no file may grow beyond 1 MiB: a full disk where nothing may be mounted."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.folder = path

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        """Run a command under the limit."""
        capped = ["sh", "-c", 'trap "" XFSZ; ulimit -f 2048; exec "$@"', "sh", *argv]
        return LocalTarget().run(capped, stdin=stdin, timeout=timeout, repeatable=repeatable)


@pytest.fixture(params=["mounted", "capped"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk | CappedTarget]:
    """A disk that has no room for 2 MiB; where a real one cannot be had it is the capped one both times."""
    path = tmp_path / "disk"
    path.mkdir()
    with open_small_disk(path, size="1m") as mounted:
        yield mounted if mounted and request.param == "mounted" else CappedTarget(path)


NO_ROOM = "(No space left on device|File too large)"


@pytest.mark.parametrize("size", [200_000, 2_000_000])
def test_a_file_for_which_there_is_no_room_leaves_the_old_one(disk: SmallDisk | CappedTarget, size: int) -> None:
    put(disk, b"old", f"{disk.path}/file")
    if isinstance(disk, SmallDisk):
        put(disk, bytes(1_000_000 - 100_000), f"{disk.path}/other")
    elif size < 1_000_000:
        size = 2_000_000
    before = {path.name for path in disk.folder.iterdir()}
    with pytest.raises(TargetError, match=rf"/disk/file could not be written: .*{NO_ROOM}"):
        put(disk, RANDOM.randbytes(size), f"{disk.path}/file")
    assert get(disk, f"{disk.path}/file") == b"old"
    assert {path.name for path in disk.folder.iterdir()} == before


@pytest.mark.parametrize("sizes", [[2_000_000], [200_000] * 10], ids=["a large file", "many small files"])
def test_a_folder_for_which_there_is_no_room_leaves_the_old_one(
    disk: SmallDisk | CappedTarget, tmp_path: Path, sizes: list[int]
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "file").write_text("old")
    (here / "stale").write_text("stale")
    sync_tree(disk, here, f"{disk.path}/there")
    (here / "file").write_text("new")
    (here / "stale").unlink()
    for number, size in enumerate(sizes):
        (here / str(number)).write_bytes(RANDOM.randbytes(size))
    if len(sizes) > 1 and isinstance(disk, CappedTarget):
        (here / "0").write_bytes(RANDOM.randbytes(1_500_000))
    with pytest.raises(TargetError, match=rf"/disk/there could not be written: .*{NO_ROOM}"):
        sync_tree(disk, here, f"{disk.path}/there")
    assert sorted(path.name for path in (disk.folder / "there").iterdir()) == ["file", "stale"]
    assert get(disk, f"{disk.path}/there/file") == b"old"
    for number in range(len(sizes)):
        (here / str(number)).unlink()
    assert sync_tree(disk, here, f"{disk.path}/there") == Synced(sent=1, removed=1, unchanged=0)


READ_ONLY = "(Read-only file system|.*nonexistent|No such file|Permission denied)"


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[SmallDisk]:
    path = tmp_path / "disk"
    path.mkdir()
    with open_small_disk(path, size="1m") as mounted:
        if mounted is None:  # /proc takes no files either, whoever asks
            yield SmallDisk([], 1, Path("/proc"))
            return
        put(mounted, b"old", f"{path}/there/file")
        mounted.remount("ro")
        yield mounted


def test_a_read_only_file_system_is_named_and_left_as_it_was(read_only: SmallDisk, tmp_path: Path) -> None:
    here, there = tmp_path / "here", f"{read_only.path}/there"
    here.mkdir()
    (here / "file").write_text("new")
    for content in (b"new", bytes(2_000_000)):
        with pytest.raises(TargetError, match=rf"there/file could not be written: .*{READ_ONLY}"):
            put(read_only, content, f"{there}/file")
    with pytest.raises(TargetError, match=rf"there could not be written: .*{READ_ONLY}"):
        sync_tree(read_only, here, there)
    assert get(read_only, f"{there}/file") in {b"old", None}
    (here / "file").write_text("old")
    if get(read_only, f"{there}/file"):
        assert sync_tree(read_only, here, there) == Synced(sent=0, removed=0, unchanged=1)


@pytest.mark.parametrize("unwritable", ["log", "pid_file", "directory"])
def test_a_program_that_cannot_be_started_on_a_read_only_file_system_says_where(
    read_only: SmallDisk, tmp_path: Path, unwritable: str
) -> None:
    places = {"log": f"{tmp_path}/log", "pid_file": f"{tmp_path}/pid", "directory": str(tmp_path)}
    places[unwritable] = f"{read_only.path}/{'new' if unwritable == 'directory' else unwritable}"
    words = rf"sh could not be started: .*{places[unwritable]}.*: {READ_ONLY}"
    with pytest.raises(TargetError, match=words):
        spawn_detached(read_only, ["sh", "-c", f"echo >{tmp_path}/ran"], environment={}, **places)
    assert not (tmp_path / "ran").exists()


# Some busyboxes' shell finds all that is built into them, wherever PATH leads: here the shell is this machine's own.


@pytest.mark.parametrize("missing", ["sha256sum", "tar"])
def test_a_program_that_a_small_board_lacks_is_named(tmp_path: Path, missing: str) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "file").touch()
    with open_tiny(without=[missing, "sh"], also=["sh"]) as tiny:
        with pytest.raises(TargetError, match=f"there could not be written: the target has no `{missing}`; install it"):
            sync_tree(tiny, tmp_path / "here", str(tmp_path / "there"))
        put(tiny, b"small", str(tmp_path / "small"))
        with pytest.raises(TargetError, match="only a part of it arrived"):
            put(FlakyTarget(tiny, {0: "cut"}), b"smaller", str(tmp_path / "small"))
    assert (tmp_path / "small").read_bytes() == b"small"


@pytest.mark.parametrize("substitute", ["busybox", "openssl"])
def test_a_board_without_sha256sum_may_have_a_substitute(tmp_path: Path, substitute: str) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "it's a file").write_text("content")
    with open_tiny(without=["sha256sum", "sh"], also=[substitute, "sh"]) as tiny:
        expected = [Synced(1, 0, 0), Synced(0, 0, 1)]
        assert [sync_tree(tiny, tmp_path / "here", str(tmp_path / "there")) for _ in range(2)] == expected
        put(tiny, bytes(600_000), str(tmp_path / "large"))
    assert (tmp_path / "large").read_bytes() == bytes(600_000)


def test_a_board_without_setsid_says_so(tmp_path: Path) -> None:
    with (
        open_tiny(without=["setsid", "sh"], also=["sh"]) as tiny,
        pytest.raises(TargetError, match="sh could not be started: the target has no `setsid`; install"),
    ):
        spawn_detached(tiny, ["sh"], environment={}, log=f"{tmp_path}/log", pid_file=f"{tmp_path}/pid")


def test_a_file_here_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere cannot be read: No such file"):
        put(LocalTarget(), tmp_path / "nowhere", str(tmp_path / "file"))


def test_a_link_that_loses_what_is_sent_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    for name, size in {"small": 1000, "large": 600_000}.items():
        (tmp_path / "here" / name).write_bytes(RANDOM.randbytes(size))
    for command in (1, 2):
        with pytest.raises(TargetError, match="there could not be written: only a part of it arrived"):
            sync_tree(FlakyTarget(LocalTarget(), {command: "cut"}), tmp_path / "here", str(tmp_path / "there"))
    sync_tree(LocalTarget(), tmp_path / "here", str(tmp_path / "there"))
    assert (tmp_path / "there" / "large").read_bytes() == (tmp_path / "here" / "large").read_bytes()


def test_a_file_that_changes_all_the_time_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    changing = tmp_path / "here" / "file"

    class Meddler(FlakyTarget):
        def run(
            self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
        ) -> Completed:
            changing.write_bytes(RANDOM.randbytes(1000))
            return super().run(argv, stdin=stdin, timeout=timeout, repeatable=repeatable)

    changing.touch()
    with pytest.raises(TargetError, match="did not arrive whole in 3 attempts"):
        sync_tree(Meddler(LocalTarget(), {}), tmp_path / "here", str(tmp_path / "there"))
    assert not (tmp_path / "there" / "file").exists()


def test_what_takes_longer_than_it_may_is_ended(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="file could not be written: 0 s were not enough; try again"):
        put(LocalTarget(), b"content", str(tmp_path / "file"), timeout=0)


def test_a_target_that_has_no_shell_any_more_is_an_error(tmp_path: Path) -> None:
    process = spawn_detached(
        LocalTarget(), ["sleep", "60"], environment={}, log=f"{tmp_path}/log", pid_file=f"{tmp_path}/pid"
    )
    with open_tiny(without=["sh"]) as tiny:
        with pytest.raises(TargetError, match=f"process {process.pid} could not be stopped: "):
            stop(tiny, process)
        with pytest.raises(TargetError, match="/log could not be looked at: "):
            watch(tiny, process, state_path=f"{tmp_path}/state", log_path=f"{tmp_path}/log")
    assert stop(LocalTarget(), process) == "stopped"
