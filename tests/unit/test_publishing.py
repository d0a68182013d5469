"""What a finished run is told of: whatever fails or is cancelled there, verdict and exit code are the run's."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from roboticks_tasks import publishing
from roboticks_tasks.errors import ConfigError
from roboticks_tasks.events import RunFinished, RunStarted, write_jsonl
from roboticks_tasks.history import History
from roboticks_tasks.models import RunResult
from roboticks_tasks.signals import Interruption, handled
from tests.contract.finished_run import finished_run, remote_profile

PROFILE = remote_profile("https://127.0.0.1:9")


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    """A run that has passed, and has told so once."""
    folder = tmp_path / "run"
    run = finished_run(folder, PROFILE, verdict="passed")
    tell = write_jsonl(folder / "events.jsonl")
    tell(RunStarted(run_id=run.run_id, profile="bench"))
    tell(RunFinished(run_id=run.run_id, verdict="passed", exit_code=0, reason="", duration=1.0))
    return folder


@pytest.fixture
def interruption() -> Iterator[Interruption]:
    with handled() as interruption:
        yield interruption


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that have been uploaded."""
    uploaded: list[Path] = []
    monkeypatch.setattr(publishing, "_upload", lambda _profile, artifacts, _environ: uploaded.append(artifacts))
    return uploaded


def environ(artifacts: Path) -> dict[str, str]:
    return {
        "ROBOTICKS_HISTORY": str(artifacts.parent / "history.sqlite3"),
        "GITHUB_STEP_SUMMARY": str(artifacts.parent / "summary.md"),
    }


def publish(artifacts: Path, interruption: Interruption | None) -> RunResult:
    """Publish, and return a result that is also the one on disk; nothing half written is left."""
    given = read(artifacts)
    told = publishing.publish(PROFILE, artifacts, given, interruption=interruption, environ=environ(artifacts))
    kept = read(artifacts)
    assert (told.verdict, told.exit_code, told.reason) == (kept.verdict, kept.exit_code, kept.reason)
    assert list(artifacts.rglob("*.new")) == []
    return told


def read(artifacts: Path) -> RunResult:
    return msgspec.json.decode((artifacts / "result.json").read_bytes(), type=RunResult)


def remembered(artifacts: Path) -> list[tuple[str, int]]:
    with History.open(artifacts.parent / "history.sqlite3") as history:
        return history.connection.execute("SELECT verdict, exit_code FROM run").fetchall()


def summary(artifacts: Path) -> str:
    path = artifacts.parent / "summary.md"
    return path.read_text() if path.exists() else ""


def failing(*_: object) -> Path:
    raise ConfigError("the disk is full")


def interrupted(*_: object, **__: object) -> Any:
    signal.raise_signal(signal.SIGTERM)
    raise AssertionError("the signal must have ended this")


def test_everybody_is_told_of_a_run(artifacts: Path, interruption: Interruption, uploads: list[Path]) -> None:
    told = publish(artifacts, interruption)
    assert (told.exit_code, told.cause) == (0, "none")
    assert (artifacts / "report.html").read_text().endswith("</html>")
    assert remembered(artifacts) == [("passed", 0)]
    assert summary(artifacts).count("passed") > 0
    assert uploads == [artifacts]


def test_a_report_that_cannot_be_written_costs_a_passed_run_its_code_and_nobody_else_the_news(
    artifacts: Path, interruption: Interruption, uploads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "_write_page", failing)
    told = publish(artifacts, interruption)
    assert (told.verdict, told.exit_code) == ("passed", 18)
    assert told.reason.endswith("but a report could not be written: the disk is full")
    assert remembered(artifacts) == [("passed", 18)]
    assert "the disk is full" in summary(artifacts)
    assert uploads == [artifacts]


@pytest.mark.parametrize("where", ["_examine", "_write_page", "_remember", "_tell_ci", "_upload"])
def test_a_signal_ends_what_is_being_told_and_neither_verdict_nor_code(
    artifacts: Path, interruption: Interruption, uploads: list[Path], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(publishing, where, interrupted)
    told = publish(artifacts, interruption)
    assert (told.verdict, told.exit_code, interruption.received) == ("passed", 0, signal.SIGTERM)
    assert uploads == []
    if where == "_write_page":
        assert remembered(artifacts) == [("passed", 0)]


def test_a_signal_after_a_report_has_failed_keeps_the_code_that_says_so(
    artifacts: Path, interruption: Interruption, uploads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "_write_page", failing)
    monkeypatch.setattr(publishing, "_remember", interrupted)
    assert publish(artifacts, interruption).exit_code == 18
    assert uploads == []


def with_a_signal(interruption: Interruption) -> Interruption:
    interruption.handle(signal.SIGINT, None)
    return interruption


@pytest.mark.parametrize("hurried", [with_a_signal, lambda _: None], ids=["cancelled", "its guard"])
def test_who_is_in_a_hurry_uploads_nothing_reads_less_and_waits_for_nobody(
    artifacts: Path,
    interruption: Interruption,
    uploads: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    hurried: Callable[[Interruption], Interruption | None],
) -> None:
    """The history is locked; one failed test after another is not asked about there."""
    asked: list[float] = []
    opened = History.open

    def counted(path: Path, *, patience: float) -> History:
        asked.append(patience)
        return opened(path, patience=0.01)

    monkeypatch.setattr(History, "open", counted)
    monkeypatch.setattr(publishing, "HASTE", 50)
    log = "".join(f"2026-01-01T00:00:0{number}Z INFO line {number}\n" for number in range(10))
    (artifacts / "device-manager.log").write_text(log)
    case = '<testcase classname="c" name="{}" time="0.1"><failure message="m"/></testcase>'
    cases = "".join(case.format(number) for number in range(5))
    (artifacts / "pytest.xml").write_text(f'<testsuites><testsuite name="s">{cases}</testsuite></testsuites>')
    path = artifacts.parent / "history.sqlite3"
    opened(path).close()
    result = msgspec.structs.replace(read(artifacts), verdict="failed", exit_code=1)
    (artifacts / "result.json").write_bytes(msgspec.json.encode(result))
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA journal_mode = DELETE")
    holder.execute("BEGIN EXCLUSIVE")
    try:
        publish(artifacts, hurried(interruption))
    finally:
        holder.close()
    assert asked == [0.5, 0.5]  # for the first test, and to record the run
    assert uploads == []
    timeline = (artifacts / "timeline.jsonl").read_text()
    assert "line 9" in timeline
    assert "line 1" not in timeline
    assert (artifacts / "report.html").exists()


def test_the_ci_system_is_told_once_however_often_a_run_is_torn_down(artifacts: Path, uploads: list[Path]) -> None:
    publish(artifacts, None)
    once = summary(artifacts)
    assert once
    run_id = read(artifacts).run_id
    tell = write_jsonl(artifacts / "events.jsonl")
    tell(RunFinished(run_id=run_id, verdict="passed", exit_code=0, reason="", duration=1.0))
    publish(artifacts, None)
    assert summary(artifacts) == once
    assert uploads == []
