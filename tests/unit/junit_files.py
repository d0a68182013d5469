"""Runs and their files, for the tests of the reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from roboticks_tasks import events, state
from roboticks_tasks.models import PytestResult, RunResult, StepResult
from roboticks_tasks.reporting.lifecycle_suite import STEPS

BEGIN = 1_795_000_000.0


def a_result(verdict: str = "passed", exit_code: int = 0, reason: str = "1 test passed", **values: Any) -> RunResult:
    """Return a result; every step went well unless `steps` says otherwise."""
    known = {
        "run_id": "20261122T143134-e1a7",
        "profile": "sim",
        "started_at": "2026-11-22T14:31:34.000+00:00",
        "duration": 1.5,
        "steps": tuple(StepResult(name=name, outcome="ok", duration=0.1) for name in STEPS),
        **values,
    }
    return RunResult(verdict=verdict, exit_code=exit_code, reason=reason, **known)


def up_to(step: str, verdict: str, code: int, *, outcome: str = "failed", error: str = "why") -> tuple[StepResult, ...]:
    """Return the steps of a run that `step` ended, and its teardown."""
    before = STEPS[: STEPS.index(step)]
    values: dict[str, Any] = {"outcome": outcome, "error": error, "exit_code": code, "verdict": verdict}
    return (
        *(StepResult(name=name, outcome="ok", duration=0.1) for name in before),
        StepResult(name=step, duration=0.1, **values),
        StepResult(name="teardown", outcome="ok", duration=0.1),
    )


def counted(*, passed: int = 0, failed: int = 0, errors: int = 0, code: int | None = None) -> PytestResult:
    """Return what a run of the tests has counted."""
    code = int(bool(failed + errors)) if code is None else code
    return PytestResult(exit_code=code, junit="", passed=passed, failed=failed, errors=errors, skipped=0, duration=1)


def leave(
    folder: Path, result: RunResult, *, run: state.RunState | None = None, junit: str | bytes | None = None
) -> None:
    """Leave the files of a run in `folder`."""
    folder.mkdir(exist_ok=True)
    (folder / "result.json").write_bytes(msgspec.json.encode(result))
    if run is not None:
        (folder / "run.json").write_bytes(msgspec.json.encode(run))
    if junit is not None:
        (folder / "pytest.xml").write_bytes(junit.encode() if isinstance(junit, str) else junit)


def note(folder: Path, *noted: events.Event) -> None:
    """Append to the plugin's notes."""
    sink = events.write_jsonl(folder / "tests.jsonl")
    for each in noted:
        sink(each)


def ended(nodeid: str, outcome: str = "passed", *, begin: float = BEGIN, **values: Any) -> events.CaseFinished:
    """Return the note of a test's end."""
    file, _, name = nodeid.rpartition("::")
    classname = file.removesuffix(".py").replace("/", ".")
    known: dict[str, Any] = {"classname": classname, "name": name, "duration": 0.5, "outcome": outcome, **values}
    return events.CaseFinished(nodeid=nodeid, begin=begin, **known)
