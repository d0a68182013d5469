"""The folders of the bench: one for all users of its boards, whoever made it, and one that is a user's own."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roboticks_tasks import bench
from roboticks_tasks.errors import ConfigError

NOBODY = 65534

MAKER = """
import os, sys
from roboticks_tasks import bench
os.umask(0o077)
print("ready", flush=True)
sys.stdin.read(1)
print(bench.shared_folder(), flush=True)
"""


DROP = f"""
import os, msgspec
from roboticks_tasks import bench, errors
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
"""
"""Become another user; only once all is imported, because our own folders need not be everyone's."""


@pytest.fixture
def open_path() -> Iterator[Path]:
    """Lend a folder that every user can reach; pytest's own is one user's alone."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def named(folder: Path) -> dict[str, str]:
    return {bench.VARIABLE: str(folder)}


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, **named(folder), "PYTHONPATH": os.pathsep.join(sys.path)}


def mode(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


# --- the folder of all users ------------------------------------------------------------------------------------------


def test_everyone_may_write_the_shared_folder_and_nobody_remove_what_is_anothers(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        folder = bench.shared_folder(named(tmp_path / "a" / "b"))
    finally:
        os.umask(before)
    assert folder == tmp_path / "a" / "b"
    assert mode(folder) == 0o1777
    assert [each.name for each in folder.parent.iterdir()] == ["b"]


def test_a_folder_that_is_there_keeps_its_rights(tmp_path: Path) -> None:
    tmp_path.chmod(0o770)
    assert bench.shared_folder(named(tmp_path)) == tmp_path
    assert mode(tmp_path) == 0o770


def test_looking_for_the_folder_makes_none(tmp_path: Path) -> None:
    assert bench.find_shared_folder(named(tmp_path / "bench")) is None
    assert not (tmp_path / "bench").exists()


def test_a_folder_that_one_user_could_make_is_preferred_to_one_that_only_another_could(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setattr(bench, "SHARED", (str(first), str(second)))
    second.mkdir()
    assert bench.shared_folder({}) == second
    assert not first.exists()
    second.rmdir()
    assert bench.shared_folder({}) == first
    second.mkdir()
    assert bench.shared_folder({}) == first


def test_where_the_first_folder_cannot_be_made_the_next_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(bench, "SHARED", (str(tmp_path / "file" / "a"), str(tmp_path / "b")))
    assert bench.shared_folder({}) == tmp_path / "b"


def test_where_no_folder_can_be_made_all_that_were_tried_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(bench, "SHARED", (str(tmp_path / "file" / "a"), str(tmp_path / "file" / "b")))
    with pytest.raises(ConfigError, match=r"file/a, .*file/b; set ROBOTICKS_BENCH"):
        bench.shared_folder({})


def test_a_link_in_its_place_is_not_followed_and_nothing_else_is_used_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    monkeypatch.setattr(bench, "SHARED", (str(tmp_path / "link"), str(tmp_path / "next")))
    for look in (bench.shared_folder, bench.find_shared_folder):
        with pytest.raises(ConfigError, match=r"link, is not a folder; .*remove it"):
            look({})
    assert not (tmp_path / "next").exists()


def test_a_folder_in_which_everyone_can_remove_leases_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigError, match=r"lets everyone remove the leases of others; `sudo chmod 1777 "):
        bench.shared_folder(named(tmp_path))


def test_a_relative_name_is_refused_because_runs_would_not_meet() -> None:
    with pytest.raises(ConfigError, match=r"ROBOTICKS_BENCH is 'bench', which is another folder for each run"):
        bench.shared_folder({bench.VARIABLE: "bench"})


def test_a_folder_of_another_user_that_cannot_be_written_is_refused(open_path: Path) -> None:
    folder = open_path / "bench"
    folder.mkdir(mode=0o755)
    if os.getuid() == 0:
        command = "from roboticks_tasks import bench; bench.shared_folder()"
        done = subprocess.run([sys.executable, "-c", DROP + command], env=environment(folder), capture_output=True)
        said = done.stderr.decode()
    else:
        folder.chmod(0o555)
        with pytest.raises(ConfigError) as refused:
            bench.shared_folder(named(folder))
        said = str(refused.value)
    assert "cannot be written by this user; `sudo chmod 1777" in said


def test_many_that_make_it_at_once_meet_in_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "bench"
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", MAKER]
    makers = [subprocess.Popen(command, env=environment(folder), stdin=pipe, stdout=pipe, text=True) for _ in range(6)]
    for maker in makers:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "ready\n"
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.write("x")
        maker.stdin.flush()
    answers = [maker.communicate()[0] for maker in makers]
    assert answers == [f"{folder}\n"] * 6
    assert mode(folder) == 0o1777
    assert [each.name for each in tmp_path.iterdir()] == ["bench"]


def test_who_comes_second_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "lease").touch()
    looks = iter([False])
    monkeypatch.setattr(bench, "_find", lambda _: tmp_path / "bench" if next(looks, True) else None)
    monkeypatch.setattr(os.path, "lexists", lambda _: False)
    assert bench.shared_folder(named(tmp_path / "bench")) == tmp_path / "bench"
    assert [each.name for each in tmp_path.rglob("*")] == ["bench", "lease"]


# --- the folder of one user -------------------------------------------------------------------------------------------


def test_the_private_folder_is_this_users_alone_and_the_same_each_time(open_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(open_path)}
    folder = bench.private_folder(environ)
    assert folder == open_path / f"roboticks-{os.getuid()}"
    assert mode(folder) == 0o700
    assert bench.private_folder(environ) == folder


@pytest.mark.parametrize("what", ["folder that others can read", "link", "file"])
def test_what_is_not_a_private_folder_is_refused(open_path: Path, what: str) -> None:
    folder = open_path / f"roboticks-{os.getuid()}"
    if what == "link":
        (open_path / "other").mkdir(mode=0o700)
        folder.symlink_to("other")
    elif what == "file":
        folder.touch(mode=0o600)
    else:
        folder.mkdir()
        folder.chmod(0o750)
    with pytest.raises(ConfigError, match="set XDG_RUNTIME_DIR"):
        bench.private_folder({"XDG_RUNTIME_DIR": str(open_path)})


@pytest.mark.parametrize("runtime", ["", "relative", "/nowhere/at/all", "/" + "long" * 20])
def test_a_runtime_folder_that_is_no_use_is_passed_over(runtime: str) -> None:
    assert bench.private_folder({"XDG_RUNTIME_DIR": runtime}) == Path(f"/tmp/roboticks-{os.getuid()}")


def test_a_private_folder_of_somebody_else_is_refused(open_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    somebody = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: somebody)
    (open_path / f"roboticks-{somebody}").mkdir(mode=0o700)
    with pytest.raises(ConfigError, match="is not a folder of this user alone"):
        bench.private_folder({"XDG_RUNTIME_DIR": str(open_path)})


# --- names ------------------------------------------------------------------------------------------------------------


@given(st.text(st.characters(codec="utf-8"), max_size=300))
def test_whatever_a_board_is_known_by_becomes_the_name_of_one_file(resource: str) -> None:
    name = bench.file_name(resource)
    assert name not in {"", ".", ".."}
    assert "/" not in name
    assert "\0" not in name
    assert len(name) < 120


def test_resources_that_differ_in_what_a_name_cannot_hold_have_different_files() -> None:
    names = {bench.file_name(each) for each in ("a b", "a/b", "a-b", "a  b", "a" * 200, "a" * 201, "\udcff", "")}
    assert len(names) == 8
