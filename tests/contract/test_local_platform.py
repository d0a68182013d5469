"""The local platform as runs use it: started by the first, stopped by the last, and left alone when it is people's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from roboticks_tasks.backend import local, users
from roboticks_tasks.backend.local import STARTED_BY_RUN, ensure_local, in_use, release_local
from roboticks_tasks.models import BackendRef
from roboticks_tasks.profiles.values import LocalPlatform
from tests.contract.platform_process import running


def test_the_run_that_starts_it_stops_it(tmp_path: Path) -> None:
    options = LocalPlatform(directory=str(tmp_path / "platform"))
    first = ensure_local(options, run=tmp_path / "one")
    second = ensure_local(options, run=tmp_path / "two")
    assert first.pid == second.pid
    # Both runs are this very process, so the one that stays counts as alive.
    assert release_local(tmp_path / "platform", run=tmp_path / "one") == "left running: it is still in use"
    assert release_local(tmp_path / "platform", run=tmp_path / "two") == "stopped"
    assert release_local(tmp_path / "platform", run=tmp_path / "two") == "not running"


def test_one_that_people_started_is_used_and_left_running(tmp_path: Path) -> None:
    folder = tmp_path / "platform"
    with running(folder) as platform:
        (folder / STARTED_BY_RUN).write_text("1")  # what a run that was killed has left
        used = ensure_local(LocalPlatform(directory=str(folder)), run=tmp_path / "one")
        assert used.pid == platform.process.pid
        assert release_local(folder, run=tmp_path / "one") == "left running: it was started by hand"
        assert platform.process.poll() is None


def test_where_none_was_started_there_is_none_to_stop(tmp_path: Path) -> None:
    assert release_local(tmp_path / "platform", run=tmp_path / "one") == "none was started"


def test_one_that_is_in_use_stays_until_the_block_has_ended(tmp_path: Path) -> None:
    used = ensure_local(LocalPlatform(directory=str(tmp_path / "platform")), run=tmp_path / "one")
    with in_use(used, run=tmp_path / "two"):
        assert release_local(tmp_path / "platform", run=tmp_path / "one") == "left running: it is still in use"
    assert release_local(tmp_path / "platform", run=tmp_path / "one") == "not running"


def damaged(folder: Path) -> None:
    folder.mkdir()
    (folder / "users").touch()


def locked(folder: Path) -> None:
    folder.mkdir()
    (folder / "users.lock").mkdir()


def gone(folder: Path) -> None:
    """Somebody has removed it."""


@pytest.mark.parametrize("harm", [damaged, locked, gone])
def test_one_whose_folder_cannot_be_used_keeps_nobody_from_what_is_done_meanwhile(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    folder = tmp_path / "platform"
    harm(folder)
    done = False
    with in_use(BackendRef(kind="local", url="http://127.0.0.1:9", directory=str(folder)), run=tmp_path / "one"):
        done = True
    assert done


def test_one_whose_folder_is_kept_locked_keeps_nobody_from_it_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "ANSWER_TIMEOUT", 0.05)
    backend = BackendRef(kind="local", url="http://127.0.0.1:9", directory=str(tmp_path))
    with users.exclusive(tmp_path), in_use(backend, run=tmp_path / "one"):
        assert not (tmp_path / "users").exists()
