"""What the history remembers, and where."""

from __future__ import annotations

import sqlite3
import stat
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from roboticks_tasks.history import History, HistoryError, location, schema
from roboticks_tasks.history.report import look
from roboticks_tasks.history.rows import Window, read_runs, read_table
from roboticks_tasks.models import Provenance, StepResult
from roboticks_tasks.reporting.values import Finished
from tests.unit.made_history import Made, commit_of, finished, make

NOW = datetime.now(UTC)
NODEID = "tests/test_robot.py::test_0"


def run(number: int, *outcomes: bool, commit: int = 1, board: int = 0, rescued: bool = False) -> Finished:
    """Return a run of today whose tests have failed or not."""
    tests = {test: (bad, bad and rescued) for test, bad in enumerate(outcomes)}
    return finished(Made(commit, board, tests), number, begin=NOW - timedelta(days=30))


def with_origin(finished: Finished, **values: object) -> Finished:
    origin = msgspec.structs.replace(finished.result.provenance, **values)
    return msgspec.structs.replace(finished, result=msgspec.structs.replace(finished.result, provenance=origin))


def test_it_is_the_users_own_where_the_variables_say(tmp_path: Path) -> None:
    assert location({"ROBOTICKS_HISTORY": "/srv/lab.sqlite3", "HOME": "/h"}) == Path("/srv/lab.sqlite3")
    assert location({"XDG_DATA_HOME": "/data", "HOME": "/h"}) == Path("/data/roboticks/history.sqlite3")
    assert location({"XDG_DATA_HOME": "not-absolute", "HOME": "/h"}) == Path(
        "/h/.local/share/roboticks/history.sqlite3"
    )
    path = tmp_path / "a" / "b" / "history.sqlite3"
    with History.open(path) as history:
        history.record(run(1, False))
        modes = {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_run_is_remembered_with_all_that_it_was(tmp_path: Path) -> None:
    with History.open(tmp_path / "h") as history:
        history.record(run(1, False, True, board=3))
        rows = history.connection.execute("SELECT * FROM run").fetchall()
        steps = history.connection.execute("SELECT name, outcome FROM step").fetchall()
        outcomes = history.connection.execute(
            "SELECT outcome, failed, rescued, attempts, duration FROM outcome"
        ).fetchall()
        assert rows[0][1:7] == ("run-1", "jetson", "board-3", "failed", 1, "1 of 2 tests failed")
        assert rows[0][9:15] == (commit_of(1), 0, "main", None, None, "DSN-3")
        assert steps == [("await_dsn", "ok"), ("await_session", "ok")]
        assert outcomes == [("passed", 0, 0, 1, 0.1), ("failed", 1, 0, 1, 0.1)]


def test_the_same_run_once_more_replaces_it(tmp_path: Path) -> None:
    with History.open(tmp_path / "h") as history:
        history.record(run(1, True, True))
        history.record(run(1, False))
        assert [each.verdict for each in read_runs(history, Window(), 9)[1]] == ["passed"]
        assert len(read_table(history, Window()).cells) == 1


def test_a_refused_run_never_was(tmp_path: Path) -> None:
    refused = run(1)
    with History.open(tmp_path / "h") as history:
        history.record(
            msgspec.structs.replace(refused, result=msgspec.structs.replace(refused.result, run_id="refused"))
        )
        assert read_runs(history, Window(), 9) == (0, [])


def test_words_and_numbers_that_no_database_holds_are_no_obstacle(tmp_path: Path) -> None:
    odd = run(1, True)
    case = msgspec.structs.replace(odd.cases[0], nodeid="\ud800" * 5000, duration=float("nan"), attempts=2**70)
    result = msgspec.structs.replace(
        odd.result, reason="\x00\udc80", started_at="yesterday", duration=float("inf"), steps=(
            StepResult(name="deploy", outcome="ok", duration=float("nan")),
            StepResult(name="deploy", outcome="ok", duration=1),
        ),
    )  # fmt: skip
    with History.open(tmp_path / "h") as history:
        history.record(msgspec.structs.replace(odd, result=result, cases=(case, case)))
        found = read_runs(history, Window(), 9)[1][0]
        assert abs(found.began - time.time()) < 3600
        assert look(history, Window()).report.steps[0].median == 1


def test_old_runs_are_forgotten_a_few_at_a_time_and_all_of_them_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [finished(Made(1, 0, {0: (False, False)}), number, begin=NOW - timedelta(days=500)) for number in range(50)]
    with History.open(tmp_path / "h") as history:
        history.record(*old)
        assert read_runs(history, Window(), 1)[0] == 30
        history.record(run(600, False, commit=2))
        assert read_runs(history, Window(), 1)[0] == 11
        assert history.prune(100) == 10
        counts = [history.connection.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0] for name in (  # noqa: S608
            "run", "step", "outcome", "test", "change", "board")]  # fmt: skip
        assert counts == [1, 2, 1, 1, 1, 1]
        monkeypatch.setattr("roboticks_tasks.history.store.KEPT_RUNS", 3)
        history.record(*(run(number, False) for number in range(5)))
        assert read_runs(history, Window(), 1)[0] == 3
        assert history.prune(0) == 3


def test_a_note_tells_of_the_same_commit(tmp_path: Path) -> None:
    with History.open(tmp_path / "h") as history:
        history.record(*(run(number, number < 3, board=number % 2) for number in range(10)))
        assert history.flaky_note(NODEID, commit_of(1)) == "failed in 3 of 10 runs of this same commit, on 2 boards"
        others = "failed in 2 of 9 other runs of this same commit, on 2 boards"
        assert history.flaky_note(NODEID, commit_of(1), besides="run-0") == others
        history.record(run(20, False, commit=2), run(21, True, commit=2))
        assert (
            history.flaky_note(NODEID, commit_of(2), besides="run-21")
            == "passed in 1 other run of this same commit, on 1 board"
        )
        assert history.flaky_note(NODEID, commit_of(3)) == (
            "failed in 4 of 12 runs of 2 other commits on which it has passed, too, on 2 boards"
        )
        assert history.flaky_note(NODEID, None) == history.flaky_note(NODEID, commit_of(3))


def test_a_note_says_nothing_of_what_always_fails_or_is_not_known(tmp_path: Path) -> None:
    with History.open(tmp_path / "h") as history:
        history.record(run(1, True), run(2, True), with_origin(run(3, False), is_dirty=True), run(4, False, commit=2))
        assert history.flaky_note(NODEID, commit_of(1)) is None
        assert history.flaky_note("tests/test_other.py::test", commit_of(1)) is None
        history.record(run(5, True, rescued=True))
        assert history.flaky_note(NODEID, commit_of(1)) == (
            "failed in 3 of 3 runs of this same commit, on 1 board; 1 of them passed when run again"
        )


def test_what_the_file_counts_is_what_the_runs_were(tmp_path: Path) -> None:
    made = make(3, runs=80, tests=6, boards=3, runs_per_commit=10, flaky_tests={2: 0.3}, reruns=True)
    with History.open(tmp_path / "h") as history:
        history.record(*(finished(each, number, begin=NOW - timedelta(days=30)) for number, each in enumerate(made)))
        read = read_table(history, Window())
        assert sum(cell.runs for cell in read.cells) == 80 * 6
        assert sum(cell.failed for cell in read.cells) == sum(bad for each in made for bad, _ in each.tests.values())
        assert sum(cell.rescued for cell in read.cells) == sum(
            saved for each in made for _, saved in each.tests.values()
        )
        assert len(read.failures) == sum(cell.failed for cell in read.cells)
        assert sorted(read_table(history, Window(profile="jetson")).cells) == sorted(read.cells)
        assert read_table(history, Window(profile="sim")).cells == []
        assert sum(cell.runs for cell in read_table(history, Window(last=7)).cells) == 7 * 6
        begun = (NOW - timedelta(days=30) + timedelta(hours=70)).timestamp()
        assert sum(cell.runs for cell in read_table(history, Window(since=begun - 1)).cells) == 10 * 6


def test_runs_of_changed_trees_are_not_compared(tmp_path: Path) -> None:
    with History.open(tmp_path / "h") as history:
        history.record(*(with_origin(run(number, number % 2 == 0), is_dirty=True) for number in range(40)))
        history.record(*(with_origin(run(number, number % 2 == 0), commit=None) for number in range(40, 80)))
        report = look(history, Window()).report
        assert (report.tests, report.boards, report.broken) == ((), (), ())


def test_an_older_file_is_brought_up_to_date_and_keeps_its_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with History.open(tmp_path / "h") as history:
        history.record(run(1, False))
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, ("ALTER TABLE run ADD COLUMN weather TEXT",)))
    with History.open(tmp_path / "h") as history:
        assert history.connection.execute("SELECT run_id, weather FROM run").fetchall() == [("run-1", None)]
        assert history.connection.execute("PRAGMA user_version").fetchone() == (2,)
    monkeypatch.undo()
    with pytest.raises(HistoryError, match="has version 2, this program knows up to 1: it was left as it is"):
        History.open(tmp_path / "h")


def test_an_upgrade_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    History.open(tmp_path / "h").close()
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, ("CREATE TABLE more (x)", "nonsense")))
    with pytest.raises(HistoryError):
        History.open(tmp_path / "h")
    with sqlite3.connect(tmp_path / "h") as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'more'").fetchone() is None
    connection.close()


def test_on_a_network_file_system_there_is_no_write_ahead_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    line = "36 35 0:53 / {} rw,relatime shared:1 - {} server:/export rw\n"
    where = str(tmp_path / "net work").replace(" ", "\\040")
    (tmp_path / "net work").mkdir()
    mounts.write_text(line.format("/", "ext4") + line.format(where, "nfs4") + "broken\n")
    assert schema.on_network(tmp_path / "net work" / "h", mounts)
    assert not schema.on_network(tmp_path / "h", mounts)
    assert not schema.on_network(tmp_path / "h", tmp_path / "missing")
    monkeypatch.setattr(schema, "on_network", lambda path: True)
    with History.open(tmp_path / "net work" / "h") as history:
        assert history.connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert history.connection.execute("PRAGMA synchronous").fetchone() == (2,)
        history.record(run(1, False))
    monkeypatch.undo()
    with History.open(tmp_path / "net work" / "h") as history:
        assert history.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert history.connection.execute("PRAGMA synchronous").fetchone() == (1,)
        assert read_runs(history, Window(), 9)[0] == 1


def test_a_run_without_a_commit_or_a_board_is_remembered_too(tmp_path: Path) -> None:
    bare = run(1, True)
    result = msgspec.structs.replace(bare.result, board_id=None, provenance=Provenance())
    with History.open(tmp_path / "h") as history:
        history.record(msgspec.structs.replace(bare, result=result))
        assert read_runs(history, Window(), 9)[1][0].board is None
