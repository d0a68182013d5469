"""The verdict of a run: signal, first failing step, tests, teardown; the first that applies decides."""

from __future__ import annotations

import signal
from typing import Any

import msgspec
import pytest

from roboticks_tasks import errors
from roboticks_tasks.errors import Cancelled, Verdict
from roboticks_tasks.lifecycle.support.verdict import judge, killed_step, step_result
from roboticks_tasks.models import PytestResult, StepResult, TeardownPart, TeardownReport
from roboticks_tasks.state import RunState

FINE = StepResult(name="ensure_binary", outcome="ok", duration=0.1)
NO_DSN = step_result("await_dsn", 1.0, errors.RegistrationError("no DSN"))
NOT_TORN_DOWN = step_result("teardown", 1.0, errors.TargetError("gone"))
GREEN = PytestResult(exit_code=0, junit="", passed=3, failed=0, errors=0, skipped=1, duration=1)
RED = PytestResult(exit_code=1, junit="", passed=3, failed=1, errors=1, skipped=1, duration=1)
SWALLOWED = PytestResult(exit_code=0, junit="", passed=3, failed=1, errors=0, skipped=0, duration=1)
UNCOVERED = PytestResult(exit_code=1, junit="", passed=3, failed=0, errors=0, skipped=0, duration=1)
UNSAFE = TeardownReport(
    parts=(
        TeardownPart(name="log", ok=True, detail="5 bytes", duration=0),
        TeardownPart(name="device manager", ok=False, detail="it still runs", duration=0),
    )
)


def run(*steps: StepResult, **values: Any) -> RunState:
    return RunState(run_id="r", profile="sim", started_at="", steps=steps, **values)


@pytest.mark.parametrize(
    ("state", "verdict", "code", "reason"),
    [
        (run(FINE, tests=GREEN), "passed", 0, "3 tests passed, 1 skipped"),
        (run(FINE), "config-error", 15, "no tests were run"),
        (run(FINE, tests=GREEN, teardown=UNSAFE), "bench-error", 17, "device manager: it still runs"),
        (run(FINE, NOT_TORN_DOWN, tests=GREEN), "bench-error", 17, "teardown failed: gone"),
        (run(FINE, tests=RED), "failed", 1, "2 of 5 tests failed"),
        (run(FINE, tests=SWALLOWED), "failed", 1, "1 of 4 tests failed"),
        (run(FINE, tests=UNCOVERED), "failed", 1, "3 tests passed, but the test command ended with 1"),
        (run(FINE, tests=RED, teardown=UNSAFE), "failed", 1, "2 of 5 tests failed"),
        (run(FINE, NOT_TORN_DOWN, tests=RED), "failed", 1, "2 of 5 tests failed"),
        (run(FINE, NO_DSN), "bench-error", 12, "no DSN"),
        (run(FINE, NO_DSN, NOT_TORN_DOWN), "bench-error", 12, "no DSN"),
        (run(FINE, NO_DSN, tests=RED, teardown=UNSAFE), "bench-error", 12, "no DSN"),
        (run(FINE, killed_step("deploy")), "cancelled", 137, "the run was killed during deploy"),
        (run(FINE, NO_DSN, tests=RED, signal=signal.SIGTERM), "cancelled", 143, "cancelled by signal 15"),
        (run(FINE, tests=GREEN, signal=signal.SIGINT), "cancelled", 130, "cancelled by signal 2"),
    ],
)
def test_the_first_that_applies_decides(state: RunState, verdict: str, code: int, reason: str) -> None:
    judgement = judge(state)
    assert (judgement.verdict, judgement.exit_code) == (verdict, code)
    assert reason in judgement.reason


@pytest.mark.parametrize(
    ("error", "code", "verdict"),
    [
        (errors.ConfigError("x"), 2, "config-error"),
        (errors.BinaryError("x"), 10, "config-error"),
        (errors.LaunchError("x"), 11, "bench-error"),
        (errors.BackendError("x"), 11, "backend-error"),
        (errors.RegistrationError("x"), 12, "bench-error"),
        (errors.SessionError("x"), 13, "bench-error"),
        (errors.DeployError("x"), 14, "bench-error"),
        (errors.NoVerdictError("x"), 15, "config-error"),
        (errors.NoTestsError("x"), 16, "config-error"),
        (errors.BoardInUseError("x"), 20, "bench-error"),
        (errors.DeployError("x", verdict=Verdict.FAILED), 14, "failed"),
    ],
)
def test_a_failed_step_gives_the_run_the_code_and_verdict_of_its_error(
    error: errors.RoboticksError, code: int, verdict: str
) -> None:
    step = step_result("step", 0.1234567, error)
    assert (step.outcome, step.exit_code, step.verdict, step.error) == ("failed", code, verdict, "x")
    assert step.duration == 0.123
    judgement = judge(run(step))
    assert (judgement.exit_code, judgement.verdict) == (code, verdict)


def test_the_remedy_is_part_of_the_reason() -> None:
    assert judge(run(step_result("s", 0, errors.ConfigError("it is wrong", remedy="mend it")))).reason == (
        "it is wrong; mend it"
    )


def test_a_bug_of_ours_is_never_the_products_fault() -> None:
    step = step_result("deploy", 0.1, ZeroDivisionError("division by zero"))
    assert (step.exit_code, step.verdict) == (70, "bench-error")
    assert step.error == "a bug in roboticks-tasks: ZeroDivisionError: division by zero; please report it"


def test_a_cancelled_step_is_no_failure_of_the_step() -> None:
    step = step_result("deploy", 0.1, Cancelled(signal.SIGTERM))
    assert (step.outcome, step.exit_code, step.verdict) == ("cancelled", 143, "cancelled")


def test_a_judged_state_survives_being_written_and_read() -> None:
    state = run(FINE, NO_DSN, tests=RED, teardown=UNSAFE)
    assert judge(msgspec.json.decode(msgspec.json.encode(state), type=RunState)) == judge(state)


def test_no_failing_step_and_no_failing_test_can_end_with_0() -> None:
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]
    assert len(kinds) > 10
    for kind in kinds:
        assert judge(run(step_result("step", 0, kind("x")))).exit_code != 0
