"""The run folder: whole or as it was before, never another run's, and honest about what it cannot write."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from roboticks_tasks import state
from roboticks_tasks.disk import RESERVE
from roboticks_tasks.errors import ConfigError
from roboticks_tasks.models import Binary, Dsn, StepResult
from roboticks_tasks.profiles import Profile

SIM = Profile(name="sim")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    state.create(tmp_path / "run", SIM)
    return tmp_path / "run"


def step(name: str, outcome: str = "ok") -> StepResult:
    return msgspec.convert({"name": name, "outcome": outcome, "duration": 1.5}, StepResult)


def test_what_is_saved_is_what_is_loaded(folder: Path) -> None:
    run = msgspec.structs.replace(
        state.load(folder), binary=Binary(path="/opt/dm"), dsn=Dsn(value="DSN-\u2603", source="log"), steps=(step("a"),)
    )
    state.save(folder, run)
    assert state.load(folder, "sim") == run


def test_a_new_run_gets_an_id_of_its_own(folder: Path) -> None:
    first = state.load(folder).run_id
    assert state.create(folder, SIM).run_id != first


def test_run_folders_of_the_same_second_differ(tmp_path: Path) -> None:
    assert state.fresh_folder(tmp_path, "sim") != state.fresh_folder(tmp_path, "sim")
    assert list(tmp_path.iterdir()) == []


def test_a_new_run_removes_what_could_be_taken_for_its_own_and_nothing_else(tmp_path: Path) -> None:
    keep = ("test-run.log", "notes.txt")
    for name in (*state.STALE_FILES, "console.log.1", ".pytest.log.from-7", *keep):
        (tmp_path / name).write_text("old")
    state.create(tmp_path, SIM)
    assert {path.name for path in tmp_path.iterdir() if RESERVE not in path.name} == {state.STATE_FILE, *keep}
    assert state.load(tmp_path).profile == "sim"


def test_the_stale_files_are_those_that_a_verdict_is_read_from() -> None:
    assert {"result.json", "results.xml", "pytest.xml", "run.json", "tests.jsonl"} <= set(state.STALE_FILES)


def test_a_step_is_added_with_its_value(folder: Path) -> None:
    run = state.with_step(state.load(folder), step("ensure_binary"), binary=Binary(path="/opt/dm"))
    run = state.with_step(run, step("await_dsn"), dsn=Dsn(value="D", source="log"))
    assert [each.name for each in run.steps] == ["ensure_binary", "await_dsn"]
    assert run.binary == Binary(path="/opt/dm")
    assert run.dsn == Dsn(value="D", source="log")


def test_a_repeated_step_replaces_what_it_left_before(folder: Path) -> None:
    run = state.with_step(state.load(folder), step("deploy", "failed"))
    run = state.with_step(run, step("await_dsn"), dsn=Dsn(value="old", source="log"))
    run = state.with_step(run, step("deploy"))
    run = state.with_step(run, step("await_dsn"), dsn=Dsn(value="new", source="state"))
    assert [(each.name, each.outcome) for each in run.steps] == [("deploy", "ok"), ("await_dsn", "ok")]
    assert run.dsn == Dsn(value="new", source="state")


def test_a_folder_without_a_run_is_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not a run folder: run\.json: No such file.*start with `ensure-binary`"):
        state.load(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"run_id": "x"}', b'{"run_id": "\xff", "profile": "sim", "started_at": ""}']
)
def test_a_damaged_state_is_called_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / state.STATE_FILE).write_bytes(content)
    with pytest.raises(ConfigError, match=r"run\.json is damaged or of another version"):
        state.load(tmp_path)


def test_a_run_of_another_profile_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="holds a run of profile 'sim', not 'jetson'; use --profile sim"):
        state.load(folder, "jetson")


def test_the_latest_run_is_the_one_pointed_at_last(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        state.point_latest(tmp_path / name, "sim")
        assert state.latest_folder(tmp_path, "sim") == tmp_path / name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "sim-latest", "two"]


def test_the_latest_link_still_points_when_the_whole_tree_has_moved(tmp_path: Path) -> None:
    (tmp_path / "here" / "one").mkdir(parents=True)
    state.point_latest(tmp_path / "here" / "one", "sim")
    (tmp_path / "here").rename(tmp_path / "there")
    assert state.latest_folder(tmp_path / "there", "sim") == tmp_path / "there" / "one"


def test_without_a_run_there_is_no_latest_one(tmp_path: Path) -> None:
    (tmp_path / "other-latest").mkdir()
    (tmp_path / "sim-latest").symlink_to("removed")
    with pytest.raises(ConfigError, match=r"no run of profile 'sim' in .*--artifacts"):
        state.latest_folder(tmp_path, "sim")


def test_a_write_replaces_the_file_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    with path.open("rb") as reader:
        state.write_atomically(path, b"after")
        assert reader.read() == b"before"
    assert path.read_bytes() == b"after"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"the output folder .*/file/run cannot be written: Not a directory; .*--art"):
        state.create(tmp_path / "file" / "run", SIM)


def test_a_stale_file_that_cannot_be_removed_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "results.xml").mkdir()
    with pytest.raises(ConfigError, match="cannot be written: Is a directory"):
        state.create(tmp_path, SIM)


def test_a_folder_without_permission_is_said_in_a_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    user = os.geteuid()
    if user == 0:  # root may write anywhere, so be nobody for a moment
        os.seteuid(65534)
    try:
        with pytest.raises(ConfigError, match="cannot be written: Permission denied"):
            state.create(tmp_path, SIM)
    finally:
        if user == 0:
            os.seteuid(0)


def test_a_full_disk_leaves_the_old_state_and_a_sentence(folder: Path) -> None:
    # A file size limit breaks a write in the middle, as a full disk does.
    program = """
import resource, signal, sys
from pathlib import Path
from roboticks_tasks import state
from roboticks_tasks.errors import ConfigError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
try:
    state.write_atomically(Path(sys.argv[1]) / state.STATE_FILE, b"x" * 10_000)
except ConfigError as error:
    print(error)
"""
    before = (folder / state.STATE_FILE).read_bytes()
    done = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"the output folder {folder} cannot be written: File too large; free space or")
    assert [path.name for path in folder.iterdir() if RESERVE not in path.name] == [state.STATE_FILE]
    assert (folder / state.STATE_FILE).read_bytes() == before


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_an_earlier_runs_tests_attached_is_no_attachment_of_this_one(tmp_path: Path, kind: str) -> None:
    attached, others = tmp_path / "run" / "attachments", tmp_path / "others"
    attached.parent.mkdir()
    others.mkdir()
    (others / "kept").touch()
    if kind == "folder":
        (attached / "test").mkdir(parents=True)
        (attached / "test" / "file").touch()
    elif kind == "file":
        attached.touch()
    else:
        attached.symlink_to(others)
    state.create(attached.parent, SIM)
    assert not attached.exists()
    assert (others / "kept").exists()
