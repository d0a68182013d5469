"""The local platform as runs use it: started by the first, stopped by the last, and left alone when it is people's."""

from __future__ import annotations

from pathlib import Path

from roboticks_tasks.backend.local import STARTED_BY_RUN, ensure_local, release_local
from roboticks_tasks.profiles.values import LocalPlatform
from tests.contract.platform_process import running


def test_the_run_that_starts_it_stops_it(tmp_path: Path) -> None:
    options = LocalPlatform(directory=str(tmp_path / "platform"))
    first = ensure_local(options, run=tmp_path / "one")
    second = ensure_local(options, run=tmp_path / "two")
    assert first.pid == second.pid
    # Both runs are this very process, so the one that stays counts as alive.
    assert release_local(tmp_path / "platform", run=tmp_path / "one") == "left running: another run uses it"
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
