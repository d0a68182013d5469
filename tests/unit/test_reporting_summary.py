"""The end of a run in a terminal: who is to blame, what to do, where everything is."""

from __future__ import annotations

from pathlib import Path

from roboticks_tasks.models import Composition
from roboticks_tasks.reporting.summary import summarise
from tests.unit.junit_files import a_result, counted

FOLDER = Path("test-output/a run")


def test_the_diagnosis_comes_first_then_what_to_do_and_the_reason_is_not_said_again() -> None:
    told = {"diagnosis": "The bench: its console was lost", "advice": "`roboticks-tasks doctor`"}
    lines = summarise(a_result("bench-error", 15, "no verdict", **told), FOLDER).splitlines()
    assert lines[:2] == [
        "bench-error: The bench: its console was lost",
        "  next      `roboticks-tasks doctor`",
    ]
    assert lines[-2:] == [f"  folder    {FOLDER}", f"  report    {FOLDER}/report.html"]


def test_a_report_that_could_not_be_written_is_said_of_a_run_that_passed() -> None:
    reason = "1 test passed, but a report could not be written: no space"
    lines = summarise(a_result("passed", 18, reason, diagnosis="1 test passed"), FOLDER).splitlines()
    assert lines[:2] == ["passed: 1 test passed", f"  reason    {reason}"]


def test_a_run_that_passed_is_said_in_a_line_with_what_ran() -> None:
    composition = Composition(name="Hello", mode="dev", status="running")
    result = a_result(dsn="SIM-1", session_id="s", compositions=(composition,), tests=counted(passed=1))
    lines = summarise(result, FOLDER).splitlines()
    assert lines[0] == "passed: 1 test passed"
    assert lines[1:4] == [
        "  device    SIM-1, session s",
        "  running   Hello (dev)",
        "  tests     1 passed, 0 failed, 0 errors, 0 skipped",
    ]


def test_a_run_that_is_kept_says_how_to_end_it() -> None:
    text = summarise(a_result("failed", 1, "why", kept_until="2026-11-22T15:00:00+00:00"), FOLDER)
    assert "`roboticks-tasks teardown --profile sim --artifacts 'test-output/a run'` ends it before" in text
