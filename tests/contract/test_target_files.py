"""Files and folders on a target: whole, checked, and only what differs travels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from roboticks_tasks.errors import TargetError
from roboticks_tasks.targets import Target
from roboticks_tasks.targets.files import Synced, exists, get, put, sync_tree
from tests.contract.flaky import FlakyTarget
from tests.contract.shells import SHELLS


@pytest.fixture(scope="module", params=list(SHELLS))
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    with SHELLS[request.param]() as opened:
        yield opened


def test_a_file_is_there_and_back_with_its_mode(target: Target, tmp_path: Path) -> None:
    path, content = str(tmp_path / "new folder" / "it's a file"), bytes(range(256)) * 1000
    put(target, content, path, mode=0o750)
    assert get(target, path) == content
    assert Path(path).stat().st_mode & 0o7777 == 0o750
    assert [each.name for each in (tmp_path / "new folder").iterdir()] == ["it's a file"]


def test_whoever_reads_a_file_while_it_is_replaced_reads_the_old_one(target: Target, tmp_path: Path) -> None:
    path = tmp_path / "file"
    put(target, b"before", str(path))
    with path.open("rb") as reader:
        put(target, b"after", str(path))
        assert reader.read() == b"before"
    assert path.read_bytes() == b"after"


def test_a_file_that_did_not_arrive_as_a_whole_replaces_nothing(target: Target, tmp_path: Path) -> None:
    path = tmp_path / "file"
    put(target, b"before", str(path))
    with pytest.raises(TargetError, match="file could not be written"):
        put(FlakyTarget(target, {0: "cut"}), b"after this", str(path))
    assert path.read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_file_that_cannot_be_written_is_said_in_the_targets_words(target: Target, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TargetError, match=r"file/x could not be written: .*(Not a directory|File exists)"):
        put(target, b"", str(tmp_path / "file" / "x"))


def test_a_file_that_is_not_there_is_none(target: Target, tmp_path: Path) -> None:
    assert get(target, str(tmp_path / "nothing")) is None


def test_the_kinds_of_files_are_told_apart(target: Target, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch(mode=0o644)
    assert exists(target, str(file))
    assert [exists(target, str(file), kind=kind) for kind in "fdx"] == [True, False, False]
    assert exists(target, str(tmp_path), kind="d")
    assert not exists(target, str(tmp_path / "nothing"))


class Trees:
    """A folder here and its copy on the target."""

    def __init__(self, target: Target, folder: Path) -> None:
        self._target = target
        self.here, self.there = folder / "here", folder / "the copy's folder"
        self.here.mkdir()

    def write(self, name: str, content: str = "content") -> Path:
        path = self.here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def sync(self) -> Synced:
        return sync_tree(self._target, self.here, str(self.there))

    def copied(self) -> dict[str, str]:
        """Return the files of the copy with their contents."""
        files = [path for path in self.there.rglob("*") if not path.is_dir()]
        return {path.relative_to(self.there).as_posix(): path.read_text() for path in files}


@pytest.fixture
def trees(target: Target, tmp_path: Path) -> Trees:
    return Trees(target, tmp_path)


def test_only_what_differs_travels(trees: Trees) -> None:
    for name in ("a", "b/c", "b/d/e"):
        trees.write(name)
    assert trees.sync() == Synced(sent=3, removed=0, unchanged=0)
    assert trees.copied() == {"a": "content", "b/c": "content", "b/d/e": "content"}
    before = (trees.there / "a").stat().st_ino
    trees.write("b/c", "changed")
    assert trees.sync() == Synced(sent=1, removed=0, unchanged=2)
    assert trees.copied()["b/c"] == "changed"
    assert (trees.there / "a").stat().st_ino == before
    assert trees.sync() == Synced(sent=0, removed=0, unchanged=3)


def test_what_is_gone_here_is_removed_there(trees: Trees) -> None:
    trees.write("keep")
    removed = [trees.write(name) for name in ("old", "folder/old", "folder/deeper/old")]
    trees.sync()
    for path in removed:
        path.unlink()
    assert trees.sync() == Synced(sent=0, removed=3, unchanged=1)
    assert trees.copied() == {"keep": "content"}
    assert [path.name for path in trees.there.iterdir()] == ["keep"]


def test_a_file_takes_the_place_of_a_folder_and_the_other_way_round(trees: Trees) -> None:
    trees.write("one/file")
    trees.write("two")
    trees.sync()
    (trees.here / "one" / "file").unlink()
    (trees.here / "one").rmdir()
    (trees.here / "two").unlink()
    trees.write("one")
    trees.write("two/file")
    trees.sync()
    assert trees.copied() == {"one": "content", "two/file": "content"}


@pytest.mark.parametrize(
    "name",
    [
        "two words",
        "it's",
        '"',
        "-rf",
        "--",
        "new\nline",
        "back\\slash",
        "a\\nb",
        " lead",
        "trail ",
        "*",
        "\u2603",
        "car\rriage",
    ],
)
def test_a_file_may_be_called_anything(trees: Trees, name: str) -> None:
    path = trees.write(name)
    trees.write(f"folder {name}/{name}", "deeper")
    assert trees.sync() == Synced(sent=2, removed=0, unchanged=0)
    assert trees.copied() == {name: "content", f"folder {name}/{name}": "deeper"}
    assert trees.sync() == Synced(sent=0, removed=0, unchanged=2)
    path.unlink()
    assert trees.sync() == Synced(sent=0, removed=1, unchanged=1)
    assert trees.copied() == {f"folder {name}/{name}": "deeper"}


def test_a_name_that_is_longer_than_an_old_archive_can_hold_arrives(trees: Trees) -> None:
    name = "/".join(["a folder with a long name \u00fc"] * 6) + "/" + "x" * 150
    trees.write(name)
    trees.sync()
    assert trees.copied() == {name: "content"}


def test_links_are_followed(trees: Trees, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "deeper").mkdir(parents=True)
    (elsewhere / "deeper" / "file").write_text("shared")
    (trees.here / "file").symlink_to(elsewhere / "deeper" / "file")
    (trees.here / "folder").symlink_to(elsewhere)
    (trees.here / "dangling").symlink_to("nowhere")
    assert trees.sync().sent == 2
    assert trees.copied() == {"file": "shared", "folder/deeper/file": "shared"}
    assert not any(path.is_symlink() for path in trees.there.rglob("*"))
    assert trees.sync() == Synced(sent=0, removed=0, unchanged=2)


def test_links_on_the_target_are_replaced_and_what_they_lead_to_is_left_alone(trees: Trees, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    trees.write("file")
    trees.write("folder/file")
    trees.sync()
    for path in ("file", "folder/file", "folder"):
        (trees.there / path).rmdir() if (trees.there / path).is_dir() else (trees.there / path).unlink()
    (trees.there / "file").symlink_to(outside / "file")
    (trees.there / "folder").symlink_to(outside)
    (trees.there / "left\nover").symlink_to(outside)
    assert trees.sync() == Synced(sent=2, removed=2, unchanged=0)
    assert trees.copied() == {"file": "content", "folder/file": "content"}
    assert not any(path.is_symlink() for path in trees.there.rglob("*"))
    assert (outside / "file").read_text() == "precious"
    assert trees.sync() == Synced(sent=0, removed=0, unchanged=2)


def test_a_link_to_a_folder_around_it_is_not_followed_for_ever(trees: Trees) -> None:
    trees.write("folder/file")
    (trees.here / "folder" / "loop").symlink_to(trees.here)
    trees.sync()
    assert trees.copied() == {"folder/file": "content"}


def test_bytecode_neither_travels_nor_is_removed(trees: Trees) -> None:
    trees.write("module.py")
    trees.write("__pycache__/module.pyc", "ours")
    trees.write("deeper/__pycache__/module.pyc", "ours")
    (trees.there / "__pycache__").mkdir(parents=True)
    (trees.there / "__pycache__" / "module.pyc").write_text("theirs")
    assert trees.sync() == Synced(sent=1, removed=0, unchanged=0)
    assert trees.copied() == {"module.py": "content", "__pycache__/module.pyc": "theirs"}


def test_a_program_stays_executable(trees: Trees) -> None:
    program = trees.write("program")
    program.chmod(0o755)
    trees.sync()
    assert (trees.there / "program").stat().st_mode & 0o777 == 0o755


def test_a_file_that_has_become_a_program_travels_again(trees: Trees) -> None:
    trees.write("run.sh")
    trees.sync()
    (trees.here / "run.sh").chmod(0o755)
    assert trees.sync() == Synced(sent=1, removed=0, unchanged=0)
    assert os.access(trees.there / "run.sh", os.X_OK)
    assert trees.sync() == Synced(sent=0, removed=0, unchanged=1)


def test_nothing_of_the_transfer_is_left_behind(trees: Trees) -> None:
    trees.write("a/b")
    trees.sync()
    assert [path.name for path in trees.there.iterdir()] == ["a"]


def test_a_copy_that_cannot_be_written_is_said_in_the_targets_words(trees: Trees) -> None:
    trees.write("a")
    trees.there.touch()
    with pytest.raises(TargetError, match=r"the copy's folder could not be (written|compared): "):
        trees.sync()
